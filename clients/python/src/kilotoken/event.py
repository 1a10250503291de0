"""One reported fact of use, as the server wants it, made once and never changed afterwards."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone

NAME_MAX = 128
QUANTITY_MAX = 10**12
REGISTERS_MAX = 16
REASON_MAX = 200
ESTIMATED = "estimated."
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OPTIONAL = (
    "project",
    "api_key",
    "agent",
    "session",
    "region",
    "service_class",
    "amends",
    "reason",
)


class InvalidEvent(ValueError):
    """The event can never be accepted: it is set aside instead of being spooled."""

    code = "invalid_event"


@dataclass(frozen=True)
class Event:
    """What one request to a model used. `occurred_at` is when the request started.

    The server knows an event by (organization, source, id) for good. So the id is made once,
    before anything is sent, and every retry carries it again.
    """

    id: str
    source: str
    occurred_at: datetime
    model: str
    usage: Mapping[str, int]
    project: str | None = None
    api_key: str | None = None
    agent: str | None = None
    session: str | None = None
    region: str | None = None
    service_class: str | None = None
    amends: str | None = None  # the id of the event, of the same source, whose place it takes
    reason: str | None = None  # why; only where it amends

    def __post_init__(self) -> None:
        for name in (entry.name for entry in fields(self)):
            if name not in ("occurred_at", "usage", "reason"):
                _check_text(name, getattr(self, name))
        _check_reason(self.reason, belongs=self.amends is not None)
        if self.occurred_at.tzinfo is None:
            raise InvalidEvent("occurred_at has no time zone, so it names no moment")
        if not 0 < len(self.usage) <= REGISTERS_MAX:
            raise InvalidEvent(f"usage has {len(self.usage)} registers; 1 to {REGISTERS_MAX}")
        for register, quantity in self.usage.items():
            _check_quantity(register, quantity)

    def wire(self) -> bytes:
        """The event as JSON, byte for byte the same on every attempt."""
        at = self.occurred_at.astimezone(timezone.utc)
        body: dict[str, object] = {
            "id": self.id,
            "source": self.source,
            "occurred_at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "model": self.model,
        }
        body.update({n: v for n in _OPTIONAL if (v := getattr(self, n)) is not None})
        body["usage"] = dict(self.usage)
        return _json(body)


@dataclass(frozen=True)
class Void:
    """Takes an event back: the one of this source whose id is `voids` counts no more."""

    id: str
    source: str
    voids: str
    reason: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "source", "voids"):
            _check_text(name, getattr(self, name))
        _check_reason(self.reason, belongs=True)

    def wire(self) -> bytes:
        """The void as JSON, byte for byte the same on every attempt."""
        body = {"id": self.id, "source": self.source, "voids": self.voids}
        return _json(body if self.reason is None else {**body, "reason": self.reason})


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _check_reason(reason: object, *, belongs: bool) -> None:
    if reason is None:
        return
    if not belongs:
        raise InvalidEvent("a reason belongs to an event that amends another")
    if not isinstance(reason, str) or not 0 < len(reason) <= REASON_MAX:
        raise InvalidEvent(f"reason must be a text of 1 to {REASON_MAX} characters")


def _check_text(name: str, value: object) -> None:
    if value is None and name in _OPTIONAL:
        return
    if not isinstance(value, str) or not 0 < len(value) <= NAME_MAX:
        raise InvalidEvent(f"{name} must be a text of 1 to {NAME_MAX} characters")


def _check_quantity(register: str, quantity: object) -> None:
    if type(quantity) is not int or not 0 <= quantity <= QUANTITY_MAX:
        shown = str(quantity)[:40]
        raise InvalidEvent(f"{register} is {shown}; a whole number from 0 to {QUANTITY_MAX}")


def new_id(now_s: float) -> str:
    """A new id that sorts by time: UUID version 7 (RFC 9562)."""
    number = (int(now_s * 1000) & (1 << 48) - 1) << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def instant(now_s: float) -> datetime:
    """Seconds since 1970 as a moment in UTC."""
    return _EPOCH + timedelta(seconds=now_s)
