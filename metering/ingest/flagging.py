"""The flags of what was accepted, put onto the verdicts that a sender is told.

An event whose period is open and that reports something, as nearly all do, costs no look by itself:
a batch is compared with the end of what is closed, which comes with the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import Connection

from metering import closed
from metering.ingest.callers import Caller
from metering.ingest.decode import Decoded
from metering.ingest.plain import Plain
from metering.store import Outcome, Status
from metering.usage import flags
from metering.usage.correction import Correction, Reported
from metering.usage.event import Rejected, UsageEvent
from metering.usage.flags import ClosedPeriod

Verdict = Outcome | Rejected


def closed_for(
    connection: Connection[Any], caller: Caller, events: Decoded
) -> Sequence[ClosedPeriod]:
    """The closed periods that some of these events may lie in; looked up only where one may."""
    if caller.closed_until is None:
        return ()
    if isinstance(events, Plain):
        first = events.first
    else:
        moments = [one.occurred_at for one in map(_usage_of, events) if one]
        first = min(moments, default=caller.closed_until)
    if first >= caller.closed_until:
        return ()
    return closed.since(connection, caller.organization_id, first)


def is_plain_news(events: Decoded, periods: Sequence[ClosedPeriod]) -> bool:
    """Whether none of these can have a flag."""
    return not periods and isinstance(events, Plain) and not events.has_zeros()


def flagged(
    verdicts: Sequence[Verdict],
    events: Decoded,
    periods: Sequence[ClosedPeriod],
    received_at: datetime,
) -> Sequence[Verdict]:
    """The verdicts on events received at an instant, with the flags of those that have some."""
    if is_plain_news(events, periods):
        return verdicts
    return [
        _flagged(verdict, _usage_of(event), periods, received_at)
        for verdict, event in zip(verdicts, events, strict=True)
    ]


def _flagged(
    verdict: Verdict,
    event: UsageEvent | None,
    periods: Sequence[ClosedPeriod],
    received_at: datetime,
) -> Verdict:
    """What is a repetition has the flags of what it repeats, and its own sentence."""
    if event is None or isinstance(verdict, Rejected) or verdict.status is Status.CONFLICT:
        return verdict
    told = flags.of(event, verdict.since or received_at, periods)
    if not told:
        return verdict
    return verdict._replace(flags=tuple(told), detail=verdict.detail or " ".join(told.values()))


def _usage_of(one: Reported | Rejected) -> UsageEvent | None:
    """A void has none."""
    if isinstance(one, Rejected):
        return None
    return one.event if isinstance(one, Correction) else one
