"""What has become of stored events since: what took them back, and what they took back themselves.

For pages; whoever stores and sums asks `metering.voids` and `metering.netting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from metering.judging import Place
from metering.voids import IDS, apart, columns

# What took each back and what it took back itself; and the backfill, where that was reverted.
TAKEN = """
    SELECT place.batch_id, place.ordinal, void.batch_id, void.ordinal, void.received_at,
           void.is_amendment, void.reason, taking.state = 'applied',
           CASE WHEN batch.state IN ('reverting', 'reverted') THEN batch.backfill_id END,
           own.target_batch_id, own.target_ordinal
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = place.batch_id
    LEFT JOIN metering_void void
      ON void.organization_id = %(organization_id)s AND void.target_batch_id = place.batch_id
     AND void.target_ordinal = place.ordinal
    LEFT JOIN metering_ingestbatch taking
      ON taking.organization_id = %(organization_id)s AND taking.id = void.batch_id
    LEFT JOIN metering_void own
      ON own.organization_id = %(organization_id)s AND own.batch_id = place.batch_id
     AND own.ordinal = place.ordinal
    WHERE void.batch_id IS NOT NULL OR own.batch_id IS NOT NULL
       OR batch.state IN ('reverting', 'reverted')
"""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What took an event back: a void, an amendment, or the revert of its backfill."""

    by: str | None  # the id of the void or amendment
    by_place: Place | None  # where that is stored
    at: datetime | None
    is_amendment: bool  # the event called `by` counts in its place
    reason: str | None
    is_applied: bool  # the readings know of it
    backfill: int | None  # which was reverted


@dataclass(frozen=True, slots=True)
class Corrections:
    """What became of one event, and what it is itself a correction of."""

    taken_back: TakenBack | None
    amends: str | None  # the id of the event whose place this one takes
    amends_place: Place | None  # where that is stored


def voids_of(organization_id: int, places: Iterable[Place]) -> dict[Place, Corrections]:
    """Of events, by batch and ordinal, those that were taken back or are amendments themselves."""
    rows = _rows(TAKEN, columns(organization_id, sorted(set(places))))
    named = {(row[at], row[at + 1]) for row in rows for at in (2, 9) if row[at] is not None}
    ids = {(row[0], row[1]): row[2] for row in _rows(IDS, apart(organization_id, named))}
    return {(row[0], row[1]): _corrections(row, ids) for row in rows}


def _corrections(row: tuple[Any, ...], ids: Mapping[Place, str]) -> Corrections:
    _, _, *taker, at, is_amendment, reason, is_applied, backfill, batch_id, ordinal = row
    by = ids.get((taker[0], taker[1]))
    amends = ids.get((batch_id, ordinal))
    taken = None
    if by is not None or backfill is not None:
        place = None if by is None else (taker[0], taker[1])
        taken = TakenBack(by, place, at, bool(is_amendment), reason, bool(is_applied), backfill)
    return Corrections(taken, amends, None if amends is None else (batch_id, ordinal))


def _rows(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    if not parameters["batch_ids"]:
        return []
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
