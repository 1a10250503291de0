"""DashScope (Qwen): its own names and those of the compatible mode, one meaning."""

from metering.usage.dialects.openai import MEDIA
from metering.usage.dialects.table import Dialect, Row, Sum

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
        "prompt_tokens": "input_tokens",
        "completion_tokens": "output_tokens",
        **{f"{one}_tokens": f"{INPUTS}.{one}_tokens" for one in MEDIA},
        **{
            row.path.replace(INPUTS, "prompt_tokens_details", 1): row.path
            for row in ROWS
            if row.path.startswith(f"{INPUTS}.")
        },
        **{
            row.path.replace(OUTPUTS, "completion_tokens_details", 1): row.path
            for row in ROWS
            if row.path.startswith(f"{OUTPUTS}.")
        },
    },
)
