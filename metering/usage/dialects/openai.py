"""OpenAI: what was cached is inside the prompt, reasoning inside the completion."""

from metering.usage.dialects.table import Dialect, Row, Sum

MEDIA = ("audio", "image", "video")


def rows(prompt: str, completion: str, inputs: str, outputs: str) -> tuple[Row, ...]:
    """The rows of both shapes, which differ in what they call the totals and their parts."""
    cached, written = f"{inputs}.cached_tokens", f"{inputs}.cache_write_tokens"
    ages = f"{inputs}.cache_write_tokens_details"
    return (
        Row(prompt, "input"),
        Row(cached, "cache_read", (prompt,)),
        Row(written, "cache_write", (prompt,)),
        Row(f"{ages}.ttl_30m_tokens", None, (written,)),
        Row(f"{ages}.ttl_12h_tokens", "cache_write_12h", (written,)),
        Row(f"{inputs}.text_tokens", None, (prompt,)),
        *(Row(f"{inputs}.{one}_tokens", f"input_{one}", (prompt,)) for one in MEDIA),
        Row(f"{inputs}.cached_tokens_details.text_tokens", None, (cached,)),
        *(
            Row(
                f"{inputs}.cached_tokens_details.{one}_tokens",
                f"cache_read_{one}",
                (cached, f"{inputs}.{one}_tokens"),
            )
            for one in MEDIA
        ),
        Row(completion, "output"),
        Row(f"{outputs}.reasoning_tokens", "reasoning", (completion,)),
        Row(f"{outputs}.text_tokens", None, (completion,)),
        Row(f"{outputs}.accepted_prediction_tokens", None, (completion,)),
        Row(f"{outputs}.rejected_prediction_tokens", None, (completion,)),
        *(Row(f"{outputs}.{one}_tokens", f"output_{one}", (completion,)) for one in MEDIA),
        Row("total_tokens"),
    )


def sums(prompt: str, completion: str, inputs: str) -> tuple[Sum, ...]:
    """What the totals and the ages of cache writes add up to."""
    ages = f"{inputs}.cache_write_tokens_details"
    return (
        Sum("total_tokens", (prompt, completion)),
        Sum(f"{inputs}.cache_write_tokens", (f"{ages}.ttl_30m_tokens", f"{ages}.ttl_12h_tokens")),
    )


CHAT = Dialect(
    name="openai_chat",
    title="OpenAI chat completions, completions and embeddings",
    rows=rows(
        "prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details"
    ),
    required=("prompt_tokens",),
    sums=sums("prompt_tokens", "completion_tokens", "prompt_tokens_details"),
)

_RESPONSES = rows("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
RESPONSES = Dialect(
    name="openai_responses",
    title="OpenAI Responses, images and transcriptions",
    rows=_RESPONSES,
    required=("input_tokens",),
    sums=sums("input_tokens", "output_tokens", "input_tokens_details"),
    # Images and transcriptions spell the breakdown in the singular.
    same={
        row.path.replace("put_tokens_details", "put_token_details", 1): row.path
        for row in _RESPONSES
        if "put_tokens_details." in row.path
    },
)
