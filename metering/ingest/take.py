"""From what was sent to a verdict on each event: find its project, store it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from metering import names, news
from metering.held import BackfillNotOpen
from metering.ingest import boxes, quarantine
from metering.ingest.callers import Caller, Numbers
from metering.ingest.decode import EVENTS_MAX, Sent
from metering.ingest.flagging import Verdict, closed_for, flagged
from metering.ingest.naming import named
from metering.ingest.plain import Labels, Plain
from metering.ingest.pool import connected
from metering.news import News, Opened
from metering.segments import Columns
from metering.store import (
    AllOrNothing,
    Incoming,
    Outcome,
    Status,
    Stored,
    store,
)
from metering.usage.correction import Correction, Reported
from metering.usage.event import Rejected, UsageEvent
from metering.usage.flags import ClosedPeriod

NO_PROJECT = 0  # no row has this number
NUMBERS_MAX = 10_000  # of one key, for as long as it is believed
_ACCEPTED = [Outcome(ordinal, Status.ACCEPTED) for ordinal in range(EVENTS_MAX)]


@dataclass(frozen=True, slots=True)
class Taken:
    """A verdict on each event in its place, and the batch, if anything was stored."""

    verdicts: Sequence[Verdict]
    batch_id: int | None = None
    news: bool = False  # whether there is something for the roll-up


def take(caller: Caller, sent: Sent, *, atomic: bool, backfill_id: int | None = None) -> Taken:
    """Store what can be stored; in atomic mode all or nothing."""
    with connected() as connection:
        periods = closed_for(connection, caller, sent.events)
        if backfill_id is None and isinstance(sent.events, Plain):
            opened = _stored_as_news(connection, caller, sent.events)
            if opened:
                caller.note_use(connection)
                accepted = all_accepted(len(sent.events))
                told = flagged(accepted, sent.events, periods, opened.received_at)
                return Taken(told, opened.batch_id, news=True)
        found = named(connection, caller.organization_id, sent, placed(connection, caller, sent))
        incoming = [item for item in found if isinstance(item, Incoming)]
        rejected = [item for item in found if isinstance(item, Rejected)]
        if atomic and rejected:
            return Taken(_spoiled(sent, found))
        if not incoming:
            return Taken(
                rejected, keep_faults(connection, caller, sent, rejected, None, backfill_id)
            )
        try:
            stored = store(
                connection,
                caller.organization_id,
                caller.api_key_id,
                incoming,
                rejected=len(rejected),
                atomic=atomic,
                own_project_id=_own_project_id(connection, caller, incoming),
                backfill_id=backfill_id,
            )
        except AllOrNothing as refusal:
            return Taken(_spoiled(sent, _told(sent, found, refusal.outcomes)))
        except BackfillNotOpen:  # since the door looked
            raise boxes.not_open(backfill_id) from None
        taken = _taken(sent, found, stored, periods)
        if not atomic:
            keep_faults(connection, caller, sent, taken.verdicts, stored.batch_id)
        caller.note_use(connection)
    return taken


def _stored_as_news(connection: Connection[Any], caller: Caller, plain: Plain) -> Opened | None:
    """The batch, where its projects are known and nothing else is."""
    found = as_news(connection, caller, plain)
    if found is None:
        return None
    return news.store(connection, caller.organization_id, caller.api_key_id, found)


def as_news(connection: Connection[Any], caller: Caller, plain: Plain) -> News | None:
    """Plain events as they are stored; None where a project is not for this key, or a name finds
    no room.

    To be called outside of any transaction: names get committed numbers.
    """
    numbers = _numbers(connection, caller, plain.labels)
    if numbers is None:
        return None
    return News(
        [source_id for source_id, _ in numbers],
        plain.packed,
        Columns(
            range(len(plain)),
            plain.times,
            [attribution_id for _, attribution_id in numbers],
            plain.sessions,
            plain.usages,
        ),
        plain.first,
        plain.last,
    )


def _numbers(
    connection: Connection[Any], caller: Caller, labels: Sequence[Labels]
) -> list[Numbers] | None:
    """Of each event's source and attribution; looked up once per key for what repeats."""
    known = caller.numbers
    try:
        return list(map(known.__getitem__, labels))
    except KeyError:
        new = {one for one in labels if one not in known}
    if len(known) + len(new) > NUMBERS_MAX:
        known, new = {}, set(labels)
    caller.learn_projects(connection, {one.project for one in new})
    attributions = {}
    for one in new:
        project_id = caller.project_id(one.project)
        if project_id is None:
            return None
        attributions[one] = names.attribution(one, project_id)
    organization_id = caller.organization_id
    sources = names.source_ids(connection, organization_id, {one.source for one in new})
    numbers = names.attribution_ids(connection, organization_id, attributions.values())
    known |= {
        one: (sources[one.source], numbers[attributions[one]])
        for one in new
        if one.source in sources and attributions[one] in numbers
    }
    caller.numbers = known
    return [known[one] for one in labels] if known.keys() >= new else None


def all_accepted(count: int) -> Sequence[Verdict]:
    """The verdicts on so many events of which each was new."""
    return _ACCEPTED[:count]


def keep_faults(
    connection: Connection[Any],
    caller: Caller,
    sent: Sent,
    verdicts: Sequence[Verdict],
    batch_id: int | None,
    backfill_id: int | None = None,
) -> int | None:
    """Keep what was not taken; the batch it belongs to. A replay keeps nothing twice."""
    faults = quarantine.faults(sent, verdicts) if sent.keep_faults else []
    if not faults:
        return batch_id
    return quarantine.keep(
        connection, caller.organization_id, caller.api_key_id, faults,
        form=sent.form, batch_id=batch_id, backfill_id=backfill_id,
    )  # fmt: skip


def placed(connection: Connection[Any], caller: Caller, sent: Sent) -> list[Incoming | Rejected]:
    """Each event with the row of its project, or the reason why there is none."""
    events = [_event_of(one) for one in sent.events]
    slugs = {event.project for event in events if event}
    caller.learn_projects(connection, slugs)
    rows = {slug: caller.project_id(slug) for slug in slugs}
    found: list[Incoming | Rejected] = []
    for index, (one, event) in enumerate(zip(sent.events, events, strict=True)):
        correction = one if isinstance(one, Correction) else None
        if isinstance(one, Rejected):
            found.append(one)
        elif event is None:
            assert correction is not None
            found.append(Incoming(index, correction, NO_PROJECT, correction))
        elif (project_id := rows[event.project]) is None:
            found.append(_unknown_project(caller, event, sent.pointer(index, "/project")))
        else:
            found.append(Incoming(index, event, project_id, correction))
    return found


def _event_of(one: Reported | Rejected) -> UsageEvent | None:
    """The usage in what was sent; a void has none."""
    if isinstance(one, Rejected):
        return None
    return one.event if isinstance(one, Correction) else one


def _own_project_id(
    connection: Connection[Any], caller: Caller, incoming: Iterable[Incoming]
) -> int | None:
    """The project that a key of one project may correct in; None where it may in all of them."""
    if caller.own_project is None or not any(item.correction for item in incoming):
        return None
    caller.learn_projects(connection, [None])
    project_id = caller.project_id(None)
    return NO_PROJECT if project_id is None else project_id


def _unknown_project(caller: Caller, event: UsageEvent, pointer: str) -> Rejected:
    """The same words whether it never was, is archived, is another's, or is not for this key."""
    return Rejected(
        "unknown_project",
        pointer,
        f"This key can report for no project {caller.project_of(event.project)!a}. Make it on the "
        "portal's Projects page, or correct the name, and send the event again with the same id.",
        retryable=True,
    )


def _told(
    sent: Sent, placed: Sequence[Incoming | Rejected], outcomes: Sequence[Verdict]
) -> Sequence[Verdict]:
    """The verdicts of storing, each in its event's place; what was refused there points there."""
    if len(outcomes) == len(placed) and all(isinstance(one, Outcome) for one in outcomes):
        return outcomes
    verdicts: list[Verdict] = []
    stored = iter(outcomes)
    for item in placed:
        verdict = item if isinstance(item, Rejected) else next(stored)
        if isinstance(verdict, Rejected) and isinstance(item, Incoming):
            verdict.pointer = sent.pointer(item.ordinal, verdict.pointer)
            verdict.event_id = item.event.id
        verdicts.append(verdict)
    return verdicts


def _taken(
    sent: Sent,
    placed: Sequence[Incoming | Rejected],
    stored: Stored,
    periods: Sequence[ClosedPeriod],
) -> Taken:
    outcomes = _told(sent, placed, stored.outcomes)
    verdicts = flagged(outcomes, sent.events, periods, stored.received_at)
    return Taken(verdicts, stored.batch_id, news=stored.count(Status.ACCEPTED) > 0)


def _spoiled(sent: Sent, found: Iterable[Incoming | Rejected | Outcome]) -> list[Verdict]:
    """In atomic mode: what was at fault keeps its reason, and everything else was not stored."""
    return [
        item
        if isinstance(item, Rejected)
        or (isinstance(item, Outcome) and item.status is Status.CONFLICT)
        else Rejected(
            "batch_refused",
            sent.pointer(item.ordinal),
            "Nothing is wrong with this event, but mode=atomic was asked for and another one could "
            "not be taken. Mend that one and send the whole batch again.",
            retryable=True,
        )
        for item in found
    ]
