"""OpenTelemetry's GenAI conventions: all cached input is inside the input, reasoning in the output.

The names are those after `gen_ai.usage.`; prompt_tokens and completion_tokens are the older ones,
and cache_creation is what the conventions called cache_write before.
"""

from metering.usage.dialects.table import Dialect, Row

INPUT, OUTPUT, CACHED = "input_tokens", "output_tokens", "cache_read.input_tokens"
MEDIA = ("audio", "image")  # video is told apart in the input alone


def _cached() -> list[Row]:
    """Cached audio is in both: in what was read from the cache and in the audio of the input."""
    return [
        Row(f"{one}.{CACHED}", f"cache_read_{one}", (CACHED, f"{one}.{INPUT}")) for one in MEDIA
    ]


DIALECT = Dialect(
    name="opentelemetry",
    title="OpenTelemetry GenAI spans (`gen_ai.usage.*`)",
    rows=(
        Row(INPUT, "input"),
        Row(CACHED, "cache_read", (INPUT,)),
        Row("cache_write.input_tokens", "cache_write", (INPUT,)),
        Row(f"text.{INPUT}", None, (INPUT,)),
        *(Row(f"{one}.{INPUT}", f"input_{one}", (INPUT,)) for one in (*MEDIA, "video")),
        Row(f"text.{CACHED}", None, (CACHED,)),
        *_cached(),
        Row(OUTPUT, "output"),
        Row("reasoning.output_tokens", "reasoning", (OUTPUT,)),
        Row(f"text.{OUTPUT}", None, (OUTPUT,)),
        *(Row(f"{one}.{OUTPUT}", f"output_{one}", (OUTPUT,)) for one in MEDIA),
    ),
    required=(INPUT, OUTPUT),
    same={
        "prompt_tokens": INPUT,
        "completion_tokens": OUTPUT,
        "cache_creation.input_tokens": "cache_write.input_tokens",
    },
)
