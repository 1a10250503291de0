"""Make a batch durable and deduplicated, in one transaction, and say what became of each event.

Identity is (organization, source, id), for good. The same identity with the same content is a
duplicate, which is a success; with other content it is a conflict: reported, and the first stands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection, errors

from metering import names, segments
from metering.segments import Content, Entry
from metering.usage.event import UsageEvent
from metering.usage.identity import packed_hex

ATTEMPTS_MAX = 5
SHOWN_MAX = 3  # fields that a conflict names
SAMPLE = 8  # keys that are looked for before the rest is believed to be new


class Status(StrEnum):
    """What became of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Incoming(NamedTuple):
    """A valid event on its way in: its place in the request, and its project's row."""

    ordinal: int  # its place in the request
    event: UsageEvent
    project_id: int


class Outcome(NamedTuple):
    """What became of the event at a place; a detail where there is something to say."""

    ordinal: int  # its place in the request
    status: Status
    detail: str | None = None


ACCEPTED = Status.ACCEPTED


@dataclass(frozen=True, slots=True)
class Stored:
    """A batch as it was committed."""

    batch_id: int
    received_at: datetime
    outcomes: list[Outcome]

    def count(self, status: Status) -> int:
        """How many events ended so."""
        return sum(outcome.status is status for outcome in self.outcomes)


class AllOrNothing(Exception):
    """In atomic mode: some event was no success, so nothing was stored."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__("some events were not taken, so none was")
        self.outcomes = outcomes


# The batch takes its number and its moment from the database. A few of its keys are looked for at
# the same time: whoever repeats a batch repeats all of it, so this tells replays from news.
OPEN = """
    INSERT INTO metering_ingestbatch
        (organization_id, api_key_id, submitted, accepted, duplicate, conflict, rejected)
    VALUES (%(organization_id)s, %(api_key_id)s, %(submitted)s, %(unique)s,
            %(submitted)s - %(unique)s - %(rejected)s, 0, %(rejected)s)
    RETURNING id, received_at, EXISTS (
        SELECT FROM metering_identity known
        WHERE known.organization_id = %(organization_id)s
          AND (known.source_id, known.id) IN (
              SELECT * FROM unnest(%(source_ids)s::integer[], %(ids)s::bytea[])))
"""
# News goes in by COPY, which is half as dear as INSERT but stops at the first key that is known.
COPY_KEYS = """
    COPY metering_identity (organization_id, batch_id, source_id, ordinal, id) FROM STDIN
"""
# Then the batch begins anew, and what is known stays out.
INSERT_KEYS = """
    INSERT INTO metering_identity (organization_id, batch_id, source_id, ordinal, id)
    SELECT %(organization_id)s, %(batch_id)s, new.source_id, new.ordinal, new.id
    FROM unnest(%(source_ids)s::integer[], %(ids)s::bytea[], %(ordinals)s::smallint[])
         AS new (source_id, id, ordinal)
    ORDER BY new.source_id, new.id
    ON CONFLICT (organization_id, source_id, id) DO NOTHING
"""
KNOWN = """
    SELECT key.source_id, encode(key.id, 'hex'), key.batch_id, key.ordinal
    FROM unnest(%(source_ids)s::integer[], %(ids)s::bytea[]) AS sent (source_id, id)
    JOIN metering_identity key
      ON key.organization_id = %(organization_id)s
     AND key.source_id = sent.source_id AND key.id = sent.id
"""
RECOUNT = """
    UPDATE metering_ingestbatch
    SET accepted = %(accepted)s, duplicate = %(duplicate)s, conflict = %(conflict)s,
        state = CASE WHEN %(accepted)s = 0 THEN 'applied' ELSE state END,
        applied_at = CASE WHEN %(accepted)s = 0 THEN clock_timestamp() ELSE applied_at END
    WHERE organization_id = %(organization_id)s AND id = %(batch_id)s
"""
_NEVER = datetime.min.replace(tzinfo=UTC)
RETRIED = (errors.SerializationFailure, errors.DeadlockDetected)


def store(
    connection: Connection[Any],
    organization_id: int,
    api_key_id: int,
    incoming: Sequence[Incoming],
    *,
    rejected: int = 0,
    atomic: bool = False,
) -> Stored:
    """Commit a batch and say, event by event, what became of it. Safe to repeat at any time."""
    batch = _Batch(connection, organization_id, api_key_id, incoming, rejected, atomic)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            with connection.transaction():
                return batch.store()
        except errors.UniqueViolation:
            batch.expects_known = True  # from now on, so this happens once
        except RETRIED:
            if attempt == ATTEMPTS_MAX:
                raise
            time.sleep(random.uniform(0.0, 0.01) * 2**attempt)  # noqa: S311 - to part two rivals
    raise AssertionError("a batch that expects known keys meets no unique violation")


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
    identities: list[Identity] = field(init=False)  # of each event, in the order of the request
    attributions: list[names.Attribution] = field(init=False)
    first: dict[Identity, Incoming] = field(init=False)
    ordered: list[Identity] = field(init=False)  # each once, in one order for everybody
    attribution_ids: names.Names = field(init=False)
    expects_known: bool = field(init=False)
    batch_id: int = 0
    received_at: datetime = _NEVER

    def __post_init__(self) -> None:
        """Give every name its number, before any transaction of ours begins."""
        events = [item.event for item in self.incoming]
        sources = names.source_ids(
            self.connection, self.organization_id, {event.source for event in events}
        )
        self.attributions = [
            names.attribution(item.event, item.project_id) for item in self.incoming
        ]
        self.attribution_ids = names.attribution_ids(
            self.connection, self.organization_id, self.attributions
        )
        self.identities = [(sources[event.source], packed_hex(event.id)) for event in events]
        self.first = {}
        for identity, item in zip(self.identities, self.incoming, strict=True):
            self.first.setdefault(identity, item)
        self.ordered = sorted(self.first)
        self.expects_known = len(self.ordered) < len(self.incoming)

    def store(self) -> Stored:
        """Everything inside the transaction."""
        self.expects_known |= self._open()
        if self.expects_known:
            self._insert_keys()
            outcomes = self._sort_out()
            if self.atomic and any(one.status is Status.CONFLICT for one in outcomes):
                raise AllOrNothing(outcomes)
        else:
            self._copy_keys()
            outcomes = [Outcome(item.ordinal, ACCEPTED) for item in self.incoming]
        self._write([one.status is ACCEPTED for one in outcomes])
        return Stored(self.batch_id, self.received_at, outcomes)

    def _open(self) -> bool:
        """Write the batch down as if all of it were new; whether some of it is known."""
        sample = self.ordered[:: max(1, len(self.ordered) // SAMPLE)]
        row = self.connection.execute(
            OPEN,
            {
                "organization_id": self.organization_id,
                "api_key_id": self.api_key_id,
                "submitted": len(self.incoming) + self.rejected,
                "unique": len(self.ordered),
                "rejected": self.rejected,
                **_arrays(sample),
            },
        ).fetchone()
        assert row is not None
        self.batch_id, self.received_at, some_known = row
        return bool(some_known)

    def _copy_keys(self) -> None:
        head = f"{self.organization_id}\t{self.batch_id}"
        first = self.first
        rows = [
            f"{head}\t{identity[0]}\t{first[identity].ordinal}\t\\\\x{identity[1]}\n"
            for identity in self.ordered
        ]
        with self.connection.cursor() as cursor, cursor.copy(COPY_KEYS) as copy:
            copy.write("".join(rows))

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
        segments.write(
            self.connection,
            self.organization_id,
            self.batch_id,
            self.received_at,
            [
                Entry(
                    item.ordinal,
                    item.event.occurred_at,
                    self.attribution_ids[attribution],
                    item.event.session,
                    item.event.usage,
                )
                for item, attribution, taken in zip(
                    self.incoming, self.attributions, accepted, strict=True
                )
                if taken
            ],
        )

    def _sort_out(self) -> list[Outcome]:
        """Tell accepted, duplicate and conflict apart, and correct the batch's counts."""
        rows = self.connection.execute(
            KNOWN, {"organization_id": self.organization_id, **_arrays(self.ordered)}
        )
        known = {(row[0], row[1]): _Place(row[2], row[3]) for row in rows}
        places = {place for place in known.values() if place.batch_id != self.batch_id}
        kept = segments.read(self.connection, self.organization_id, places)
        outcomes = [
            self._judged(item, identity, known[identity], kept)
            for item, identity in zip(self.incoming, self.identities, strict=True)
        ]
        counts = {status.value: 0 for status in Status}
        for outcome in outcomes:
            counts[outcome.status] += 1
        self.connection.execute(
            RECOUNT,
            {"organization_id": self.organization_id, "batch_id": self.batch_id, **counts},
        )
        return outcomes

    def _judged(self, item: Incoming, identity: Identity, place: _Place, kept: Kept) -> Outcome:
        """What became of one event, and a sentence if it was there before."""
        if place.batch_id != self.batch_id:
            received_at, was = kept[place]
            since = f"was accepted at {received_at:%Y-%m-%dT%H:%M:%S.%fZ}"
        elif place.ordinal == item.ordinal:
            return Outcome(item.ordinal, ACCEPTED)
        else:
            twin = self.first[identity]
            since, was = f"stands at index {twin.ordinal} of this batch", _content(twin)
        now = _content(item)
        status = Status.DUPLICATE if was == now else Status.CONFLICT
        return Outcome(item.ordinal, status, _sentence(status, since, was, now))


def _arrays(identities: Sequence[Identity]) -> dict[str, str]:
    """Identities as two arrays that PostgreSQL reads."""
    return {
        "source_ids": "{" + ",".join([str(source_id) for source_id, _ in identities]) + "}",
        "ids": "{" + ",".join([f'"\\\\x{packed}"' for _, packed in identities]) + "}",
    }


def _content(item: Incoming) -> Content:
    """What an event says, as a conflict compares it."""
    event = item.event
    return Content(event.occurred_at, item.project_id, event.model, event.api_key, event.agent,
                   event.session, event.region, event.service_class, event.usage)  # fmt: skip


def _fields(content: Content) -> dict[str, object]:
    fields: dict[str, object] = content._asdict()
    usage = fields.pop("usage")
    assert isinstance(usage, dict)
    return fields | {f"usage.{name}": value for name, value in usage.items()}


def _sentence(status: Status, since: str, first: Content, sent: Content) -> str:
    if status is Status.DUPLICATE:
        return f"The same event {since}; nothing was counted twice."
    was, now = _fields(first), _fields(sent)
    differing = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    shown = ", ".join(_difference(name, was, now) for name in differing[:SHOWN_MAX])
    more = f" and {len(differing) - SHOWN_MAX} more" if len(differing) > SHOWN_MAX else ""
    return (
        f"An event with this source and id {since} with other content: {shown}{more}. The "
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
