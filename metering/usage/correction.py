"""Corrections as reported: an event taken back, or taken back and put right. Pure.

`read` takes what a sender may send: an event, a void or an amendment. A void names an event of the
same source that shall count no more; an amendment is a whole event that also names the one whose
place it takes. Nothing that was accepted before is changed by either.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from metering.usage import event as usage_event
from metering.usage.event import OddNumber, Rejected, UsageEvent

CORRECTION_AGE_MAX = timedelta(days=366)  # as long as billing corrects tariffs: a year and a day
REASON_MAX = 200
VOID_FIELDS = ("id", "source", "voids", "reason")

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Correction(NamedTuple):
    """Takes the event `target` back; as an amendment it puts `event` in its place."""

    id: str
    source: str
    target: str  # the id of an event of the same source
    reason: str | None
    event: UsageEvent | None  # None: a void, nothing comes in its place


class Span(NamedTuple):
    """The stretch of time, half-open, in which the events of a backfill happened."""

    start: datetime
    end: datetime


Reported = UsageEvent | Correction


def read(body: object, *, now: datetime, backfill: Span | None = None) -> Reported:
    """Turn a decoded JSON value into an event or a correction, or raise the first reason not to.

    With a backfill, its span bounds occurred_at instead of the age limit, and corrections are
    refused: a backfill adds, and is taken back as a whole.
    """
    is_correction = isinstance(body, dict) and not body.keys().isdisjoint(("voids", "amends"))
    if is_correction:
        assert isinstance(body, dict)
        if backfill is not None:
            raise _not_in_backfill("voids" if "voids" in body else "amends")
        return _void(body) if "voids" in body else _amendment(body, now)
    if backfill is None:
        return usage_event.read(body, now=now)
    event = usage_event.read(body, now=now, earliest=_LONG_AGO)
    if not backfill.start <= event.occurred_at < backfill.end:
        raise outside(event, backfill)
    return event


def too_old(occurred_at: datetime, now: datetime) -> bool:
    """Whether usage of that moment can be corrected no more."""
    return occurred_at < now - CORRECTION_AGE_MAX


def _void(body: Mapping[str, object]) -> Correction:
    event_id = usage_event.identifier(body, "id")
    source = usage_event.identifier(body, "source")
    for name in body:
        if name in VOID_FIELDS:
            continue
        if name not in (*usage_event.FIELDS, *usage_event.CORRECTING):
            raise usage_event.not_a_field(name)
        raise Rejected(
            "unknown_field",
            f"/{name}",
            f"A void has the fields {', '.join(VOID_FIELDS)} and no other. To put other usage in "
            "the event's place, send the whole event with amends instead of voids.",
        )
    return Correction(event_id, source, usage_event.identifier(body, "voids"), _reason(body), None)


def _amendment(body: Mapping[str, object], now: datetime) -> Correction:
    """Its time may lie as far back as that of the event it amends, which is known only later."""
    plain = {name: value for name, value in body.items() if name not in ("amends", "reason")}
    event = usage_event.read(plain, now=now, earliest=_LONG_AGO)
    target = usage_event.identifier(body, "amends")
    return Correction(event.id, event.source, target, _reason(body), event)


def _reason(body: Mapping[str, object]) -> str | None:
    reason = body.get("reason")
    if reason is None:
        return None
    if not isinstance(reason, str) or isinstance(reason, OddNumber):
        raise Rejected(
            "wrong_type",
            "/reason",
            "reason must be a JSON string. Put it in quotes or leave it out.",
        )
    if len(reason) > REASON_MAX:
        raise Rejected(
            "too_long",
            "/reason",
            f"reason has {len(reason)} characters; at most {REASON_MAX} are allowed. Shorten it.",
        )
    usage_event.no_secret(reason, "reason")
    if not reason:
        return None
    if fault := usage_event.text_fault(reason):
        raise Rejected(
            "invalid_character",
            "/reason",
            f"reason {fault}. Send visible characters in Unicode form NFC, without a space at "
            "either end.",
        )
    return reason


def outside(event: UsageEvent, span: Span) -> Rejected:
    """The refusal of an event that did not happen in the time of its backfill."""
    return Rejected(
        "outside_backfill",
        "/occurred_at",
        f"occurred_at is {event.occurred_at:%Y-%m-%dT%H:%M:%S.%fZ}; this backfill takes events "
        f"from {span.start:%Y-%m-%dT%H:%M:%SZ} until before {span.end:%Y-%m-%dT%H:%M:%SZ}. Open "
        "another one for it.",
    )


def _not_in_backfill(name: str) -> Rejected:
    return Rejected(
        "not_in_backfill",
        f"/{name}",
        f"{name} cannot be sent in a backfill, which only adds and is reverted as a whole. Send "
        "this one without the parameter backfill.",
    )
