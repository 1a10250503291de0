"""Anthropic Messages: cache reads and writes stand beside the input, thinking is in the output."""

from collections.abc import Iterable, Mapping

from metering.usage.dialects.table import Counts, Dialect, Row, Sum, Unreadable, flat

WRITTEN = "cache_creation_input_tokens"
ELSEWHERE = ("advisor_message", "fallback_message")  # iterations that another model made
AGES = ("cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens")


def _spread(usage: Mapping[str, object]) -> Iterable[Counts]:
    """The request, and each compaction of its context, which the totals leave out.

    Every other iteration is in the totals already.
    """
    plain = {name: value for name, value in usage.items() if name != "iterations"}
    parts: list[Counts] = [flat(plain)]
    iterations = usage.get("iterations")
    for number, entry in enumerate(iterations if isinstance(iterations, list) else ()):
        kind = entry.get("type") if isinstance(entry, dict) else None
        if kind == "compaction":
            parts.append(flat(entry))
        elif kind != "message":
            raise Unreadable("unknown_usage_class", f"iterations.{number}", _refusal(kind))
    return parts


def _refusal(kind: object) -> str:
    """Why an iteration cannot be read, and what to send instead."""
    if kind in ELSEWHERE:
        return (
            f"The {kind} iteration holds the tokens of another model, at other prices. It was "
            "counted nowhere. Send an event for each model, with registers of your own."
        )
    return f"{str(kind)[:40]!a} is no kind of iteration that anthropic is known to report."


DIALECT = Dialect(
    name="anthropic",
    title="Anthropic Messages",
    rows=(
        Row("input_tokens", "input"),
        Row("cache_read_input_tokens", "cache_read"),
        Row(WRITTEN, "cache_write"),
        Row(AGES[0], None, (WRITTEN,)),
        Row(AGES[1], "cache_write_1h", (WRITTEN,)),
        Row("output_tokens", "output"),
        Row("output_tokens_details.thinking_tokens", "reasoning", ("output_tokens",)),
        Row("server_tool_use.web_search_requests", "web_search"),
        Row("server_tool_use.web_fetch_requests"),
    ),
    required=("input_tokens",),
    sums=(Sum(WRITTEN, AGES),),
    spread=_spread,
)
