"""The oracle: what must be there follows from the journal and the plan, and from nothing else."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from django.db import connection

from metering import rollup
from tests.chaos.journal import Acknowledged
from tests.chaos.sender import Event, Plan, planned, quarter_hour, source_of

Sums = Counter[tuple[Any, ...]]

EVENTS = """
    SELECT key.source, count(*), count(DISTINCT key.event_id)
    FROM metering_event event
    JOIN metering_eventkey key
      ON key.organization_id = event.organization_id AND key.batch_id = event.batch_id
     AND key.ordinal = event.ordinal
    WHERE event.organization_id = %(organization_id)s AND key.organization_id = %(organization_id)s
    GROUP BY key.source
"""
IDS = "SELECT source, event_id FROM metering_eventkey WHERE organization_id = %(organization_id)s"
READINGS = """
    SELECT reading.starts_at, key.model, reading.register, sum(reading.quantity)::bigint
    FROM metering_reading reading
    JOIN metering_ratingkey key
      ON key.organization_id = reading.organization_id AND key.id = reading.rating_key_id
    WHERE reading.organization_id = %(organization_id)s
    GROUP BY 1, 2, 3
"""
HOURS = """
    SELECT register, sum(quantity)::bigint FROM metering_readinghour
    WHERE organization_id = %(organization_id)s GROUP BY 1
"""
NOT_APPLIED = """
    SELECT count(*) FROM metering_ingestbatch
    WHERE organization_id = %(organization_id)s AND state <> 'applied'
"""


def pending(organization_id: int) -> int:
    """How many batches are not in the readings yet."""
    ((count,),) = _rows(NOT_APPLIED, organization_id)
    return int(count)


def end_leases() -> None:
    """As if two minutes had passed: whoever still works on a batch loses it to the next."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE metering_ingestbatch SET lease_until = clock_timestamp()"
            " WHERE state = 'pending' AND lease_until > clock_timestamp() + interval '1 minute'"
        )


def faults(organization_id: int, plan: Plan, acknowledged: Sequence[Acknowledged]) -> list[str]:
    """Everything that is not as the journal says; empty if nothing is lost and nothing doubled."""
    wanted_ids: set[tuple[str, str]] = set()
    wanted: Sums = Counter()
    sent = count = 0
    for batch, event in planned(plan, acknowledged):
        sent += 1
        wanted_ids.add((source_of(batch.writer), event.event_id))
        if event.usage:
            count += 1
            _add(wanted, event, 1)
        if event.takes_back:
            _add(wanted, event.takes_back, -1)
    assert len(wanted_ids) == sent, "the plan gave an id twice"
    found_ids = {tuple(row) for row in _rows(IDS, organization_id)}
    found: Sums = Counter()
    for at, model, register, quantity in _rows(READINGS, organization_id):
        found[at.astimezone(UTC), model, register] = quantity
    stored = {source: (events, ids) for source, events, ids in _rows(EVENTS, organization_id)}
    return [
        *(f"lost: {one}" for one in sorted(wanted_ids - found_ids)[:10]),
        *(f"never sent: {one}" for one in sorted(found_ids - wanted_ids)[:10]),
        *_counts(stored, count),
        *(
            f"reading {key}: {found[key]} found, {wanted[key]} sent"
            for key in sorted(wanted.keys() | found.keys())
            if found[key] != wanted[key]
        ),
        *_hours(organization_id, wanted),
        *_rebuilt(organization_id),
    ]


def _add(sums: Sums, event: Event, times: int) -> None:
    at = quarter_hour(event.occurred_at)
    sums[at, event.model, "requests"] += times
    for register, quantity in event.usage.items():
        sums[at, event.model, register] += times * quantity


def _counts(stored: dict[str, tuple[int, int]], count: int) -> list[str]:
    said = [
        f"doubled: {source} has {events} events and {ids} ids"
        for source, (events, ids) in stored.items()
        if events != ids
    ]
    total = sum(events for events, _ in stored.values())
    if total != count:
        said.append(f"{total} events are stored and {count} were acknowledged")
    return said


def _hours(organization_id: int, wanted: Sums) -> list[str]:
    by_register: Counter[str] = Counter()
    for (_, _, register), quantity in wanted.items():
        by_register[register] += quantity
    found = Counter(dict(_rows(HOURS, organization_id)))
    return [] if found == by_register else [f"hours {found}, sent {by_register}"]


def _rebuilt(organization_id: int) -> list[str]:
    before = dump(organization_id)
    rollup.rebuild(organization_id)
    after = dump(organization_id)
    return [] if before == after else [f"made anew, readings are {after} and were {before}"]


def dump(organization_id: int) -> str:
    """A digest of both tables of readings, row by row, in one order."""
    digest = hashlib.sha256()
    for table in ("metering_reading", "metering_readinghour"):
        for row in _rows(
            f"SELECT organization_id, starts_at, rating_key_id, register, quantity FROM {table}"
            " WHERE organization_id = %(organization_id)s ORDER BY 1, 2, 3, 4",
            organization_id,
        ):
            digest.update(repr(row).encode())
    return digest.hexdigest()


def _rows(sql: str, organization_id: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"organization_id": organization_id})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
