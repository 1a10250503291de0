"""From the bytes of a body to events and rejections: strict, and fast where nothing is odd.

The fast way, for bodies in which nothing is odd, is metering.ingest.plain. Everything else goes the
careful way, which parses with the standard library, refuses what is not strict JSON, and says for
each event what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn, Protocol

import msgspec

from accounts.keys import holds_secret
from accounts.problems import Problem
from metering.ingest import plain
from metering.ingest.plain import NotPlain, Plain, Wire
from metering.usage import correction, credentials
from metering.usage import event as usage_event
from metering.usage.correction import Correction, Reported, Span
from metering.usage.event import OddNumber, Rejected, UsageEvent

EVENTS_MAX = 1_000
BODY_BYTES_MAX = 5 * 1024 * 1024
DEPTH_MAX = 16
MOMENT = timedelta(microseconds=1)


class Refusal(Exception):
    """Nothing of the body can be taken."""

    def __init__(self, problem: Problem, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers  # besides those of its kind


Decoded = Sequence[UsageEvent | Correction | Rejected]


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


_slices = msgspec.json.Decoder(list[msgspec.Raw])


def decode(body: bytes, *, lines: bool, now: datetime, backfill: Span | None = None) -> Sent:
    """What was sent, event by event; or a Refusal of the whole body."""
    text = text_of(body)
    single = not lines and plain.is_single(body)
    try:
        events: Decoded = _fast(body, lines=lines, now=now, backfill=backfill)
    except (NotPlain, msgspec.MsgspecError, RecursionError):
        read = partial(correction.read, backfill=backfill)
        events = _careful_lines(text, now, read) if lines else _careful(text, now, read)
    return Sent(events, single, raws=partial(raws_of, text, lines=lines, single=single))


def sent_of(events: Decoded, body: bytes) -> Sent:
    """What was sent in a plain body, once its events are read."""
    single = plain.is_single(body)
    return Sent(events, single, raws=partial(raws_of, body.decode(), lines=False, single=single))


def plain_of(wires: Sequence[Wire], body: bytes, now: datetime) -> Plain:
    """The events of one body or several, if nothing in them is odd; else NotPlain."""
    return Plain(wires, body, *_window(now, None))


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


def _window(now: datetime, backfill: Span | None) -> tuple[datetime, datetime]:
    """The first and the last moment at which an event may have happened."""
    latest = now + usage_event.AHEAD_MAX
    if backfill is None:
        return now - usage_event.AGE_MAX, latest
    return backfill.start, min(backfill.end - MOMENT, latest)


def _fast(body: bytes, *, lines: bool, now: datetime, backfill: Span | None = None) -> Plain:
    wires = plain.lines(body) if lines else plain.wires(body)
    if not 0 < len(wires) <= EVENTS_MAX:
        raise NotPlain
    return Plain(wires, body, *_window(now, backfill))


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
