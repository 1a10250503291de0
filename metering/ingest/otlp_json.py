"""Spans as OTLP writes them in JSON: ids in hex, whole numbers in quotes or not, and more to come.

What we do not know is passed over, as OTLP asks; what we know must have its shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.problems import Problem
from metering.ingest.decode import Refusal, parse, text_of
from metering.usage.event import OddNumber

DEPTH_MAX = 64  # messages in attributes are nested; we pass over them
END_NS_MAX = 2**63
WANTED = frozenset({
    "service.name", "session.id", "gen_ai.operation.name", "gen_ai.request.model",
    "gen_ai.response.model", "gen_ai.agent.name", "gen_ai.agent.id", "gen_ai.conversation.id",
    "kilotoken.project", "kilotoken.api_key", "kilotoken.region", "kilotoken.service_class",
})  # fmt: skip
_HEX = re.compile("[0-9a-fA-F]*", re.ASCII)
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """What an event may need of a span."""

    trace_id: str  # in hex
    span_id: str
    end_ns: int
    service: object
    attributes: Mapping[str, object]


def is_wanted(key: str) -> bool:
    """Whether an attribute can matter to usage."""
    return key.startswith("gen_ai.usage.") or key in WANTED


def spans(body: bytes) -> Iterator[Span]:
    """The spans of an export, one by one."""
    request = parse(text_of(body), depth_max=DEPTH_MAX)
    if not isinstance(request, dict):
        raise _wrong_shape("the body", "an object")
    for resource in _listed(request, "resourceSpans"):
        about = resource.get("resource")
        known = _attributes(about) if isinstance(about, dict) else {}
        for scope in _listed(resource, "scopeSpans"):
            for span in _listed(scope, "spans"):
                yield Span(
                    _hex(span, "traceId"),
                    _hex(span, "spanId"),
                    _nanoseconds(span.get("endTimeUnixNano")),
                    known.get("service.name"),
                    _attributes(span),
                )


def _listed(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    items = holder.get(name)
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _wrong_shape(name, "an array of objects")
    return items


def _hex(span: Mapping[str, Any], name: str) -> str:
    value = span.get(name, "")
    if not isinstance(value, str) or isinstance(value, OddNumber) or not _HEX.fullmatch(value):
        raise _wrong_shape(name, "a string of hexadecimal digits")
    return value.lower()


def _nanoseconds(value: object) -> int:
    """A fixed64 in quotes, or a number of up to nineteen digits."""
    if value is None:
        return 0
    text = str(value)
    if isinstance(value, bool) or not text.isdigit() or not text.isascii() or len(text) > 19:
        raise _wrong_shape("endTimeUnixNano", "a whole number of nanoseconds")
    return min(int(text), END_NS_MAX)


def _attributes(holder: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    for pair in _listed(holder, "attributes"):
        key, value = pair.get("key"), pair.get("value")
        if isinstance(key, str) and is_wanted(key):
            found[key] = _value(value) if isinstance(value, dict) else None
    return found


def _value(value: Mapping[str, Any]) -> object:
    """One attribute's value: a word, a number or a truth; a list where it is something else."""
    for name, one in value.items():
        if name == "intValue" and type(one) is str and _WHOLE.fullmatch(one) and one != "-0":
            return int(one)
        if name == "doubleValue" and type(one) is int:
            return OddNumber(f"{one}.0")
        if name in ("stringValue", "intValue", "boolValue", "doubleValue"):
            return one
    return [] if value else None


def _wrong_shape(name: str, wanted: str) -> Refusal:
    return Refusal(Problem("wrong_shape", f"In OTLP/JSON {name} must be {wanted}."))
