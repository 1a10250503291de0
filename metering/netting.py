"""What the readings leave out: events that were voided, and those of reverted backfills.

An event is in the readings from when its batch is applied. It is out of them again once the batch
of its void is applied too, whichever of the two comes last; or once its own batch is reverted. So
the order of batches does not matter, nobody waits for anybody, and each event leaves once. Batches
of an organization that concern corrections are applied one after the other, not side by side.

Whatever leaves has the limits of input that its batch was told apart by, `told`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db.backends.utils import CursorWrapper

Parameters = dict[str, Any]


class Events(NamedTuple):
    """Which events, in texts."""

    segments: str  # finds their segments
    which: str  # tells them from the others
    in_minutes: str  # whether their batch is in the sums by the minute


# The voids that the batches of a claim concern: those that came in them, those of their events.
_CONCERNED = """
    FROM unnest(%(organization_ids)s::bigint[], %(batch_ids)s::bigint[])
         AS ours (organization_id, batch_id)
    JOIN metering_void void
      ON void.organization_id = ours.organization_id AND void.{side} = ours.batch_id
"""
_BY = _CONCERNED.format(side="batch_id")
_OF = _CONCERNED.format(side="target_batch_id")
CONCERNED = f"SELECT void.organization_id {_BY} UNION SELECT void.organization_id {_OF}"
# Their events, where the void counts and the event is in: one of the two has just come to be so.
VOIDED = Events(
    f"""
    FROM (
        SELECT void.organization_id, void.target_batch_id AS batch_id,
               void.target_received_at AS received_at, target.limits_version,
               target.has_minutes, array_agg(void.target_ordinal) AS ordinals
        FROM (SELECT void.* {_BY} UNION SELECT void.* {_OF}) AS void
        JOIN metering_ingestbatch taker
          ON taker.organization_id = void.organization_id AND taker.id = void.batch_id
         AND taker.state = 'applied'
        JOIN metering_ingestbatch target
          ON target.organization_id = void.organization_id AND target.id = void.target_batch_id
         AND target.state IN ('applied', 'reverting')
        GROUP BY 1, 2, 3, 4, 5
    ) AS void
    JOIN metering_segment segment
      ON segment.organization_id = void.organization_id AND segment.batch_id = void.batch_id
     AND segment.received_at = void.received_at
    JOIN metering_inputlimits told ON told.version = void.limits_version
    """,  # noqa: S608 - our own texts
    "event.ordinal = ANY(void.ordinals)",
    "void.has_minutes",
)
# Which of a segment's events are voided, looked up once for all of them.
_VOIDED_THERE = """
    SELECT array_agg(void.target_ordinal) AS ordinals
    FROM metering_void void
    JOIN metering_ingestbatch taker
      ON taker.organization_id = void.organization_id AND taker.id = void.batch_id
     AND taker.state = 'applied'
    WHERE void.organization_id = segment.organization_id
      AND void.target_batch_id = segment.batch_id
"""
# Batches whose events are in, save those whose void has taken them out already.
OF_BATCHES = f"""
    FROM unnest(%(organization_ids)s::bigint[], %(batch_ids)s::bigint[],
                %(received_at)s::timestamptz[]) AS ours (organization_id, batch_id, received_at)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = ours.organization_id AND batch.id = ours.batch_id
    JOIN metering_segment segment
      ON segment.organization_id = ours.organization_id AND segment.batch_id = ours.batch_id
     AND segment.received_at = ours.received_at
    CROSS JOIN LATERAL ({_VOIDED_THERE}) AS voided
"""
STILL_IN = "(voided.ordinals IS NULL OR event.ordinal <> ALL(voided.ordinals))"
REVERTED = Events(
    f"{OF_BATCHES} JOIN metering_inputlimits told ON told.version = batch.limits_version",
    STILL_IN,
    "batch.has_minutes",
)
# All that ever was in, and of it all that is out.
EVER_IN = """
    FROM metering_ingestbatch ours
    JOIN metering_segment segment
      ON segment.organization_id = ours.organization_id AND segment.batch_id = ours.id
     AND segment.received_at = ours.received_at
     AND ours.organization_id = %(organization_id)s AND ours.applied_at IS NOT NULL
    JOIN metering_inputlimits told ON told.version = ours.limits_version
"""
EVER_IN_BY_MINUTE = Events(EVER_IN, "true", "ours.has_minutes")
OUT_BY_NOW = Events(
    f"""{EVER_IN}
    JOIN LATERAL ({_VOIDED_THERE}) AS voided
      ON ours.state = 'reverted' OR voided.ordinals IS NOT NULL
    """,
    "ours.state = 'reverted' OR event.ordinal = ANY(voided.ordinals)",
    "ours.has_minutes",
)

LOCK = """
    SELECT CASE WHEN alone THEN pg_advisory_xact_lock(id)::text
                ELSE pg_advisory_xact_lock_shared(id)::text END
    FROM unnest(%s::bigint[], %s::boolean[]) AS wanted (id, alone)
"""
_LOCK = 0x6B74_0000_0000_0000  # "kt"; the organization's number is added


def lock(cursor: CursorWrapper, organization_ids: Iterable[int], alone: Iterable[int]) -> None:
    """Keep rebuilds of these organizations out until the transaction ends; for `alone` also the
    application of other batches. Everybody takes the locks in one order."""
    ordered, exclusive = sorted(set(organization_ids)), set(alone)
    cursor.execute(LOCK, [[_LOCK + one for one in ordered], [one in exclusive for one in ordered]])


def concerned(cursor: CursorWrapper, parameters: Parameters) -> Sequence[int]:
    """The organizations of a claim in which a correction and its batches meet."""
    cursor.execute(CONCERNED, parameters)
    return [organization_id for (organization_id,) in cursor.fetchall()]
