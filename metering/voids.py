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

from metering.judging import Identity, Item, Judge, Place, Standing, Taking
from metering.usage.correction import Correction

_LOCK = 0x6B76_0000_0000_0000  # "kv"; the organization's number is added
LOCK = "SELECT pg_advisory_xact_lock(%s)"

PLACES = """
    SELECT sent.source, sent.id, identity.batch_id, identity.ordinal
    FROM unnest(%(sources)s::text[], %(ids)s::text[]) AS sent (source, id)
    JOIN metering_source source
      ON source.organization_id = %(organization_id)s AND source.name = sent.source
    JOIN metering_identity identity
      ON identity.organization_id = %(organization_id)s AND identity.source_id = source.id
     AND identity.id = metering_packed(sent.id)
"""
# What stands at a place, what it took back if it is a correction, and what took it back.
STANDING = """
    SELECT place.batch_id, place.ordinal, batch.received_at, event.occurred_at, event.project_id,
           CASE WHEN batch.state IN ('reverting', 'reverted') THEN batch.backfill_id END,
           own.target_batch_id, own.target_ordinal, own.reason,
           taken.received_at, taken.is_amendment, metering_unpacked(taker.id)
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = place.batch_id
    LEFT JOIN metering_event event
      ON event.organization_id = %(organization_id)s AND event.batch_id = place.batch_id
     AND event.received_at = batch.received_at AND event.ordinal = place.ordinal
    LEFT JOIN metering_void own
      ON own.organization_id = %(organization_id)s AND own.batch_id = place.batch_id
     AND own.ordinal = place.ordinal
    LEFT JOIN metering_void taken
      ON taken.organization_id = %(organization_id)s AND taken.target_batch_id = place.batch_id
     AND taken.target_ordinal = place.ordinal
    LEFT JOIN metering_identity taker
      ON taker.organization_id = %(organization_id)s AND taker.batch_id = taken.batch_id
     AND taker.ordinal = taken.ordinal
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
    rows = connection.execute(TOUCHED, _columns(organization_id, wanted)).fetchall()
    return standing(connection, organization_id, rows)


def _columns(organization_id: int, wanted: Sequence[Place]) -> dict[str, Any]:
    return {
        "organization_id": organization_id,
        "batch_ids": [batch_id for batch_id, _ in wanted],
        "ordinals": [ordinal for _, ordinal in wanted],
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
    rows = connection.execute(STANDING, _columns(organization_id, wanted))
    return {(row[0], row[1]): _standing(row) for row in rows}


def _standing(row: tuple[Any, ...]) -> Standing:
    batch_id, ordinal, received_at, occurred_at, project_id, reverted, *rest = row
    target_batch_id, target_ordinal, reason, taken_at, is_amendment, taker = rest
    return Standing(
        place=(batch_id, ordinal),
        received_at=received_at,
        occurred_at=occurred_at,
        project_id=project_id,
        reverted=reverted,
        target=None if target_batch_id is None else (target_batch_id, target_ordinal),
        reason=reason,
        taken=None if taken_at is None else Taking(taker, taken_at, is_amendment),
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
