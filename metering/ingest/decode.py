"""From the bytes of a body to events and rejections: strict, and fast where nothing is odd.

The fast way decodes with msgspec in C. On its own that would be too kind: it takes the last of two
equal keys and reads -0 as 0. So a body is believed only if counting shows that no key can be there
twice; the proof is in `_keys_are_once`. Everything else goes the careful way, which parses with the
standard library, refuses what is not strict JSON, and says for each event what is wrong with it.
Whatever the fast way accepts, the careful way accepts with the same result; a test holds them
together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Annotated, Any, NoReturn, Protocol

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from accounts.keys import holds_secret
from accounts.problems import Problem
from metering.usage import correction, credentials, misnamed, registers
from metering.usage import event as usage_event
from metering.usage.correction import Correction, Reported, Span
from metering.usage.event import OddNumber, Rejected, UsageEvent

EVENTS_MAX = 1_000
BODY_BYTES_MAX = 5 * 1024 * 1024
DEPTH_MAX = 16
KEYS_MAX = 10_000
COMBINATIONS_MAX = 8_192  # of names that are known to be good; at most 8 MB
MOMENT = timedelta(microseconds=1)

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


class Refusal(Exception):
    """Nothing of the body can be taken."""

    def __init__(self, problem: Problem, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers  # besides those of its kind


Decoded = list[UsageEvent | Correction | Rejected]


class Read(Protocol):
    """How a JSON value of some form becomes an event or a correction."""

    def __call__(self, value: object, /, *, now: datetime) -> Reported:
        """The event or correction, or Rejected is raised."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The events of a body in their order, each read or rejected."""

    events: Decoded
    single: bool  # one object, not an array of one
    form: str = "native"
    raws: Callable[[], Sequence[str]] = tuple  # the text of each event; asked for only if one fails
    keep_faults: bool = True
    inside: Callable[[str], str] = str  # where a native event's field stands in this form's

    def pointer(self, index: int, inside: str = "") -> str:
        """Where an event, or a field of it, stands in the body, as a JSON pointer."""
        return ("" if self.single else f"/{index}") + (self.inside(inside) if inside else "")


_array = msgspec.json.Decoder(list[Wire])
_single = msgspec.json.Decoder(Wire)
_slices = msgspec.json.Decoder(list[msgspec.Raw])
_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
_NEGATIVE = re.compile(rb":[ \t\r\n]*-")


def decode(body: bytes, *, lines: bool, now: datetime, backfill: Span | None = None) -> Sent:
    """What was sent, event by event; or a Refusal of the whole body."""
    text = text_of(body)
    single = not lines and body.lstrip()[:1] == b"{"
    try:
        events = _fast(body, text, lines=lines, single=single, now=now, backfill=backfill)
    except (_NotPlain, msgspec.MsgspecError, RecursionError):
        read = partial(correction.read, backfill=backfill)
        events = _careful_lines(text, now, read) if lines else _careful(text, now, read)
    return Sent(events, single, raws=partial(raws_of, text, lines=lines, single=single))


def raws_of(text: str, *, lines: bool, single: bool) -> list[str]:
    """The text of each event of a body, as it was written."""
    if lines:
        return [line for line in text.split("\n") if line.strip(" \t\r")]
    if single:
        return [text]
    try:
        return [bytes(raw).decode() for raw in _slices.decode(text)]
    except (msgspec.MsgspecError, UnicodeDecodeError):  # kinder to odd text, and not as exact
        return [json.dumps(value) for value in json.loads(text)]


def text_of(body: bytes) -> str:
    """The body's text, which must be UTF-8 and not empty."""
    if not body.strip():
        raise Refusal(Problem("empty_body", "The body is empty; at least one event is needed."))
    if body.startswith(b"\xef\xbb\xbf"):
        raise Refusal(Problem("not_utf8", "The body begins with a byte order mark at byte 0."))
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        detail = f"The body is not UTF-8: byte {error.start} cannot be decoded."
        raise Refusal(Problem("not_utf8", detail)) from None


# The fast way.


class _NotPlain(Exception):
    """Something here needs the careful way."""


def _window(now: datetime, backfill: Span | None) -> tuple[datetime, datetime]:
    """The first and the last moment at which an event may have happened."""
    latest = now + usage_event.AHEAD_MAX
    if backfill is None:
        return now - usage_event.AGE_MAX, latest
    return backfill.start, min(backfill.end - MOMENT, latest)


def _fast(
    body: bytes,
    text: str,
    *,
    lines: bool,
    single: bool,
    now: datetime,
    backfill: Span | None = None,
) -> Decoded:
    if not _is_plain(body, text):
        raise _NotPlain
    wires = _wires(body, lines=lines, single=single)
    if not 0 < len(wires) <= EVENTS_MAX:
        raise _NotPlain
    ids = [wire.id for wire in wires]
    if any(one[0] == " " or one[-1] == " " or one.startswith(credentials.STARTS) for one in ids):
        raise _NotPlain
    names = _Names(wires)
    events: Decoded = list(map(names.event, wires, _instants(wires, *_window(now, backfill))))
    _keys_are_once(body, names.keys)
    return events


def _instants(wires: Sequence[Wire], earliest: datetime, latest: datetime) -> list[datetime]:
    """When each happened, in UTC; all of them are looked at in one go."""
    if not _TIMES.fullmatch("\n".join([*[wire.occurred_at for wire in wires], ""])):
        raise _NotPlain
    try:
        instants = [datetime.fromisoformat(wire.occurred_at) for wire in wires]
    except ValueError:
        raise _NotPlain from None
    if min(instants) < earliest or max(instants) > latest:
        raise _NotPlain
    return [at if at.tzinfo is UTC else at.astimezone(UTC) for at in instants]


def _is_plain(body: bytes, text: str) -> bool:
    """Visible ASCII without escapes, secrets and minus signs: all but a few bodies are."""
    return (
        text.isascii()
        and b"\\" not in body
        and b"\x7f" not in body
        and not holds_secret(text)
        and not _NEGATIVE.search(body)
        and not _SPACED_COLON.search(body)
    )


def _wires(body: bytes, *, lines: bool, single: bool) -> list[Wire]:
    if lines:
        return [_single.decode(line) for line in body.split(b"\n") if line.strip(b" \t\r")]
    return [_single.decode(body)] if single else _array.decode(body)


def _keys_are_once(body: bytes, distinct: int) -> None:
    """Raise unless the body has exactly as many keys as were decoded, so none of them twice.

    There are no escapes and no space before a colon, so every key ends in `":`. A string value that
    begins with a colon is counted too. The count is therefore at least the number of keys, which is
    at least the number of distinct ones; where the ends are equal, so is what stands between.
    """
    if body.count(b'":') != distinct:
        raise _NotPlain


class _Names:
    """What has few different values is looked at once per value, not once per event."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        """Sessions have many values, and are looked at in one go."""
        sessions = [wire.session for wire in wires]
        self.keys = len(sessions) - sessions.count(UNSET)
        self._registers: set[str] = set(registers.CORE)
        said = [session for session in sessions if isinstance(session, str)]
        if not _SESSIONS.fullmatch("\n".join([*said, ""])):
            raise _NotPlain
        if any(session.startswith(credentials.STARTS) for session in said):
            raise _NotPlain

    def event(self, wire: Wire, at: datetime) -> UsageEvent:
        """The event, once its names are known to be good."""
        (source, model, project, api_key, agent, region, service_class), keys = _checked(
            wire.source, wire.model, wire.project, wire.api_key, wire.agent, wire.region,
            wire.service_class,
        )  # fmt: skip
        session, usage = wire.session, wire.usage
        if session is UNSET:
            session = None
        if not usage.keys() <= self._registers:
            self._learn(usage)
        if not usage or len(usage) > usage_event.REGISTERS_MAX:
            raise _NotPlain
        self.keys += keys + len(usage)
        return _make_event((wire.id, source, at, model, usage, project, api_key, agent, session,
                            region, service_class))  # fmt: skip

    def _learn(self, usage: Iterable[str]) -> None:
        for name in usage:
            if name == registers.REQUESTS or not registers.NAME.fullmatch(name):
                raise _NotPlain
            if misnamed.advice(name):
                raise _NotPlain
            if len(self._registers) < KEYS_MAX:
                self._registers.add(name)


_make_event = UsageEvent._make  # a third faster than by name
_TIMES = re.compile(rf"(?:{usage_event.TIME.pattern}\n)*", re.ASCII)
_SESSIONS = re.compile(rf"(?:{usage_event.PATTERNS['session'].pattern}\n)*", re.ASCII)
_CHECKED = ("source", "model", "project", "api_key", "agent", "region", "service_class")
_KEYS_ALWAYS = 3  # id, occurred_at, usage


@lru_cache(maxsize=COMBINATIONS_MAX)
def _checked(*values: object) -> tuple[Any, int]:
    """The names without UNSET, and how many keys the object spent on them and on what it must."""
    for name, value in zip(_CHECKED, values, strict=True):
        if isinstance(value, str):
            pattern = usage_event.PATTERNS.get(name)
            good = pattern.fullmatch(value) if pattern else value.strip(" ") == value
            if not good or value.startswith(credentials.STARTS):
                raise _NotPlain
    keys = _KEYS_ALWAYS + sum(value is not UNSET for value in values)
    return tuple(value if isinstance(value, str) else None for value in values), keys


# The careful way.


def _careful(text: str, now: datetime, read: Read = correction.read) -> Decoded:
    value = parse(text)
    if isinstance(value, dict):
        return [judged(value, now, "", "", read)]
    if not isinstance(value, list):
        detail = "The body is neither an object nor an array; send an event or an array of events."
        raise Refusal(Problem("wrong_shape", detail))
    if not value:
        raise Refusal(Problem("empty_batch", "The array is empty; at least one event is needed."))
    not_too_many(len(value))
    return [judged(item, now, f"/{index}", "", read) for index, item in enumerate(value)]


def _careful_lines(text: str, now: datetime, read: Read = correction.read) -> Decoded:
    """NDJSON: a line that cannot be read spoils that line alone."""
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r")]
    not_too_many(len(numbered))
    return [_line(line, number, index, now, read) for index, (number, line) in enumerate(numbered)]


def _line(line: str, number: int, index: int, now: datetime, read: Read) -> Reported | Rejected:
    try:
        value = parse(line)
    except Refusal as refusal:
        problem = refusal.problem
        return Rejected(problem.code, f"/{index}", f"Line {number}: {problem.detail}")
    return judged(value, now, f"/{index}", f"Line {number}: ", read)


def id_of(item: Reported | Rejected) -> str | None:
    """The id that something was sent with, where that may be shown."""
    return item.event_id if isinstance(item, Rejected) else item.id


def judged(
    value: object, now: datetime, pointer: str, where: str, read: Read = correction.read
) -> Reported | Rejected:
    """The event or correction that a JSON value is, or why it is none and where that stands."""
    try:
        return read(value, now=now)
    except Rejected as rejected:
        rejected.pointer = pointer + rejected.pointer
        rejected.detail = where + rejected.detail
        rejected.event_id = _id_of(value)
        return rejected


def _id_of(value: object) -> str | None:
    """The id to answer with, if there is one that may be shown."""
    event_id = value.get("id") if isinstance(value, dict) else None
    if type(event_id) is not str or usage_event.identifier_fault(event_id):
        return None
    return None if credentials.reads_like_one(event_id) else event_id


def not_too_many(count: int) -> None:
    """Refuse more events than one request may hold."""
    if count > EVENTS_MAX:
        detail = f"The body holds {count} events; at most {EVENTS_MAX} are allowed in one request."
        raise Refusal(Problem("too_many_events", detail, {"limit": EVENTS_MAX, "received": count}))


def parse(text: str, *, depth_max: int = DEPTH_MAX) -> object:
    """Strict JSON: no key twice, no NaN, no more than so deep; numbers as they were written."""
    try:
        value = _strict.decode(text)
    except json.JSONDecodeError as error:
        detail = f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        raise Refusal(Problem("malformed_json", detail)) from None
    except RecursionError:
        raise _too_deep(depth_max) from None
    _not_too_deep(value, depth_max)
    return value


def _not_too_deep(value: object, depth_max: int) -> None:
    level = [value]
    for _ in range(depth_max):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise _too_deep(depth_max)


def _children(value: object) -> Iterable[object]:
    children: Iterable[object] = ()
    if isinstance(value, list):
        children = value
    elif isinstance(value, dict):
        children = value.values()
    return [child for child in children if isinstance(child, list | dict)]


def _too_deep(depth_max: int) -> Refusal:
    return Refusal(Problem("too_deep", f"The JSON is nested more than {depth_max} deep."))


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        shown = "(an API key)" if holds_secret(twice) else ascii(twice[:64])
        raise Refusal(Problem("duplicate_key", f"An object has the key {shown} twice."))
    return found


def _integer(text: str) -> int | OddNumber:
    return OddNumber(text) if text == "-0" or len(text) > 18 else int(text)


def _no_constant(name: str) -> NoReturn:
    raise Refusal(Problem("malformed_json", f"{name} is not JSON; send numbers, or leave it out."))


_number: Callable[[str], Any] = OddNumber
_strict = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_no_constant,
)
