"""A usage event as reported, and every way in which one can be wrong. Pure.

`read` is the careful way from a decoded JSON object to a value: it names the field, what was
received, what is allowed and what to do next. The door's fast way (metering.ingest.decode) accepts
only what `read` accepts, and hands everything else to `read` to be told why.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from accounts.keys import holds_secret
from metering.usage import credentials, misnamed, registers
from metering.usage.dialects import DIALECTS
from metering.usage.dialects.table import NotACount, Unreadable

QUANTITY_MAX = 10**12  # per register and event; far above any request, far below 2 ** 63
REGISTERS_MAX = 16
AHEAD_MAX = timedelta(seconds=300)  # clocks differ
AGE_MAX = timedelta(days=35)  # one billing month and four days of grace
NAME_MAX = 128
KEYS_MAX = 10_000  # of one object; an event has a dozen
RECEIVED_SHOWN_MAX = 64

TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339, and no more digits than we can keep
_TIME_TOO_FINE = re.compile(r".*\.\d{7,}(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_TIME_NO_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?", re.ASCII)

_WORD = r"[A-Za-z0-9][A-Za-z0-9._:/@+=#~-]{0,127}"
PATTERNS: dict[str, re.Pattern[str]] = {
    "project": re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII),
    "model": re.compile(_WORD, re.ASCII),
    "api_key": re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII),
    "agent": re.compile(_WORD, re.ASCII),
    "session": re.compile(_WORD, re.ASCII),
    "region": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII),
    "service_class": re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII),
}
_ALLOWED = {
    "project": "1 to 63 letters, digits, hyphens and underscores",
    "model": "1 to 128 letters, digits and . _ : / @ + = # ~ -, a letter or digit first",
    "api_key": "1 to 64 letters, digits and . _ : -, a letter or digit first",
    "agent": "1 to 128 letters, digits and . _ : / @ + = # ~ -, a letter or digit first",
    "session": "1 to 128 letters, digits and . _ : / @ + = # ~ -, a letter or digit first",
    "region": "1 to 64 letters, digits and . _ -, a letter or digit first",
    "service_class": "1 to 40 small letters, digits, _ and -, a letter first",
}
FIELDS = ("id", "source", "occurred_at", "usage", "usage_format", *PATTERNS)
CORRECTING = ("voids", "amends", "reason")  # fields of a correction: metering.usage.correction

# Ours to say, never the sender's.
FORBIDDEN = frozenset({
    "organization", "organization_id", "tenant", "tenant_id", "customer", "customer_id", "price",
    "cost", "amount", "currency", "received_at", "batch_id", "ordinal", "fingerprint",
    "project_id", "requests", "rating_key",
})  # fmt: skip
# What was said between a person and a model is never wanted here.
CONTENT = frozenset({
    "prompt", "messages", "message", "content", "completion", "response", "input_text",
    "output_text", "text", "choices", "system", "instructions", "request_body", "response_body",
})  # fmt: skip


class UsageEvent(NamedTuple):
    """One reported fact of use. A tuple, because a million of them are made each few seconds."""

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


class OddNumber(str):
    """A JSON number that is not a plain integer, as it was written: 1.5, 1e3, -0, 400 digits."""

    __slots__ = ()


class Rejected(Exception):
    """Why one event was not taken: a code for machines, a place, a sentence for people."""

    def __init__(self, code: str, pointer: str, detail: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code} at {pointer or '/'}: {detail}")
        self.code = code
        self.pointer = pointer
        self.detail = detail
        self.retryable = retryable
        self.event_id: str | None = None  # the id it was sent with, where that may be shown


def read(body: object, *, now: datetime, earliest: datetime | None = None) -> UsageEvent:
    """Turn a decoded JSON value into an event, or raise the first reason not to.

    It may be AGE_MAX old, unless `earliest` says how far back its time may lie.
    """
    if not isinstance(body, dict):
        raise Rejected(
            "not_an_object",
            "",
            f"An event is a JSON object, but {_kind(body)} was sent here. Send one object each.",
        )
    event_id = identifier(body, "id")
    source = identifier(body, "source")
    _known_fields(body)
    return UsageEvent(
        id=event_id,
        source=source,
        occurred_at=_instant(body, now, earliest or now - AGE_MAX),
        model=_model(body),
        usage=_usage(body),
        **{name: _word(body, name) for name in PATTERNS if name != "model"},
    )


def _known_fields(body: Mapping[str, object]) -> None:
    if len(body) > KEYS_MAX:
        raise Rejected(
            "too_long",
            "",
            f"The event has {len(body)} fields; at most {KEYS_MAX} are looked at. Send those that "
            "an event has.",
        )
    for name in body:
        if name not in FIELDS:
            raise not_a_field(name)


def not_a_field(name: str) -> Rejected:
    """Why a field that no event has is refused."""
    if len(name) > NAME_MAX:
        return Rejected(
            "too_long",
            "",
            f"A field has a name of {len(name)} characters, beginning with {_shown(name)}; at most "
            f"{NAME_MAX} are looked at. Leave it out.",
        )
    shown, pointer = _shown(name), f"/{_escaped(name)}"
    if name in CONTENT:
        return Rejected(
            "content_not_allowed",
            pointer,
            f"{shown} looks like what a person or a model said, which is never stored here. "
            "Leave the field out.",
        )
    if name in FORBIDDEN:
        return Rejected(
            "field_not_allowed",
            pointer,
            f"{shown} is not the sender's to say: it follows from the API key, the tariff or the "
            "server. Leave the field out.",
        )
    close = difflib.get_close_matches(name[:40], (*FIELDS, *CORRECTING), n=1)
    meant = f"Did you mean {close[0]!r}?" if close else "Leave the field out."
    if name in CORRECTING:
        meant = f"{name} belongs into a correction, beside voids or amends."
    return Rejected(
        "unknown_field",
        pointer,
        f"{shown} is not a field of an event; the fields are {', '.join(FIELDS)}; of a correction "
        f"besides {', '.join(CORRECTING)}. {meant}",
    )


def identifier(body: Mapping[str, object], name: str) -> str:
    """An id or a source: kept exactly as it is, hence nothing that looks like something else."""
    value = body.get(name)
    is_source = name == "source"
    code = "source_invalid" if is_source else "id_invalid"
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Rejected(
            code if is_source else "id_required",
            f"/{name}",
            f"{name} is missing or blank: 1 to {NAME_MAX} characters are needed. Make one before "
            "sending and keep it for retries.",
        )
    if not isinstance(value, str) or isinstance(value, OddNumber):
        raise Rejected(
            code if is_source else "id_not_string",
            f"/{name}",
            f"{name} must be a JSON string, but {_kind(value)} was sent. Put it in quotes.",
        )
    no_secret(value, name)
    fault = identifier_fault(value)
    if fault:
        raise Rejected(
            code,
            f"/{name}",
            f"{name} {_shown(value)} {fault}. Nothing is trimmed or changed here: send 1 to "
            f"{NAME_MAX} visible characters in Unicode form NFC, without a space at either end.",
        )
    return value


def identifier_fault(value: str) -> str | None:
    """What is wrong with an id or a source, if anything."""
    return f"has {len(value)} characters" if len(value) > NAME_MAX else text_fault(value)


def text_fault(value: str) -> str | None:
    """What is wrong with the characters of a text, if anything."""
    if value.isascii() and value.isprintable():  # the usual case needs no closer look
        return "begins or ends with a space" if value != value.strip() else None
    for position, character in enumerate(value):
        # Control, format (bidi, zero width), surrogate, private, unassigned; odd spaces.
        if unicodedata.category(character)[0] in "CZ" and character != " ":
            return f"holds U+{ord(character):04X} at position {position}"
    if value != value.strip():
        return "begins or ends with a space"
    if not unicodedata.is_normalized("NFC", value):
        return "is not in Unicode form NFC"
    return None


def _model(body: Mapping[str, object]) -> str:
    model = _word(body, "model")
    if model is None:
        raise Rejected(
            "model_required", "/model", "model is missing: name the model that was used."
        )
    return model


def _word(body: Mapping[str, object], name: str) -> str | None:
    """A name from a closed alphabet; null says the same as leaving it out."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or isinstance(value, OddNumber):
        raise Rejected(
            "wrong_type",
            f"/{name}",
            f"{name} must be a JSON string, but {_kind(value)} was sent. "
            "Put it in quotes or leave it out.",
        )
    no_secret(value, name)
    if PATTERNS[name].fullmatch(value):
        return value
    allowed = _ALLOWED[name]
    if len(value) > NAME_MAX:
        raise Rejected(
            "too_long",
            f"/{name}",
            f"{name} has {len(value)} characters; allowed are {allowed}. Shorten it.",
        )
    raise Rejected(
        "invalid_character",
        f"/{name}",
        f"{name} {_shown(value)} is not allowed; allowed are {allowed}. Rename it.",
    )


_NO_KEYS = "A whole API key must never be stored: send none, and revoke that one."


def no_secret(value: str, name: str) -> None:
    """Refuse a text that holds a whole API key."""
    if credentials.reads_like_one(value):
        raise Rejected(
            "content_not_allowed",
            f"/{name}",
            f"{name} holds a whole API key, which must never be stored. Send at most the part "
            "between the underscores, and revoke that key.",
        )


def _instant(body: Mapping[str, object], now: datetime, earliest: datetime) -> datetime:
    value = body.get("occurred_at")
    if value is None or value == "":
        raise Rejected(
            "time_required",
            "/occurred_at",
            "occurred_at is missing. We do not put in our own time, because a retry would then "
            "move usage to another hour: send when it happened, such as 2026-11-18T10:07:30Z.",
        )
    if not isinstance(value, str) or not TIME.fullmatch(value):
        raise _not_a_time(value)
    instant = instant_of(value)
    if instant is None:
        raise Rejected(
            "time_invalid",
            "/occurred_at",
            f"occurred_at {_shown(value)} names a moment that does not exist (months have their "
            "own length; hours end at 23, seconds at 59) or a year out of reach. Send a real one.",
        )
    _in_window(instant, value, now, earliest)
    return instant


def instant_of(text: str) -> datetime | None:
    """The instant that a text of the right form names, in UTC; None where there is no such one."""
    try:
        instant = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant if 1970 <= instant.year <= 2200 else None


def _not_a_time(value: object) -> Rejected:
    example = "Send RFC 3339 with an offset, such as 2026-11-18T10:07:30.250Z."
    if not isinstance(value, str) or isinstance(value, OddNumber):
        said = f"must be a string, but {_kind(value)} was sent"
    elif _TIME_TOO_FINE.fullmatch(value):
        said = f"{_shown(value)} has more than six digits after the second; we keep microseconds"
    elif _TIME_NO_OFFSET.fullmatch(value):
        said = f"{_shown(value)} has no offset from UTC, so it names no moment"
    else:
        said = f"{_shown(value)} is not an RFC 3339 date and time"
    return Rejected("time_format", "/occurred_at", f"occurred_at {said}. {example}")


def _in_window(instant: datetime, value: str, now: datetime, earliest: datetime) -> None:
    if instant > now + AHEAD_MAX:
        ahead_s = (instant - now) // timedelta(seconds=1)
        raise Rejected(
            "timestamp_in_future",
            "/occurred_at",
            f"occurred_at {_shown(value)} is {ahead_s} s ahead of the server's clock "
            f"({now:%Y-%m-%dT%H:%M:%SZ}); at most {AHEAD_MAX.seconds} s are allowed. Check the "
            "sender's clock, then send it again with the same id.",
            retryable=True,
        )
    if instant < earliest:
        raise Rejected(
            "timestamp_too_old",
            "/occurred_at",
            f"occurred_at {_shown(value)} is older than {AGE_MAX.days} days "
            f"(the server's clock says {now:%Y-%m-%dT%H:%M:%SZ}). Open a backfill and send it "
            "there.",
        )


def _usage(body: Mapping[str, object]) -> dict[str, int]:
    """Registers as they were sent, or those that a provider's own usage comes to."""
    usage = body.get("usage")
    name = body.get("usage_format")
    if name is not None and not (isinstance(name, str) and name in DIALECTS):
        raise Rejected(
            "usage_format_invalid",
            "/usage_format",
            f"usage_format {_shown(name)} is none that is known here; they are "
            f"{', '.join(DIALECTS)}. Leave it out where usage holds registers.",
        )
    if usage is None or usage == {}:
        raise Rejected(
            "quantity_required",
            "/usage",
            'usage is missing or empty: send at least one register, such as {"input": 1200}.',
        )
    if not isinstance(usage, dict):
        raise Rejected(
            "wrong_type",
            "/usage",
            f"usage must be an object of register and quantity, but {_kind(usage)} was sent. "
            'Send one such as {"input": 1200, "output": 80}.',
        )
    if isinstance(name, str):
        return _reported(name, usage)
    if len(usage) > REGISTERS_MAX:
        raise Rejected(
            "too_many_registers",
            "/usage",
            f"usage has {len(usage)} registers; at most {REGISTERS_MAX} are allowed. "
            "Report one request at a time.",
        )
    for name, value in usage.items():
        register_name(name)
        quantity(name, value)
    return usage


def _reported(name: str, usage: Mapping[str, object]) -> dict[str, int]:
    """The registers of what a provider reported."""
    try:
        found = DIALECTS[name].read(usage)
    except Unreadable as fault:
        detail = f"usage names an API key. {_NO_KEYS}" if holds_secret(fault.path) else fault.detail
        raise Rejected(fault.code, _pointer_of(fault.path), detail) from None
    except NotACount as odd:
        quantity(odd.path, odd.value)
        raise AssertionError("a dialect takes every quantity") from None
    for register, value in found.items():
        quantity(register, value)
    return found


def _pointer_of(path: str) -> str:
    """A dotted path into a provider's usage as a JSON pointer."""
    return "/".join(["/usage", *map(_escaped, filter(None, path.split(".")))])


def register_name(name: str) -> None:
    """Refuse what cannot be the name of a register."""
    pointer = f"/usage/{_escaped(name)}"
    if name == registers.REQUESTS:
        raise Rejected(
            "field_not_allowed",
            pointer,
            "requests is counted here, one per event, and cannot be sent. Leave it out.",
        )
    if holds_secret(name):
        raise Rejected("content_not_allowed", "/usage", "A register is named like an API key.")
    if not registers.NAME.fullmatch(name):
        raise Rejected(
            "register_invalid",
            pointer,
            f"{_shown(name)} cannot be the name of a register: 1 to 40 small letters, digits and "
            "underscores, a letter first. Rename it, such as input or cache_read.",
        )
    if meant := misnamed.advice(name):
        raise Rejected(
            "unknown_register",
            pointer,
            f"{_shown(name)} is not a register that is known here. {meant} A register of your own "
            "needs a name that cannot be mistaken.",
        )


def quantity(name: str, value: object) -> None:
    """Refuse what is not a whole number between 0 and the maximum, written as one."""
    if type(value) is int and 0 <= value <= QUANTITY_MAX:
        return
    pointer = _pointer_of(name)
    for code, applies, said in _QUANTITY_FAULTS:
        if applies(value):
            raise Rejected(
                code,
                pointer,
                f"{name} {_shown(value)} {said}. Send a JSON integer from 0 to {QUANTITY_MAX}.",
            )
    raise Rejected(
        "wrong_type",
        pointer,
        f"{name} is {_kind(value)}. Send a JSON integer from 0 to {QUANTITY_MAX}.",
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, OddNumber) and value.lstrip("-").isdigit() and value != "-0"


def _is_endless(value: object) -> bool:
    """NaN and the infinities as strings, and numbers beyond every float."""
    if isinstance(value, OddNumber):
        return not _is_whole(value) and _exponent(value) > 308
    return isinstance(value, str) and value.strip(" +-").lower() in ("nan", "inf", "infinity")


def _exponent(number: str) -> int:
    mantissa, _, exponent = number.lower().partition("e")
    if len(exponent) > 6:  # longer than any exponent worth reading
        return -1 if exponent.startswith("-") else 10**6
    return Decimal(mantissa).adjusted() + int(exponent or 0)


_QUANTITY_FAULTS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("not_finite", _is_endless, "is not a finite number"),
    (
        "negative_quantity",
        lambda value: (type(value) is int and value < 0) or (_is_whole(value) and value[0] == "-"),
        "is negative; take back what was reported wrongly with voids or amends",
    ),
    (
        "quantity_too_large",
        lambda value: type(value) is int or _is_whole(value),
        "is larger than one request can be",
    ),
    ("not_an_integer", lambda value: isinstance(value, str), "is not written as a whole number"),
)

_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a number"),
    (OddNumber, "a number"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
)


def _kind(value: object) -> str:
    """What kind of JSON value this is, in words."""
    return next((words for kind, words in _KINDS if isinstance(value, kind)), "null")


def _shown(value: object) -> str:
    """What was received, cut short, in visible ASCII, and never a key."""
    text = str(value)
    if credentials.reads_like_one(text):
        return "(an API key)"
    cut = text[:RECEIVED_SHOWN_MAX]
    return ascii(cut) + ("..." if len(text) > len(cut) else "")


def _escaped(name: str) -> str:
    """A name inside a JSON pointer (RFC 6901), cut short."""
    if holds_secret(name):
        return "(key)"
    return ascii(name[:RECEIVED_SHOWN_MAX])[1:-1].replace("~", "~0").replace("/", "~1")
