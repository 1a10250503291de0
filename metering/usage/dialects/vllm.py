"""vLLM: OpenAI's chat shape; cached tokens only with --enable-prompt-tokens-details.

It names media in a breakdown of its own. What it wrote to its prefix cache stays in the input: the
engine keeps every prompt, so writing is no work beyond reading it.
"""

from dataclasses import replace

from metering.usage.dialects.openai import CHAT, MEDIA
from metering.usage.dialects.table import Row

DETAILS = "prompt_tokens_details"

DIALECT = replace(
    CHAT,
    name="vllm",
    title="vLLM, and servers that speak as it does",
    rows=(*CHAT.rows, Row(f"{DETAILS}.created_cache_tokens", None, ("prompt_tokens",))),
    same={f"{DETAILS}.multimodal_tokens.{one}": f"{DETAILS}.{one}_tokens" for one in MEDIA},
)
