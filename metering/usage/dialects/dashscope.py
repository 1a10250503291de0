"""DashScope (Qwen): its own names and those of the compatible mode, one meaning."""

from collections.abc import Iterable, Mapping

from metering.usage.dialects.openai import MEDIA
from metering.usage.dialects.table import Counts, Dialect, Row, Sum, Unreadable, flat

INPUTS, OUTPUTS = "input_tokens_details", "output_tokens_details"
WRITTEN = f"{INPUTS}.cache_creation_input_tokens"
AGES = f"{INPUTS}.cache_creation"

ROWS = (
    Row("input_tokens", "input"),
    Row(f"{INPUTS}.cached_tokens", "cache_read", ("input_tokens",)),
    Row(WRITTEN, "cache_write", ("input_tokens",)),
    Row(f"{AGES}.ephemeral_5m_input_tokens", None, (WRITTEN,)),
    Row(f"{AGES}.ephemeral_1h_input_tokens", "cache_write_1h", (WRITTEN,)),
    Row(f"{INPUTS}.text_tokens", None, ("input_tokens",)),
    *(Row(f"{INPUTS}.{one}_tokens", f"input_{one}", ("input_tokens",)) for one in MEDIA),
    Row("output_tokens", "output"),
    Row(f"{OUTPUTS}.reasoning_tokens", "reasoning", ("output_tokens",)),
    Row(f"{OUTPUTS}.text_tokens", None, ("output_tokens",)),
    *(Row(f"{OUTPUTS}.{one}_tokens", f"output_{one}", ("output_tokens",)) for one in MEDIA),
    Row("plugins.search.count", "web_search"),
    Row("total_tokens"),
)
SAME = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "x_tools.web_search.count": "plugins.search.count",
    **{f"{one}_tokens": f"{INPUTS}.{one}_tokens" for one in MEDIA},
    **{
        row.path.replace(whole, compatible, 1): row.path
        for whole, compatible in (
            (INPUTS, "prompt_tokens_details"),
            (OUTPUTS, "completion_tokens_details"),
        )
        for row in ROWS
        if row.path.startswith(f"{whole}.")
    },
}
# The Responses API says the counts again in x_details, by how they are billed.
AGAIN = "x_details.0."


def _spread(usage: Mapping[str, object]) -> Iterable[Counts]:
    """One flat mapping; what x_details repeats must be the same, and may say more."""
    plain = {name: value for name, value in usage.items() if name != "x_details"}
    told = usage.get("x_details")
    if not told:
        return [flat(plain)]
    if not isinstance(told, list) or len(told) != 1 or not isinstance(told[0], dict):
        detail = (
            "x_details is read where it holds one entry, which says the totals again. How several "
            "share the totals is not known. Send registers of your own."
        )
        raise Unreadable("unknown_usage_class", "x_details", detail)
    return [flat(plain) | flat(told[0], prefix=AGAIN)]


DIALECT = Dialect(
    name="dashscope",
    title="Alibaba Cloud Model Studio (DashScope), Qwen",
    rows=ROWS,
    required=("input_tokens",),
    sums=(
        Sum("total_tokens", ("input_tokens", "output_tokens")),
        Sum(WRITTEN, (f"{AGES}.ephemeral_5m_input_tokens", f"{AGES}.ephemeral_1h_input_tokens")),
    ),
    same={
        **SAME,
        **{f"{AGAIN}{row.path}": row.path for row in ROWS},
        **{f"{AGAIN}{name}": path for name, path in SAME.items()},
    },
    spread=_spread,
)
