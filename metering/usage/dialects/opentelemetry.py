"""OpenTelemetry's GenAI conventions: all cached input is inside the input, reasoning in the output.

The names are those after `gen_ai.usage.`; prompt_tokens and completion_tokens are the older ones.
"""

from metering.usage.dialects.table import Dialect, Row

DIALECT = Dialect(
    name="opentelemetry",
    title="OpenTelemetry GenAI spans (`gen_ai.usage.*`)",
    rows=(
        Row("input_tokens", "input"),
        Row("cache_read.input_tokens", "cache_read", ("input_tokens",)),
        Row("cache_creation.input_tokens", "cache_write", ("input_tokens",)),
        Row("output_tokens", "output"),
        Row("reasoning.output_tokens", "reasoning", ("output_tokens",)),
    ),
    required=("input_tokens", "output_tokens"),
    same={"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"},
)
