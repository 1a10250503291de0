"""Make a batch durable and deduplicated, in one transaction, and say what became of each event.

Identity is (organization, source, id), for good. The same identity with the same content is a
duplicate, which is a success; with other content it is a conflict: reported, and the first stands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection, errors

from metering import held, judging, names, news, segments, voids
from metering.judging import Judge, Settled
from metering.news import News
from metering.segments import Columns, Content
from metering.usage.correction import Correction
from metering.usage.event import Rejected, UsageEvent
from metering.usage.flags import Flag
from metering.usage.identity import all_packed_hex

ATTEMPTS_MAX = 5
SHOWN_MAX = 3  # fields that a conflict names


class Status(StrEnum):
    """What became of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Incoming(NamedTuple):
    """A valid event on its way in: its place in the request, and its project's row.

    A void stands for itself, without a project; beside an amendment's event stands what it amends.
    """

    ordinal: int  # its place in the request
    event: UsageEvent | Correction
    project_id: int
    correction: Correction | None = None


class Outcome(NamedTuple):
    """What became of the event at a place; a detail where there is something to say."""

    ordinal: int  # its place in the request
    status: Status
    detail: str | None = None
    flags: tuple[Flag, ...] = ()  # what the door has to say of it besides
    since: datetime | None = None  # of a repetition: when the first was received


ACCEPTED = Status.ACCEPTED
_make_outcome = Outcome._make  # a third faster than by name


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch as it was committed."""

    batch_id: int
    received_at: datetime
    outcomes: list[Outcome | Rejected]  # a correction may be rejected for what is stored

    def count(self, status: Status) -> int:
        """How many events ended so."""
        return sum(
            isinstance(outcome, Outcome) and outcome.status is status for outcome in self.outcomes
        )


class AllOrNothing(Exception):
    """In atomic mode: some event was no success, so nothing was stored."""

    def __init__(self, outcomes: list[Outcome | Rejected]) -> None:
        super().__init__("some events were not taken, so none was")
        self.outcomes = outcomes


# The batch takes its number and its moment from the database; counts are put right at the end.
OPEN = """
    INSERT INTO metering_ingestbatch
        (organization_id, api_key_id, submitted, accepted, duplicate, conflict, rejected,
         occurred_first, occurred_last, backfill_id, state)
    VALUES (%(organization_id)s, %(api_key_id)s, %(submitted)s, %(unique)s,
            %(submitted)s - %(unique)s - %(rejected)s, 0, %(rejected)s,
            %(occurred_first)s, %(occurred_last)s, %(backfill_id)s,
            CASE WHEN %(backfill_id)s::bigint IS NULL THEN 'pending' ELSE 'held' END)
    RETURNING id, received_at
"""
# What is known stays out.
INSERT_KEYS = """
    INSERT INTO metering_identity (organization_id, batch_id, source_id, ordinal, id)
    SELECT %(organization_id)s, %(batch_id)s, new.source_id, new.ordinal, new.id
    FROM unnest(%(source_ids)s::integer[], %(ids)s::bytea[], %(ordinals)s::smallint[])
         AS new (source_id, id, ordinal)
    ORDER BY new.source_id, new.id
    ON CONFLICT (organization_id, source_id, id) DO NOTHING
"""
# One by one by the index, whatever the planner knows of the table.
KNOWN = """
    SELECT sent.source_id, encode(sent.id, 'hex'), known.batch_id, known.ordinal
    FROM unnest(%(source_ids)s::integer[], %(ids)s::bytea[]) AS sent (source_id, id)
    CROSS JOIN LATERAL (
        SELECT key.batch_id, key.ordinal FROM metering_identity key
        WHERE key.organization_id = %(organization_id)s
          AND key.source_id = sent.source_id AND key.id = sent.id
        LIMIT 1) known
"""
RECOUNT = """
    UPDATE metering_ingestbatch
    SET accepted = %(accepted)s, duplicate = %(duplicate)s, conflict = %(conflict)s,
        rejected = %(rejected)s,
        state = CASE WHEN %(accepted)s = 0 THEN 'applied' ELSE state END,
        applied_at = CASE WHEN %(accepted)s = 0 THEN clock_timestamp() ELSE applied_at END
    WHERE organization_id = %(organization_id)s AND id = %(batch_id)s
"""
_NEVER = datetime.min.replace(tzinfo=UTC)
RETRIED = (errors.SerializationFailure, errors.DeadlockDetected, voids.Overtaken)


def store(
    connection: Connection[Any],
    organization_id: int,
    api_key_id: int,
    incoming: Sequence[Incoming],
    *,
    rejected: int = 0,
    atomic: bool = False,
    own_project_id: int | None = None,
    backfill_id: int | None = None,
) -> Stored:
    """Commit a batch and say, event by event, what became of it. Safe to repeat at any time.

    A key of one project corrects what is in `own_project_id` only. With a backfill the batch is
    held until that is closed; held.BackfillNotOpen where it is not open.
    """
    batch = _Batch(
        connection,
        organization_id,
        api_key_id,
        incoming,
        rejected,
        atomic,
        own_project_id,
        backfill_id,
    )
    stored = batch.store_news()
    if stored is not None:
        return stored
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            with connection.transaction():
                return batch.store()
        except RETRIED:
            if attempt == ATTEMPTS_MAX:
                raise
            time.sleep(random.uniform(0.0, 0.01) * 2**attempt)  # noqa: S311 - to part two rivals
    raise AssertionError("the last attempt returns or raises")


class _Place(NamedTuple):
    """Where an identity was stored first."""

    batch_id: int
    ordinal: int


Identity = tuple[int, str]  # the source's number, and the id as it is kept, in hexadecimal
Kept = dict[tuple[int, int], tuple[datetime, Content]]


@dataclass(slots=True)
class _Batch:
    """One batch while it is being stored."""

    connection: Connection[Any]
    organization_id: int
    api_key_id: int
    incoming: Sequence[Incoming]
    rejected: int
    atomic: bool
    own_project_id: int | None
    backfill_id: int | None
    identities: list[Identity] = field(init=False)  # of each event, in the order of the request
    attributions: list[names.Attribution | None] = field(init=False)  # None: a void has none
    first: dict[Identity, Incoming] = field(init=False)
    ordered: list[Identity] = field(init=False)  # each once, in one order for everybody
    attribution_ids: names.Names = field(init=False)
    batch_id: int = 0
    received_at: datetime = _NEVER

    def __post_init__(self) -> None:
        """Give every name its number, before any transaction of ours begins."""
        events = [item.event for item in self.incoming]
        sources = names.source_ids(
            self.connection, self.organization_id, {event.source for event in events}
        )
        self.attributions = [
            names.attribution(item.event, item.project_id)
            if isinstance(item.event, UsageEvent)
            else None
            for item in self.incoming
        ]
        self.attribution_ids = names.attribution_ids(
            self.connection, self.organization_id, filter(None, self.attributions)
        )
        ids = all_packed_hex([event.id for event in events])
        self.identities = [
            (sources[event.source], packed) for event, packed in zip(events, ids, strict=True)
        ]
        self._arrange()

    def _arrange(self, settled: Collection[int] = ()) -> None:
        """Each identity once, by the first that came with it; what is settled takes none."""
        self.first = {}
        for identity, item in zip(self.identities, self.incoming, strict=True):
            if item.ordinal not in settled:
                self.first.setdefault(identity, item)
        self.ordered = sorted(self.first)

    def store_news(self) -> Stored | None:
        """A transaction of its own; None where something was known, or is corrected."""
        if any(item.correction for item in self.incoming):
            return None
        opened = news.store(
            self.connection,
            self.organization_id,
            self.api_key_id,
            News(
                [source_id for source_id, _ in self.identities],
                [packed for _, packed in self.identities],
                self._columns([True] * len(self.incoming)),
                *self._moments(),
            ),
            rejected=self.rejected,
            backfill_id=self.backfill_id,
        )
        if opened is None:
            return None
        outcomes: list[Outcome | Rejected] = [
            _make_outcome((item[0], ACCEPTED, None, (), None)) for item in self.incoming
        ]
        return Stored(*opened, outcomes)

    def store(self) -> Stored:
        """Everything inside the transaction, where something may be known."""
        if self.backfill_id is not None:
            held.hold_open(self.connection, self.organization_id, self.backfill_id)
        self._open()
        judge = self._judge()
        self._insert_keys()
        outcomes = self._sort_out(judge)
        if self.atomic and any(_spoils(one) for one in outcomes):
            raise AllOrNothing(outcomes)
        accepted = [isinstance(one, Outcome) and one.status is ACCEPTED for one in outcomes]
        self._write(accepted)
        if judge:
            self._write_voids(judge, accepted)
        return Stored(self.batch_id, self.received_at, outcomes)

    def _judge(self) -> Judge | None:
        """Which corrections take something back; the others leave their ids free."""
        if not any(item.correction for item in self.incoming):
            return None
        judge = voids.judge(
            self.connection,
            self.organization_id,
            self.incoming,
            batch_id=self.batch_id,
            received_at=self.received_at,
            own_project_id=self.own_project_id,
        )
        self._arrange(judge.settled)
        return judge

    def _write_voids(self, judge: Judge, accepted: Sequence[bool]) -> None:
        corrections = {
            item.ordinal: item.correction
            for item, taken in zip(self.incoming, accepted, strict=True)
            if taken and item.correction
        }
        voids.write(self.connection, self.organization_id, self.api_key_id, judge, corrections)

    def _open(self) -> None:
        """Write the batch down as if all of it were new."""
        first, last = self._moments()
        row = self.connection.execute(
            OPEN,
            {
                "organization_id": self.organization_id,
                "api_key_id": self.api_key_id,
                "submitted": len(self.incoming) + self.rejected,
                "unique": len(self.ordered),
                "rejected": self.rejected,
                "occurred_first": first,
                "occurred_last": last,
                "backfill_id": self.backfill_id,
            },
        ).fetchone()
        assert row is not None
        self.batch_id, self.received_at = row

    def _moments(self) -> tuple[datetime | None, datetime | None]:
        """When the first and the last of its events happened."""
        instants = [
            item.event.occurred_at for item in self.incoming if isinstance(item.event, UsageEvent)
        ]
        return min(instants, default=None), max(instants, default=None)

    def _insert_keys(self) -> None:
        self.connection.execute(
            INSERT_KEYS,
            {
                "organization_id": self.organization_id,
                "batch_id": self.batch_id,
                "ordinals": [self.first[identity].ordinal for identity in self.ordered],
                **_arrays(self.ordered),
            },
        )

    def _write(self, accepted: Sequence[bool]) -> None:
        columns = self._columns(accepted)
        segments.write(
            self.connection, self.organization_id, self.batch_id, self.received_at, columns
        )
        if self.backfill_id is not None:
            held.sum_up(self.connection, self.organization_id, self.batch_id, columns.usages)

    def _columns(self, accepted: Sequence[bool]) -> Columns:
        """What was taken, array by array."""
        taken = [
            (item.ordinal, item.event, attribution)
            for item, attribution, good in zip(
                self.incoming, self.attributions, accepted, strict=True
            )
            if good and isinstance(item.event, UsageEvent)
        ]
        events = [event for _, event, _ in taken]
        return Columns(
            [ordinal for ordinal, _, _ in taken],
            [event.occurred_at.isoformat() for event in events],
            [self.attribution_ids[attribution] for _, _, attribution in taken],
            [event.session for event in events],
            [event.usage for event in events],
        )

    def _sort_out(self, judge: Judge | None) -> list[Outcome | Rejected]:
        """Tell accepted, duplicate and conflict apart, and correct the batch's counts."""
        rows = self.connection.execute(
            KNOWN, {"organization_id": self.organization_id, **_arrays(self.ordered)}
        )
        known = {(row[0], row[1]): _Place(row[2], row[3]) for row in rows}
        places = {place for place in known.values() if place.batch_id != self.batch_id}
        kept = segments.read(self.connection, self.organization_id, places)
        settled, fates = self._settled(judge, known, places)
        outcomes = [
            _outcome(item.ordinal, settled[item.ordinal])
            if item.ordinal in settled
            else self._judged(item, identity, known[identity], kept)
            for item, identity in zip(self.incoming, self.identities, strict=True)
        ]
        outcomes = [_with_fate(outcome, fates) for outcome in outcomes]
        counts = {status.value: 0 for status in Status} | {"rejected": self.rejected}
        for outcome in outcomes:
            counts[outcome.status if isinstance(outcome, Outcome) else "rejected"] += 1
        self.connection.execute(
            RECOUNT,
            {"organization_id": self.organization_id, "batch_id": self.batch_id, **counts},
        )
        return outcomes

    def _settled(
        self, judge: Judge | None, known: Mapping[Identity, _Place], earlier: Iterable[_Place]
    ) -> tuple[dict[int, Settled], dict[int, str]]:
        """What corrections decide beside an event's content; and what became of events since."""
        touched = voids.touched(self.connection, self.organization_id, earlier)
        named = {
            (item.event.source, item.event.id): known[identity]
            for identity, item in zip(self.identities, self.incoming, strict=True)
            if identity in known
        }
        return judging.compare(self.incoming, judge, named, touched, self.batch_id)

    def _judged(self, item: Incoming, identity: Identity, place: _Place, kept: Kept) -> Outcome:
        """What became of one event, and a sentence if it was there before."""
        received_at: datetime | None = None
        if place.batch_id != self.batch_id:
            received_at, was = kept[place]
            where = f"was accepted at {received_at:%Y-%m-%dT%H:%M:%S.%fZ}"
        elif place.ordinal == item.ordinal:
            return Outcome(item.ordinal, ACCEPTED)
        else:
            twin = self.first[identity]
            where, was = f"stands at index {twin.ordinal} of this batch", _content(twin)
        now = _content(item)
        status = Status.DUPLICATE if was == now else Status.CONFLICT
        detail = _sentence(status, where, was, now)
        return Outcome(item.ordinal, status, detail, since=received_at)


def _outcome(ordinal: int, settled: Settled) -> Outcome | Rejected:
    if isinstance(settled, Rejected):
        return settled
    return Outcome(ordinal, Status.DUPLICATE if settled.same else Status.CONFLICT, settled.detail)


def _with_fate(outcome: Outcome | Rejected, fates: Mapping[int, str]) -> Outcome | Rejected:
    """The same, saying also what became of the stored event since."""
    if isinstance(outcome, Rejected) or outcome.ordinal not in fates:
        return outcome
    return outcome._replace(detail=f"{outcome.detail} {fates[outcome.ordinal]}")


def _spoils(outcome: Outcome | Rejected) -> bool:
    """Whether all or nothing means nothing."""
    return isinstance(outcome, Rejected) or outcome.status is Status.CONFLICT


def _arrays(identities: Sequence[Identity]) -> dict[str, str]:
    """Identities as two arrays that PostgreSQL reads."""
    return {
        "source_ids": "{" + ",".join([str(source_id) for source_id, _ in identities]) + "}",
        "ids": "{" + ",".join([f'"\\\\x{packed}"' for _, packed in identities]) + "}",
    }


def _content(item: Incoming) -> Content:
    """What an event says, as a conflict compares it."""
    event = item.event
    assert isinstance(event, UsageEvent)  # voids are compared by metering.judging
    return Content(event.occurred_at, item.project_id, event.model, event.api_key, event.agent,
                   event.session, event.region, event.service_class, event.usage)  # fmt: skip


def _fields(content: Content) -> dict[str, object]:
    fields: dict[str, object] = content._asdict()
    usage = fields.pop("usage")
    assert isinstance(usage, dict)
    return fields | {f"usage.{name}": value for name, value in usage.items()}


def _sentence(status: Status, where: str, first: Content, sent: Content) -> str:
    if status is Status.DUPLICATE:
        return f"The same event {where}; nothing was counted twice."
    was, now = _fields(first), _fields(sent)
    differing = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if "project_id" in differing:  # what another project used is not for every key to read
        differing = ["project_id"]
    shown = ", ".join(_difference(name, was, now) for name in differing[:SHOWN_MAX])
    more = f" and {len(differing) - SHOWN_MAX} more" if len(differing) > SHOWN_MAX else ""
    return (
        f"An event with this source and id {where} with other content: {shown}{more}. The "
        "first one stands. Send this one with a new id if it is another event."
    )


def _difference(name: str, was: dict[str, object], now: dict[str, object]) -> str:
    if name == "project_id":  # rows, not names: say no more than that
        return "project"
    return f"{name} {_told(was.get(name))}, now {_told(now.get(name))}"


def _told(value: object) -> str:
    if value is None:
        return "absent"
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def is_outage(error: psycopg.Error) -> bool:
    """Whether an error says that the database cannot be had now, rather than that we are wrong."""
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
