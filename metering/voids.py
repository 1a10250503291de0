"""Corrections on their way in: which event each takes back, and whether it still can.

A batch with corrections is judged inside its own transaction, one such batch of an organization at
a time, so that an event is taken back once however many ask for it. What is taken back stays where
it is: a void is one more row, and the roll-up subtracts what it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg import Connection

from metering import segments
from metering.judging import Identity, Item, Judge, Place, Standing, Taking
from metering.segments import Content
from metering.usage.correction import Correction

Kept = Mapping[Place, tuple[datetime, Content]]

_LOCK = 0x6B76_0000_0000_0000  # "kv"; the organization's number is added
LOCK = "SELECT pg_advisory_xact_lock(%s)"

# Each identity by the index, one by one: joined as a whole, a planner without statistics compares
# every one that is asked for with every one that is stored.
PLACES = """
    SELECT sent.source, sent.id, known.batch_id, known.ordinal
    FROM unnest(%(sources)s::text[], %(ids)s::text[]) AS sent (source, id)
    JOIN metering_source source
      ON source.organization_id = %(organization_id)s AND source.name = sent.source
    CROSS JOIN LATERAL (
        SELECT identity.batch_id, identity.ordinal FROM metering_identity identity
        WHERE identity.organization_id = %(organization_id)s
          AND identity.source_id = source.id AND identity.id = metering_packed(sent.id)
        LIMIT 1) known
"""
# What stands at a place, what it took back if it is a correction, and what took it back.
STANDING = """
    SELECT place.batch_id, place.ordinal, batch.received_at,
           CASE WHEN batch.state IN ('reverting', 'reverted') THEN batch.backfill_id END,
           own.target_batch_id, own.target_ordinal, own.reason,
           taken.batch_id, taken.ordinal, taken.received_at, taken.is_amendment
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = place.batch_id
    LEFT JOIN metering_void own
      ON own.organization_id = %(organization_id)s AND own.batch_id = place.batch_id
     AND own.ordinal = place.ordinal
    LEFT JOIN metering_void taken
      ON taken.organization_id = %(organization_id)s AND taken.target_batch_id = place.batch_id
     AND taken.target_ordinal = place.ordinal
"""
# By their batches, which lie side by side; a join might read all of an organization's identities.
IDS = """
    SELECT batch_id, ordinal, metering_unpacked(id) FROM metering_identity
    WHERE organization_id = %(organization_id)s AND batch_id = ANY(%(batch_ids)s)
      AND ordinal = ANY(%(ordinals)s)
"""
TOUCHED = """
    SELECT place.batch_id, place.ordinal
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = place.batch_id
    WHERE batch.state IN ('reverting', 'reverted')
       OR EXISTS (SELECT FROM metering_void own
            WHERE own.organization_id = %(organization_id)s AND own.batch_id = place.batch_id
              AND own.ordinal = place.ordinal)
       OR EXISTS (SELECT FROM metering_void taken
            WHERE taken.organization_id = %(organization_id)s
              AND taken.target_batch_id = place.batch_id AND taken.target_ordinal = place.ordinal)
"""
WRITE = """
    INSERT INTO metering_void (organization_id, target_batch_id, target_received_at, target_ordinal,
        batch_id, received_at, ordinal, is_amendment, reaches_back_to, api_key_id, reason)
    VALUES (%(organization_id)s, %(target_batch_id)s, %(target_received_at)s, %(target_ordinal)s,
        %(batch_id)s, %(received_at)s, %(ordinal)s, %(is_amendment)s, %(reaches_back_to)s,
        %(api_key_id)s, %(reason)s)
"""


def touched(
    connection: Connection[Any], organization_id: int, asked: Iterable[Place]
) -> dict[Place, Standing]:
    """Of the places asked for, those where a correction stands, or something was taken back."""
    wanted = sorted(set(asked))
    if not wanted:
        return {}
    rows = connection.execute(TOUCHED, columns(organization_id, wanted)).fetchall()
    return standing(connection, organization_id, rows)


def columns(organization_id: int, wanted: Sequence[Place]) -> dict[str, Any]:
    """Places as two arrays."""
    return {
        "organization_id": organization_id,
        "batch_ids": [batch_id for batch_id, _ in wanted],
        "ordinals": [ordinal for _, ordinal in wanted],
    }


def apart(organization_id: int, wanted: Iterable[Place]) -> dict[str, Any]:
    """Their batches and their ordinals, each once."""
    pairs = list(wanted)
    return {
        "organization_id": organization_id,
        "batch_ids": sorted({batch_id for batch_id, _ in pairs}),
        "ordinals": sorted({ordinal for _, ordinal in pairs}),
    }


def places(
    connection: Connection[Any], organization_id: int, identities: Iterable[Identity]
) -> dict[Identity, Place]:
    """Where identities are stored; what is nowhere is not in it."""
    asked = sorted(set(identities))
    parameters = {
        "organization_id": organization_id,
        "sources": [source for source, _ in asked],
        "ids": [event_id for _, event_id in asked],
    }
    rows = connection.execute(PLACES, parameters)
    return {(source, event_id): (batch, ordinal) for source, event_id, batch, ordinal in rows}


def standing(
    connection: Connection[Any], organization_id: int, asked: Iterable[Place]
) -> dict[Place, Standing]:
    """What stands at each place."""
    wanted = sorted(set(asked))
    if not wanted:
        return {}
    rows = connection.execute(STANDING, columns(organization_id, wanted)).fetchall()
    targets = [(row[4], row[5]) for row in rows if row[4] is not None]
    kept = segments.read(connection, organization_id, {*wanted, *targets})
    takers = [(row[7], row[8]) for row in rows if row[7] is not None]
    ids: dict[Place, str] = {}
    if takers:
        found = connection.execute(IDS, apart(organization_id, takers))
        ids = {(batch_id, ordinal): event_id for batch_id, ordinal, event_id in found}
    return {(row[0], row[1]): _standing(row, kept, ids) for row in rows}


def _standing(row: tuple[Any, ...], kept: Kept, ids: Mapping[Place, str]) -> Standing:
    batch_id, ordinal, received_at, reverted, *rest = row
    target_batch_id, target_ordinal, reason, *taker, taken_at, is_amendment = rest
    _, content = kept.get((batch_id, ordinal), (None, None))
    _, told = kept.get((target_batch_id, target_ordinal), (None, None))
    of = content or told  # a void is of the project of what it took back
    return Standing(
        place=(batch_id, ordinal),
        received_at=received_at,
        occurred_at=content.occurred_at if content else None,
        project_id=of.project_id if of else None,
        reverted=reverted,
        target=None if target_batch_id is None else (target_batch_id, target_ordinal),
        reason=reason,
        taken=None if taken_at is None else Taking(ids[taker[0], taker[1]], taken_at, is_amendment),
    )


def judge(
    connection: Connection[Any],
    organization_id: int,
    items: Sequence[Item],
    *,
    batch_id: int,
    received_at: datetime,
    own_project_id: int | None,
) -> Judge:
    """Judge a batch with corrections; from now until its commit nobody else's is judged."""
    connection.execute(LOCK, [_LOCK + organization_id])
    own = [(item.event.source, item.event.id) for item in items]
    named = [(one.source, one.target) for item in items if (one := item.correction)]
    known = places(connection, organization_id, own + named)
    targets = [known[identity] for identity in named if identity in known]
    found = standing(connection, organization_id, targets)
    made = Judge(batch_id, received_at, own_project_id, known, found)
    made.judge(items)
    return made


class Overtaken(Exception):
    """Another batch took an id while this one was judged: judge it again."""


def write(
    connection: Connection[Any],
    organization_id: int,
    api_key_id: int,
    judge: Judge,
    accepted: Mapping[int, Correction],
) -> None:
    """Write down what the accepted corrections, by their place in the request, took back."""
    if accepted.keys() != judge.targets.keys():
        raise Overtaken
    rows = []
    for ordinal, correction in sorted(accepted.items()):
        target = judge.targets[ordinal]
        moments = [target.occurred_at, correction.event and correction.event.occurred_at]
        rows.append({
            "organization_id": organization_id,
            "target_batch_id": target.place[0],
            "target_received_at": target.received_at,
            "target_ordinal": target.place[1],
            "batch_id": judge.batch_id,
            "received_at": judge.received_at,
            "ordinal": ordinal,
            "is_amendment": correction.event is not None,
            "reaches_back_to": min(filter(None, moments)),
            "api_key_id": api_key_id,
            "reason": correction.reason,
        })  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(WRITE, rows)
