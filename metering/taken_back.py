"""What has become of stored events since: what took them back, and what they took back themselves.

For pages; whoever stores and sums asks `metering.voids` and `metering.netting`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from metering.judging import Place

# The ids of what took back and what was taken back; and the backfill, where that was reverted.
TAKEN = """
    SELECT place.batch_id, place.ordinal, void.received_at, void.is_amendment, void.reason,
           taker.event_id, taking.state = 'applied',
           CASE WHEN batch.state IN ('reverting', 'reverted') THEN batch.backfill_id END,
           original.event_id
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = place.batch_id
    LEFT JOIN metering_void void
      ON void.organization_id = %(organization_id)s AND void.target_batch_id = place.batch_id
     AND void.target_ordinal = place.ordinal
    LEFT JOIN metering_ingestbatch taking
      ON taking.organization_id = %(organization_id)s AND taking.id = void.batch_id
    LEFT JOIN metering_eventkey taker
      ON taker.organization_id = %(organization_id)s AND taker.batch_id = void.batch_id
     AND taker.ordinal = void.ordinal
    LEFT JOIN metering_void own
      ON own.organization_id = %(organization_id)s AND own.batch_id = place.batch_id
     AND own.ordinal = place.ordinal
    LEFT JOIN metering_eventkey original
      ON original.organization_id = %(organization_id)s AND original.batch_id = own.target_batch_id
     AND original.ordinal = own.target_ordinal
    WHERE void.batch_id IS NOT NULL OR own.batch_id IS NOT NULL
       OR batch.state IN ('reverting', 'reverted')
"""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What took an event back: a void, an amendment, or the revert of its backfill."""

    by: str | None  # the id of the void or amendment
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


def voids_of(organization_id: int, places: Iterable[Place]) -> dict[Place, Corrections]:
    """Of events, by batch and ordinal, those that were taken back or are amendments themselves."""
    wanted = sorted(set(places))
    if not wanted:
        return {}
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "batch_ids": [batch_id for batch_id, _ in wanted],
        "ordinals": [ordinal for _, ordinal in wanted],
    }
    with connection.cursor() as cursor:
        cursor.execute(TAKEN, parameters)
        return {(row[0], row[1]): _corrections(*row[2:]) for row in cursor.fetchall()}


def _corrections(
    at: datetime | None,
    is_amendment: bool | None,
    reason: str | None,
    by: str | None,
    is_applied: bool | None,
    backfill: int | None,
    amends: str | None,
) -> Corrections:
    taken = None
    if by is not None or backfill is not None:
        taken = TakenBack(by, at, bool(is_amendment), reason, bool(is_applied), backfill)
    return Corrections(taken, amends)
