"""From a line of a JSON log to an event: which member holds what. Reads what it names, no more.

A mapping file is one JSON object; each value is a dotted path into the line:

    {"occurred_at": "time", "took_s": "request_time", "id": "request_id", "model": "model",
     "usage": "usage", "dialect": "vllm", "fields": {"session": "headers.session"},
     "constants": {"region": "eu-1"}, "only": {"status": [200]}}

`usage` is a provider's usage object, or the same as JSON text; `registers` names one path for each
register instead. With `took_s` the time in the line is the end of the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

from kilotoken import dialects

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = Decimal("0.000001")
_FINER = re.compile(r"(\.\d{6})\d+")


class UnreadableLine(ValueError):
    """A line that should hold usage and cannot be turned into an event."""

    code = "unreadable_line"


@dataclass(frozen=True)
class Facts:
    """What a line says."""

    model: str
    usage: dict[str, int]
    occurred_at: datetime
    id: str | None
    fields: dict[str, str]


@dataclass(frozen=True)
class LineMapping:
    """Where each fact stands in a line."""

    occurred_at: str
    model: str
    usage: str | None = None
    dialect: str | None = None
    registers: MappingType[str, str] = field(default_factory=dict)
    id: str | None = None
    took_s: str | None = None
    fields: MappingType[str, str] = field(default_factory=dict)
    constants: MappingType[str, str] = field(default_factory=dict)
    only: MappingType[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.usage is None) == (not self.registers):
            raise ValueError("a mapping names either `usage` or `registers`")

    def read(self, line: bytes) -> Facts | None:
        """The facts in a line; None where it holds no usage, or is no JSON object."""
        if not line.lstrip().startswith(b"{"):
            return None
        try:
            whole = json.loads(line, parse_float=Decimal)
        except ValueError as error:
            raise UnreadableLine(f"not JSON: {error}") from None
        if not self._wanted(whole):
            return None
        usage = self._usage(whole)
        if usage is None:
            return None
        event_id = _at(whole, self.id) if self.id else None
        found = {name: _at(whole, path) for name, path in self.fields.items()}
        return Facts(
            model=str(_at(whole, self.model) or "unknown"),
            usage=usage,
            occurred_at=self._started_at(whole),
            id=str(event_id) if event_id not in _NOTHING else None,
            fields={
                **self.constants,
                **{name: str(value) for name, value in found.items() if value not in _NOTHING},
            },
        )

    def _wanted(self, whole: dict[str, Any]) -> bool:
        return all(_at(whole, path) in allowed for path, allowed in self.only.items())

    def _usage(self, whole: dict[str, Any]) -> dict[str, int] | None:
        if self.usage is None:
            found = {name: _at(whole, path) for name, path in self.registers.items()}
            counts = {name: _count(value) for name, value in found.items() if value not in _NOTHING}
            return counts or None
        usage = _at(whole, self.usage)
        if usage in _NOTHING:
            return None
        if isinstance(usage, str):
            try:
                usage = json.loads(usage)
            except ValueError:
                raise UnreadableLine(f"{self.usage} holds a text that is not JSON") from None
        if not isinstance(usage, dict):
            raise UnreadableLine(f"{self.usage} is no object")
        return dialects.read(usage, self.dialect).usage

    def _started_at(self, whole: dict[str, Any]) -> datetime:
        at = _instant(_at(whole, self.occurred_at))
        took = _at(whole, self.took_s) if self.took_s else None
        if took in _NOTHING:
            return at
        try:
            return at - _seconds(Decimal(str(took)))
        except (InvalidOperation, OverflowError):
            raise UnreadableLine(f"{self.took_s} is no number of seconds") from None


_NOTHING: tuple[Any, ...] = (None, "", "-", {})

PRESETS = {
    # The response object itself, as a middleware of vLLM's server logs it. `created` is set when
    # the request arrives.
    "vllm": LineMapping(occurred_at="created", id="id", model="model", usage="usage",
                        dialect="vllm"),
    # log_format with escape=json; see the README. $msec is when the request ended.
    "nginx": LineMapping(occurred_at="msec", took_s="request_time", id="request_id", model="model",
                         usage="usage"),
}  # fmt: skip


def from_document(document: Any) -> LineMapping:
    """A mapping from its JSON document, or a ValueError that names what is wrong."""
    if not isinstance(document, dict):
        raise ValueError("a mapping is a JSON object")
    known = {entry.name for entry in fields(LineMapping)}
    if unknown := set(document) - known:
        raise ValueError(f"a mapping has no {', '.join(sorted(unknown))}; it has {sorted(known)}")
    try:
        return LineMapping(**document)
    except TypeError as error:
        raise ValueError(f"the mapping is not complete: {error}") from None


def _at(whole: Any, path: str) -> Any:
    for name in path.split("."):
        whole = whole.get(name) if isinstance(whole, dict) else None
    return whole


def _count(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if type(value) is not int:
        raise UnreadableLine(f"{str(value)[:40]!r} is no count")
    return value


def _instant(value: Any) -> datetime:
    """RFC 3339 with an offset, or seconds since 1970, also as text."""
    text = str(value).strip()
    try:
        return _EPOCH + _seconds(Decimal(text))
    except (InvalidOperation, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(_FINER.sub(r"\1", text.replace("Z", "+00:00")))
    except ValueError:
        raise UnreadableLine(f"{text[:40]!r} is no time") from None
    if at.tzinfo is None:
        raise UnreadableLine(f"{text!r} has no offset from UTC, so it names no moment")
    return at


def _seconds(number: Decimal) -> timedelta:
    return timedelta(microseconds=int((number / _MICROSECOND).to_integral_value()))
