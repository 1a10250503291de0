"""Make a batch durable and deduplicated, in one transaction, and say what became of each event.

Identity is (organization, source, id), for good. The same identity with the same content is a
duplicate, which is a success; with other content it is a conflict: reported, and the first stands.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection, errors

from metering import judging, voids
from metering.judging import Judge, Settled
from metering.usage import registers
from metering.usage.correction import Correction
from metering.usage.event import Rejected, UsageEvent

ATTEMPTS_MAX = 5
SHOWN_MAX = 3  # fields that a conflict names
SAMPLE = 8  # keys that are looked for before the rest is believed to be new
SEPARATORS = 17  # tabs in a line of COPY_EVENTS


class Status(StrEnum):
    """What became of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Incoming(NamedTuple):
    """A valid event on its way in: its place in the request, its project's row, its content.

    A void stands for itself, without a project; beside an amendment's event stands what it amends.
    """

    ordinal: int  # its place in the request
    event: UsageEvent | Correction
    project_id: int
    fingerprint: bytes
    correction: Correction | None = None


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
    outcomes: list[Outcome | Rejected]  # a correction may be rejected for what is stored

    def count(self, status: Status) -> int:
        """How many events ended so."""
        return sum(
            isinstance(outcome, Outcome) and outcome.status is status for outcome in self.outcomes
        )


class BackfillNotOpen(Exception):
    """The backfill that a batch was sent into is closed or reverted, or never was."""


class AllOrNothing(Exception):
    """In atomic mode: some event was no success, so nothing was stored."""

    def __init__(self, outcomes: list[Outcome | Rejected]) -> None:
        super().__init__("some events were not taken, so none was")
        self.outcomes = outcomes


# The batch takes its number and its moment from the database. A few of its keys are looked for at
# the same time: whoever repeats a batch repeats all of it, so this tells replays from news.
# Sources and ids hold no control characters, so 0x1f separates them exactly.
OPEN = """
    INSERT INTO metering_ingestbatch
        (organization_id, api_key_id, submitted, accepted, duplicate, conflict, rejected,
         backfill_id, state)
    VALUES (%(organization_id)s, %(api_key_id)s, %(submitted)s, %(unique)s,
            %(submitted)s - %(unique)s - %(rejected)s, 0, %(rejected)s,
            %(backfill_id)s,
            CASE WHEN %(backfill_id)s::bigint IS NULL THEN 'pending' ELSE 'held' END)
    RETURNING id, received_at, EXISTS (
        SELECT FROM metering_eventkey known
        WHERE known.organization_id = %(organization_id)s
          AND (known.source, known.event_id) IN (
              SELECT * FROM ROWS FROM (
                  unnest(string_to_array(%(sources)s, E'\\x1f')),
                  unnest(string_to_array(%(event_ids)s, E'\\x1f'))) AS sample))
"""
# News goes in by COPY, which is half as dear as INSERT but stops at the first key that is known.
COPY_KEYS = """
    COPY metering_eventkey (organization_id, batch_id, source, event_id, ordinal, fingerprint)
    FROM STDIN
"""
# Then the batch begins anew, and what is known stays out.
INSERT_KEYS = """
    INSERT INTO metering_eventkey
        (organization_id, source, event_id, batch_id, ordinal, fingerprint)
    SELECT %(organization_id)s, new.source, new.event_id, %(batch_id)s, new.ordinal,
           substring(%(fingerprints)b FROM (new.position * 16 - 15)::int FOR 16)
    FROM ROWS FROM (
        unnest(string_to_array(%(sources)s, E'\\x1f')),
        unnest(string_to_array(%(event_ids)s, E'\\x1f')),
        unnest(%(ordinals)s::smallint[])
    ) WITH ORDINALITY AS new (source, event_id, ordinal, position)
    ON CONFLICT (organization_id, source, event_id) DO NOTHING
"""
COPY_EVENTS = """
    COPY metering_event (received_at, organization_id, batch_id, ordinal, occurred_at, project_id,
        model, api_key, agent, session, region, service_class,
        input, cache_read, cache_write, output, reasoning, other) FROM STDIN
"""
KNOWN = """
    SELECT key.source, key.event_id, key.batch_id, key.ordinal, key.fingerprint
    FROM ROWS FROM (
        unnest(string_to_array(%(sources)s, E'\\x1f')),
        unnest(string_to_array(%(event_ids)s, E'\\x1f'))
    ) AS sent (source, event_id)
    JOIN metering_eventkey key
      ON key.organization_id = %(organization_id)s
     AND key.source = sent.source AND key.event_id = sent.event_id
"""
RECOUNT = """
    UPDATE metering_ingestbatch
    SET accepted = %(accepted)s, duplicate = %(duplicate)s, conflict = %(conflict)s,
        rejected = %(rejected)s,
        state = CASE WHEN %(accepted)s = 0 THEN 'applied' ELSE state END,
        applied_at = CASE WHEN %(accepted)s = 0 THEN clock_timestamp() ELSE applied_at END
    WHERE organization_id = %(organization_id)s AND id = %(batch_id)s
"""
FIRST = """
    SELECT event.batch_id, event.ordinal, event.received_at, event.occurred_at, event.project_id,
           event.model, event.api_key, event.agent, event.session, event.region,
           event.service_class, event.input, event.cache_read, event.cache_write, event.output,
           event.reasoning, event.other
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS first (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = first.batch_id
    JOIN metering_event event
      ON event.organization_id = %(organization_id)s AND event.batch_id = first.batch_id
     AND event.ordinal = first.ordinal AND event.received_at = batch.received_at
"""

# Whoever closes or reverts the backfill waits until this batch is committed.
HOLD_OPEN = """
    SELECT FROM metering_backfill
    WHERE organization_id = %(organization_id)s AND id = %(backfill_id)s AND state = 'open'
    FOR SHARE
"""
SUM_UP = """
    UPDATE metering_ingestbatch SET sums = %(sums)s
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
    held until that is closed; BackfillNotOpen where it is not open.
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


@dataclass(slots=True)
class _Known:
    """Where an identity was stored first, and with which content."""

    batch_id: int
    ordinal: int
    fingerprint: bytes


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
    ordered: list[Incoming] = field(init=False)  # each identity once, in one order for everybody
    first: dict[tuple[str, str], Incoming] = field(init=False)
    expects_known: bool = field(init=False)
    batch_id: int = 0
    received_at: datetime = _NEVER

    def __post_init__(self) -> None:
        self._arrange(self.incoming)
        corrects = any(item.correction for item in self.incoming)
        self.expects_known = len(self.ordered) < len(self.incoming) or corrects

    def _arrange(self, items: Iterable[Incoming]) -> None:
        """Each identity once, by the first that came with it."""
        self.first = {}
        for item in items:
            self.first.setdefault((item.event.source, item.event.id), item)
        self.ordered = [self.first[key] for key in sorted(self.first)]

    def store(self) -> Stored:
        """Everything inside the transaction."""
        self._hold_open()
        self.expects_known |= self._open()
        if self.expects_known:
            judge = self._judge()
            self._insert_keys()
            outcomes = self._sort_out(judge)
            if self.atomic and any(_spoils(one) for one in outcomes):
                raise AllOrNothing(outcomes)
        else:
            judge = None
            self._copy_keys()
            outcomes = [Outcome(item.ordinal, ACCEPTED) for item in self.incoming]
        accepted = [
            item
            for item, one in zip(self.incoming, outcomes, strict=True)
            if isinstance(one, Outcome) and one.status is ACCEPTED
        ]
        events = [item for item in accepted if isinstance(item.event, UsageEvent)]
        self._copy_events(events)
        if judge:
            self._write_voids(judge, accepted)
        self._sum_up(events)
        return Stored(self.batch_id, self.received_at, outcomes)

    def _hold_open(self) -> None:
        """Keep the backfill open until the commit."""
        if self.backfill_id is None:
            return
        parameters = {"organization_id": self.organization_id, "backfill_id": self.backfill_id}
        if self.connection.execute(HOLD_OPEN, parameters).fetchone() is None:
            raise BackfillNotOpen

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
        self._arrange(item for item in self.incoming if item.ordinal not in judge.settled)
        return judge

    def _write_voids(self, judge: Judge, accepted: Iterable[Incoming]) -> None:
        corrections = {item.ordinal: item.correction for item in accepted if item.correction}
        voids.write(self.connection, self.organization_id, self.api_key_id, judge, corrections)

    def _sum_up(self, items: Iterable[Incoming]) -> None:
        """Note what a backfill's batch comes to, so that nobody has to add it up again."""
        if self.backfill_id is None:
            return
        sums: Counter[str] = Counter()
        for item in items:
            assert isinstance(item.event, UsageEvent)
            sums.update(item.event.usage)
        self.connection.execute(
            SUM_UP,
            {
                "sums": json.dumps(sums, sort_keys=True),
                "organization_id": self.organization_id,
                "batch_id": self.batch_id,
            },
        )

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
                "backfill_id": self.backfill_id,
                **_identities(sample),
            },
        ).fetchone()
        assert row is not None
        self.batch_id, self.received_at, some_known = row
        return bool(some_known)

    def _copy_keys(self) -> None:
        head = f"{self.organization_id}\t{self.batch_id}"
        rows = [
            f"{head}\t{_escaped(event.source)}\t{_escaped(event.id)}\t{ordinal}"
            f"\t\\\\x{fingerprint.hex()}\n"
            for ordinal, event, _, fingerprint, _ in self.ordered
        ]
        with self.connection.cursor() as cursor, cursor.copy(COPY_KEYS) as copy:
            copy.write("".join(rows))

    def _insert_keys(self) -> None:
        self.connection.execute(
            INSERT_KEYS,
            {
                "organization_id": self.organization_id,
                "batch_id": self.batch_id,
                "ordinals": "{" + ",".join([str(item.ordinal) for item in self.ordered]) + "}",
                "fingerprints": b"".join([item.fingerprint for item in self.ordered]),
                **_identities(self.ordered),
            },
        )

    def _copy_events(self, items: Sequence[Incoming]) -> None:
        if not items:
            return
        head = f"{self.received_at.isoformat()}\t{self.organization_id}\t{self.batch_id}"
        text = "".join([_row(head, item) for item in items])
        # These columns hold neither tab nor line end nor backslash by their alphabets: proved here.
        assert text.count("\t") == SEPARATORS * len(items)
        assert text.count("\n") == len(items)
        assert text.count("\\") == text.count("\\N")
        with self.connection.cursor() as cursor, cursor.copy(COPY_EVENTS) as copy:
            copy.write(text)

    def _sort_out(self, judge: Judge | None) -> list[Outcome | Rejected]:
        """Tell accepted, duplicate and conflict apart, and correct the batch's counts."""
        rows = self.connection.execute(
            KNOWN, {"organization_id": self.organization_id, **_identities(self.ordered)}
        )
        known = {
            (source, event_id): _Known(batch_id, ordinal, bytes(fingerprint))
            for source, event_id, batch_id, ordinal, fingerprint in rows
        }
        places = {key: (place.batch_id, place.ordinal) for key, place in known.items()}
        earlier = [place for place in places.values() if place[0] != self.batch_id]
        touched = voids.touched(self.connection, self.organization_id, earlier)
        settled, fates = judging.compare(self.incoming, judge, places, touched, self.batch_id)
        judged = [
            (item, self._status(item, known))
            for item in self.incoming
            if item.ordinal not in settled
        ]
        details = self._details(judged, known)
        found = {
            item.ordinal: Outcome(
                item.ordinal, status, _joined(details.get(item.ordinal), fates.get(item.ordinal))
            )
            for item, status in judged
        }
        outcomes = [
            found.get(item.ordinal) or _outcome(item.ordinal, settled[item.ordinal])
            for item in self.incoming
        ]
        counts = {status.value: 0 for status in Status} | {"rejected": self.rejected}
        for outcome in outcomes:
            counts[outcome.status if isinstance(outcome, Outcome) else "rejected"] += 1
        self.connection.execute(
            RECOUNT,
            {"organization_id": self.organization_id, "batch_id": self.batch_id, **counts},
        )
        return outcomes

    def _status(self, item: Incoming, known: dict[tuple[str, str], _Known]) -> Status:
        stored = known[item.event.source, item.event.id]
        if stored.batch_id == self.batch_id and stored.ordinal == item.ordinal:
            return Status.ACCEPTED
        return Status.DUPLICATE if stored.fingerprint == item.fingerprint else Status.CONFLICT

    def _details(
        self, judged: list[tuple[Incoming, Status]], known: dict[tuple[str, str], _Known]
    ) -> dict[int, str]:
        """A sentence for each event that was there before: since when, and what differs."""
        before = [
            (item, status, known[item.event.source, item.event.id])
            for item, status in judged
            if status is not Status.ACCEPTED
        ]
        stored = self._stored([place for _, _, place in before])
        details = {}
        for item, status, place in before:
            if place.batch_id == self.batch_id:
                twin = self.first[item.event.source, item.event.id]
                since, was = f"stands at index {twin.ordinal} of this batch", _content_of(twin)
            else:
                received_at, was = stored[place.batch_id, place.ordinal]
                since = f"was accepted at {received_at:%Y-%m-%dT%H:%M:%S.%fZ}"
            details[item.ordinal] = _sentence(status, since, was, _content_of(item))
        return details

    def _stored(
        self, places: Sequence[_Known]
    ) -> dict[tuple[int, int], tuple[datetime, dict[str, object]]]:
        """The events that were accepted earlier, by batch and ordinal."""
        earlier = [place for place in places if place.batch_id != self.batch_id]
        if not earlier:
            return {}
        rows = self.connection.execute(
            FIRST,
            {
                "organization_id": self.organization_id,
                "batch_ids": [place.batch_id for place in earlier],
                "ordinals": [place.ordinal for place in earlier],
            },
        )
        return {(row[0], row[1]): (row[2], _content_of_row(row[3:])) for row in rows}


def _outcome(ordinal: int, settled: Settled) -> Outcome | Rejected:
    if isinstance(settled, Rejected):
        return settled
    return Outcome(ordinal, Status.DUPLICATE if settled.same else Status.CONFLICT, settled.detail)


def _spoils(outcome: Outcome | Rejected) -> bool:
    """Whether all or nothing means nothing."""
    return isinstance(outcome, Rejected) or outcome.status is Status.CONFLICT


def _joined(detail: str | None, fate: str | None) -> str | None:
    return f"{detail} {fate}" if detail and fate else detail


def _identities(ordered: Sequence[Incoming]) -> dict[str, str]:
    return {
        "sources": "\x1f".join([item.event.source for item in ordered]),
        "event_ids": "\x1f".join([item.event.id for item in ordered]),
    }


def _escaped(text: str) -> str:
    """A source or an id in COPY's text format; control characters were refused at the door."""
    return text.replace("\\", "\\\\")


def _row(head: str, item: Incoming) -> str:
    """One line of COPY's text format."""
    ordinal, event, project_id, _, _ = item
    assert isinstance(event, UsageEvent)
    usage = event.usage
    get = usage.get
    return (
        f"{head}\t{ordinal}\t{event.occurred_at.isoformat()}\t{project_id}\t{event.model}"
        f"\t{event.api_key or NULL}\t{event.agent or NULL}\t{event.session or NULL}"
        f"\t{event.region or NULL}\t{event.service_class or NULL}"
        f"\t{get('input', NULL)}\t{get('cache_read', NULL)}\t{get('cache_write', NULL)}"
        f"\t{get('output', NULL)}\t{get('reasoning', NULL)}\t{_other(usage)}\n"
    )


NULL = "\\N"
_CORE = frozenset(registers.CORE)


def _other(usage: Any) -> str:
    """The registers that have no column of their own, as JSON."""
    if usage.keys() <= _CORE:
        return NULL
    return json.dumps({name: usage[name] for name in sorted(usage) if name not in _CORE})


_FIELDS = ("occurred_at", "project", "model", "api_key", "agent", "session", "region",
           "service_class")  # fmt: skip


def _content_of(item: Incoming) -> dict[str, object]:
    """What an event says, field by field, as a conflict compares it."""
    event = item.event
    assert isinstance(event, UsageEvent)  # voids are compared by metering.judging
    content: dict[str, object] = {
        name: getattr(event, name) for name in _FIELDS if name != "project"
    }
    content["project"] = item.project_id
    return content | {f"usage.{name}": value for name, value in event.usage.items()}


def _content_of_row(row: Sequence[Any]) -> dict[str, object]:
    content = dict(zip(_FIELDS, row, strict=False))
    core = zip(registers.CORE, row[len(_FIELDS) :], strict=False)
    usage = {name: value for name, value in core if value is not None} | (row[-1] or {})
    return content | {f"usage.{name}": value for name, value in usage.items()}


def _sentence(status: Status, since: str, was: dict[str, object], now: dict[str, object]) -> str:
    if status is Status.DUPLICATE:
        return f"The same event {since}; nothing was counted twice."
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    differing = ", ".join(_difference(name, was, now) for name in names[:SHOWN_MAX])
    more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
    return (
        f"An event with this source and id {since} with other content: {differing}{more}. The "
        "first one stands. Send this one with a new id if it is another event."
    )


def _difference(name: str, was: dict[str, object], now: dict[str, object]) -> str:
    if name == "project":  # rows, not names: say no more than that
        return "project"
    return f"{name} {_told(was.get(name))}, now {_told(now.get(name))}"


def _told(value: object) -> str:
    if value is None:
        return "absent"
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def is_outage(error: psycopg.Error) -> bool:
    """Whether an error says that the database cannot be had now, rather than that we are wrong."""
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
