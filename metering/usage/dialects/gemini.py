"""Gemini: cached content is inside the prompt; thoughts and tool prompts stand beside the rest."""

import re
from collections.abc import Iterable, Mapping

from metering.usage.dialects.table import Counts, Dialect, Row, Sum, flat

MEDIA = ("AUDIO", "IMAGE", "VIDEO", "DOCUMENT")
PLAIN = ("TEXT", "MODALITY_UNSPECIFIED")
PROMPT, CACHED, TOOLS = "promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"
MADE = {"candidates": "candidatesTokenCount", "response": "responseTokenCount"}
_UNDERSCORE = re.compile("_([a-z])")


def _camel(name: str) -> str:
    """The REST name of what the SDK calls by a Python name."""
    return _UNDERSCORE.sub(lambda found: found[1].upper(), name)


def _spread(usage: Mapping[str, object]) -> Iterable[Counts]:
    """One flat mapping; a breakdown by modality becomes one count for each."""
    plain: dict[str, object] = {}
    for name, value in usage.items():
        if isinstance(value, list):
            plain |= _by_modality(_camel(name), value)
        else:
            plain[_camel(name)] = value
    return [flat(plain)]


def _by_modality(name: str, entries: list[object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for number, entry in enumerate(entries):
        part = {_camel(key): one for key, one in entry.items()} if isinstance(entry, dict) else {}
        modality = str(part.get("modality", number))[:24].upper()
        count, path = part.get("tokenCount", 0), f"{name}.{modality}"
        known = found.get(path)
        if type(known) is int and type(count) is int:
            count += known
        found[path] = count
    return found


def _by_medium(name: str, prefix: str, *wholes: str) -> list[Row]:
    return [
        *(Row(f"{name}.{one}", None, wholes[:1]) for one in PLAIN),
        *(Row(f"{name}.{one}", f"{prefix}_{one.lower()}", wholes) for one in MEDIA),
    ]


def _cached() -> list[Row]:
    """Cached audio is in both breakdowns: in that of the cache and in that of the prompt."""
    name = "cacheTokensDetails"
    return [
        *(Row(f"{name}.{one}", None, (CACHED,)) for one in PLAIN),
        *(
            Row(
                f"{name}.{one}", f"cache_read_{one.lower()}", (CACHED, f"promptTokensDetails.{one}")
            )
            for one in MEDIA
        ),
    ]


DIALECT = Dialect(
    name="gemini",
    title="Gemini generateContent and Live",
    rows=(
        Row(PROMPT, "input"),
        Row(CACHED, "cache_read", (PROMPT,)),
        *_by_medium("promptTokensDetails", "input", PROMPT),
        *_cached(),
        *(row for name, whole in MADE.items() for row in (
            Row(whole, "output"), *_by_medium(f"{name}TokensDetails", "output", whole)
        )),
        Row("thoughtsTokenCount", "reasoning"),
        Row(TOOLS, "tool_use"),
        *(Row(f"toolUsePromptTokensDetails.{one}", None, (TOOLS,)) for one in (*PLAIN, *MEDIA)),
        Row("totalTokenCount"),
    ),
    required=(PROMPT,),
    sums=(Sum("totalTokenCount", (PROMPT, *MADE.values(), "thoughtsTokenCount", TOOLS)),),
    spread=_spread,
)  # fmt: skip
