"""The fast way from a body to events: all of them column by column, none of them by itself.

msgspec decodes in C. On its own that would be too kind: it takes the last of two equal keys and
reads -0 as 0. So a body is believed only if counting shows that neither can be there; the proof is
in `_is_said_once`. What is not plain raises `NotPlain` or msgspec's own error, and the careful way
(metering.ingest.decode) says what is wrong with it, if anything is. Whatever is taken here, the
careful way takes with the same result; a test holds them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, overload

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from accounts.keys import holds_secret
from metering.usage import credentials, misnamed, registers
from metering.usage import event as usage_event
from metering.usage.event import UsageEvent
from metering.usage.identity import all_packed_hex, packed_uuids

KEYS_MAX = 10_000
COMBINATIONS_MAX = 8_192  # of names that are known to be good; at most 8 MB

Name = Annotated[str, Meta(min_length=1, max_length=usage_event.NAME_MAX)]
Quantity = Annotated[int, Meta(ge=0, le=usage_event.QUANTITY_MAX)]
Optional = Name | None | UnsetType


class Wire(Struct, forbid_unknown_fields=True, gc=False):
    """An event as msgspec reads it, not yet believed."""

    id: Name
    source: Name
    occurred_at: str
    model: Name
    usage: dict[str, Quantity]
    project: Optional = UNSET
    api_key: Optional = UNSET
    agent: Optional = UNSET
    session: Optional = UNSET
    region: Optional = UNSET
    service_class: Optional = UNSET


class NotPlain(Exception):
    """Something here needs the careful way."""


class Labels(NamedTuple):
    """Everything of an event that has few different values."""

    source: str
    model: str
    project: str | None
    api_key: str | None
    agent: str | None
    region: str | None
    service_class: str | None


class _Checked(NamedTuple):
    """Labels that are known to be good, and what an object holds on their account."""

    labels: Labels
    colons: int  # one for each key of the object but those of usage and session, and in its names
    hyphens: int


_array = msgspec.json.Decoder(list[Wire]).decode
_single = msgspec.json.Decoder(Wire).decode

_make_event = UsageEvent._make  # a third faster than by name
_TIMES = re.compile(rf"(?:{usage_event.TIME.pattern}\n)*", re.ASCII)
_SESSIONS = re.compile(rf"(?:{usage_event.PATTERNS['session'].pattern}\n)*", re.ASCII)
_BEGINNINGS = frozenset(start[:2] for start in credentials.STARTS)
_KEYS_ALWAYS = 3  # id, occurred_at, usage

_checked: dict[tuple[object, ...], _Checked] = {}
_registers: set[str] = set(registers.CORE)


def wires(body: bytes) -> list[Wire]:
    """The events of a JSON body, not yet believed; msgspec's error where they are none."""
    return [_single(body)] if is_single(body) else _array(body)


def lines(body: bytes) -> list[Wire]:
    """The same of NDJSON."""
    return [_single(line) for line in body.split(b"\n") if line.strip(b" \t\r")]


def is_single(body: bytes) -> bool:
    """Whether a body is one object, if it is JSON at all, and not an array."""
    return body.lstrip()[:1] == b"{"


class Plain(Sequence[UsageEvent]):
    """Good events as columns; as events only for whoever looks at one of them."""

    __slots__ = (
        "_events", "first", "ids", "labels", "last", "packed", "sessions", "times", "usages",
    )  # fmt: skip

    def __init__(
        self, wires: Sequence[Wire], body: bytes, earliest: datetime, latest: datetime
    ) -> None:
        """Of the events in a body, if they happened from the one moment to the other."""
        text = _visible(body)
        found = _known([
            (wire.source, wire.model, wire.project, wire.api_key, wire.agent, wire.region,
             wire.service_class)
            for wire in wires
        ])  # fmt: skip
        self.labels = [one.labels for one in found]
        self.ids = [wire.id for wire in wires]
        self.times = [wire.occurred_at for wire in wires]
        sent = [wire.session for wire in wires]
        self.sessions = [None if one is UNSET else one for one in sent]
        self.usages = [wire.usage for wire in wires]
        self._events: list[UsageEvent] | None = None
        self.packed = _packed(self.ids)
        keys = len(sent) - sent.count(UNSET) + _registers_in(self.usages)
        strings = "\n".join([*self.ids, *self.times, *_good_sessions(self.sessions)])
        _is_said_once(
            text,
            colons=keys + strings.count(":") + sum([one.colons for one in found]),
            hyphens=strings.count("-") + sum([one.hyphens for one in found]),
        )
        instants = _instants(self.times)
        self.first, self.last = min(instants), max(instants)
        if self.first < earliest or self.last > latest:
            raise NotPlain
        self.times = _in_utc(self.times, instants)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> UsageEvent: ...
    @overload
    def __getitem__(self, index: slice) -> list[UsageEvent]: ...
    def __getitem__(self, index: int | slice) -> UsageEvent | list[UsageEvent]:
        return self._made()[index]

    def __iter__(self) -> Iterator[UsageEvent]:
        return iter(self._made())

    def has_zeros(self) -> bool:
        """Whether some event reports nothing but zeros."""
        return not all(map(any, map(dict.values, self.usages)))

    def _made(self) -> list[UsageEvent]:
        if self._events is None:
            columns = (self.ids, self.labels, self.times, self.usages, self.sessions)
            self._events = [
                _make_event(
                    (event_id, said.source, datetime.fromisoformat(time), said.model, usage,
                     said.project, said.api_key, said.agent, session, said.region,
                     said.service_class)
                )
                for event_id, said, time, usage, session in zip(*columns, strict=True)
            ]  # fmt: skip
        return self._events


def _visible(body: bytes) -> str:
    """The text, if it is ASCII without escapes and secrets: all but a few bodies are."""
    if not body.isascii() or b"\\" in body or b"\x7f" in body:
        raise NotPlain
    text = body.decode()
    if holds_secret(text):
        raise NotPlain
    return text


def _is_said_once(text: str, *, colons: int, hyphens: int) -> None:
    """Raise unless the text has as many colons and hyphens as what was decoded accounts for.

    No text of these has an escape, so each stands in the body as it was decoded. Every key of an
    object has one colon outside of texts; a key that stands there twice has one more than decoding
    tells of, and nothing makes up for it. With every text accounted for, a hyphen more than in all
    of them is the sign of a number.
    """
    if text.count(":") != colons or text.count("-") != hyphens:
        raise NotPlain


def _packed(ids: Sequence[str]) -> list[str]:
    """The ids as they are kept, if each is good."""
    packed = packed_uuids(ids)
    if packed is not None:
        return packed
    if any(one[0] == " " or one[-1] == " " or one.startswith(credentials.STARTS) for one in ids):
        raise NotPlain
    return all_packed_hex(ids)


def _instants(times: Sequence[str]) -> list[datetime]:
    """When each happened; all are looked at in one go."""
    if not _TIMES.fullmatch("\n".join([*times, ""])):
        raise NotPlain
    try:
        return list(map(datetime.fromisoformat, times))
    except ValueError:
        raise NotPlain from None


def _in_utc(times: list[str], instants: Sequence[datetime]) -> list[str]:
    """The times as PostgreSQL reads them."""
    if not [instant for instant in instants if instant.tzinfo is not UTC]:
        return times
    return [instant.astimezone(UTC).isoformat() for instant in instants]


def _good_sessions(sessions: Iterable[Any]) -> list[str]:
    """Those that were sent. Sessions have many values, and are looked at in one go."""
    said = [session for session in sessions if session is not None]
    if not _SESSIONS.fullmatch("\n".join([*said, ""])):
        raise NotPlain
    if not _BEGINNINGS.isdisjoint({session[:2] for session in said}) and any(
        session.startswith(credentials.STARTS) for session in said
    ):
        raise NotPlain
    return said


def _registers_in(usages: Sequence[dict[str, int]]) -> int:
    """How many quantities there are, if each event has some and all have good names."""
    sizes = list(map(len, usages))
    if min(sizes) == 0 or max(sizes) > usage_event.REGISTERS_MAX:
        raise NotPlain
    for name in set().union(*usages) - _registers:
        if name == registers.REQUESTS or not registers.NAME.fullmatch(name):
            raise NotPlain
        if misnamed.advice(name):
            raise NotPlain
        if len(_registers) < KEYS_MAX:
            _registers.add(name)
    return sum(sizes)


def _known(combinations: Sequence[tuple[object, ...]]) -> list[_Checked]:
    """What has few different values is looked at once per value, not once per event."""
    try:
        return list(map(_checked.__getitem__, combinations))
    except KeyError:
        return [_checked.get(one) or _learnt(one) for one in combinations]


def _learnt(combination: tuple[object, ...]) -> _Checked:
    said = dict(zip(Labels._fields, combination, strict=True))
    texts = {name: value for name, value in said.items() if isinstance(value, str)}
    for name, value in texts.items():
        pattern = usage_event.PATTERNS.get(name)
        good = pattern.fullmatch(value) if pattern else value.strip(" ") == value
        if not good or value.startswith(credentials.STARTS):
            raise NotPlain
    keys = _KEYS_ALWAYS + sum(value is not UNSET for value in combination)
    joined = "".join(texts.values())
    labels = Labels(*[texts.get(name) for name in Labels._fields])  # type: ignore[arg-type]
    found = _Checked(labels, keys + joined.count(":"), joined.count("-"))
    if len(_checked) >= COMBINATIONS_MAX:
        _checked.clear()
    _checked[combination] = found
    return found
