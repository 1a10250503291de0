"""From pending batches to readings: claimed with a lease, summed in the database, applied once.

Adding a batch to the readings and marking it applied are one transaction, so a batch is in them
wholly and once, in whatever order, however split, and however often its message came.

A batch fails by itself: groups hold only batches that were never tried. One that was tried before,
be it that it failed or that its worker died, goes alone.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.utils import Error, OperationalError

from metering import limits, minutes, netting, summing
from metering.netting import Events
from metering.summing import NotThere, Parameters

GROUP_MAX = 200  # batches a transaction
LEASE = timedelta(seconds=120)
ATTEMPTS_MAX = 5
PAUSES = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2))
ERROR_LENGTH_MAX = 500

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Somebody else has the batch now: whatever was summed here must not count."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Batches that are ours until the lease ends."""

    token: uuid.UUID
    organization_ids: Sequence[int]
    batch_ids: Sequence[int]
    received_first_at: datetime
    received_last_at: datetime
    attempts: int

    def __len__(self) -> int:
        return len(self.batch_ids)

    def parts(self) -> list[Claim]:
        """The same batches, one by one."""
        return [
            Claim(self.token, [organization_id], [batch_id], self.received_first_at,
                  self.received_last_at, self.attempts)
            for organization_id, batch_id in zip(
                self.organization_ids, self.batch_ids, strict=True)
        ]  # fmt: skip


# Organizations take turns: one with a long queue does not make the others wait for its end. The few
# that have anything open are found by skipping through the index of what is open.
CLAIM_UNTRIED = """
    WITH RECURSIVE waiting (organization_id) AS (
        (SELECT organization_id FROM metering_ingestbatch
         WHERE state = 'pending' AND attempts = 0 ORDER BY organization_id LIMIT 1)
        UNION ALL
        SELECT (SELECT next.organization_id FROM metering_ingestbatch next
                WHERE next.state = 'pending' AND next.attempts = 0
                  AND next.organization_id > waiting.organization_id
                ORDER BY next.organization_id LIMIT 1)
        FROM waiting WHERE waiting.organization_id IS NOT NULL
    ), turn AS (
        SELECT queue.organization_id, queue.id
        FROM waiting CROSS JOIN LATERAL (
            SELECT batch.organization_id, batch.id,
                   row_number() OVER (ORDER BY batch.id) AS turn
            FROM metering_ingestbatch batch
            WHERE batch.organization_id = waiting.organization_id
              AND batch.state = 'pending' AND batch.attempts = 0
              AND (batch.lease_until IS NULL OR batch.lease_until < clock_timestamp())
            ORDER BY batch.id LIMIT %(limit)s) queue
        ORDER BY queue.turn, queue.id LIMIT %(limit)s
    ), open AS (
        SELECT organization_id, id FROM metering_ingestbatch
        WHERE (organization_id, id) IN (SELECT organization_id, id FROM turn)
          AND state = 'pending' AND attempts = 0
        ORDER BY id
        FOR UPDATE SKIP LOCKED
    )
"""
CLAIM_TRIED = """
    WITH open AS (
        SELECT organization_id, id FROM metering_ingestbatch
        WHERE state = 'pending' AND attempts > 0
          AND (lease_until IS NULL OR lease_until < clock_timestamp())
        ORDER BY id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
"""
CLAIMED = """
    UPDATE metering_ingestbatch batch
    SET lease_token = %(token)s, lease_until = clock_timestamp() + %(lease)s,
        attempts = attempts + 1
    FROM open
    WHERE batch.organization_id = open.organization_id AND batch.id = open.id
    RETURNING batch.organization_id, batch.id, batch.received_at, batch.attempts
"""


ABANDON = """
    UPDATE metering_ingestbatch
    SET state = 'failed', lease_token = NULL, last_error = 'its worker died again and again'
    WHERE state = 'pending' AND attempts >= %(attempts_max)s
      AND lease_token IS NOT NULL AND lease_until < clock_timestamp()
"""


def claim(limit: int = GROUP_MAX, *, lease: timedelta = LEASE) -> Claim | None:
    """Take open batches that nobody works on: a group of untried ones, or one that was tried."""
    with connection.cursor() as cursor:
        cursor.execute(ABANDON, {"attempts_max": ATTEMPTS_MAX})
    for chosen, most in ((CLAIM_UNTRIED, limit), (CLAIM_TRIED, 1)):
        token = uuid.uuid4()
        with transaction.atomic(), connection.cursor() as cursor:
            parameters: Parameters = {"limit": most, "token": token, "lease": lease}
            cursor.execute(chosen + CLAIMED, parameters)
            rows = sorted(cursor.fetchall())
        if rows:
            moments = [row[2] for row in rows]
            return Claim(
                token=token,
                organization_ids=[row[0] for row in rows],
                batch_ids=[row[1] for row in rows],
                received_first_at=min(moments),
                received_last_at=max(moments),
                attempts=max(row[3] for row in rows),
            )
    return None


APPLIED = """
    UPDATE metering_ingestbatch batch
    SET state = 'applied', applied_at = clock_timestamp(), lease_token = NULL, lease_until = NULL,
        last_error = '', limits_version = %(version)s,
        has_minutes = batch.organization_id = ANY(%(by_minute)s::bigint[])
    FROM unnest(%(organization_ids)s::bigint[], %(batch_ids)s::bigint[])
         AS ours (organization_id, id)
    WHERE batch.organization_id = ours.organization_id AND batch.id = ours.id
      AND batch.state = 'pending' AND batch.lease_token = %(token)s
"""

# Which segments: those of our batches, in the partitions of the time in which they came.
OURS = """
    FROM unnest(%(organization_ids)s::bigint[], %(batch_ids)s::bigint[])
         AS ours (organization_id, batch_id)
    JOIN metering_segment segment
      ON segment.organization_id = ours.organization_id AND segment.batch_id = ours.batch_id
     AND segment.received_at BETWEEN %(received_first_at)s AND %(received_last_at)s
    CROSS JOIN (SELECT %(limits)s::bigint[] AS limits) AS told
"""
OURS_BY_MINUTE = Events(OURS, "true", "segment.organization_id = ANY(%(by_minute)s::bigint[])")


def apply(claim: Claim) -> None:
    """Add the batches to the readings and mark them, in one transaction; or raise and do neither.

    Marking comes first: it locks the batches, so that nobody can claim them while we sum. What is
    voided leaves in the same transaction.
    """
    parameters: Parameters = {
        "organization_ids": list(claim.organization_ids),
        "batch_ids": list(claim.batch_ids),
        "token": claim.token,
        "received_first_at": claim.received_first_at,
        "received_last_at": claim.received_last_at,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        alone = netting.concerned(cursor, parameters)
        netting.lock(cursor, claim.organization_ids, alone)
        told = limits.newest(cursor)
        by_minute = minutes.asked_by(cursor, claim.organization_ids)
        parameters |= {
            "version": told.version,
            "limits": list(told.limits),
            "by_minute": by_minute,
        }
        cursor.execute(APPLIED, parameters)
        if cursor.rowcount != len(claim):
            raise LeaseLost(f"{len(claim) - cursor.rowcount} of {len(claim)} batches are not ours")
        summing.add_all(cursor, OURS, parameters)
        if by_minute:
            minutes.add(cursor, OURS_BY_MINUTE, parameters)
        if netting.concerned(cursor, parameters):  # perhaps only since we asked first
            summing.subtract(cursor, netting.VOIDED, parameters)
            if by_minute:
                minutes.subtract(cursor, netting.VOIDED, parameters)


FAILED = """
    UPDATE metering_ingestbatch
    SET lease_token = NULL, lease_until = clock_timestamp() + %(pause)s, last_error = %(error)s,
        attempts = attempts - %(outage)s::int,
        state = CASE WHEN attempts - %(outage)s::int >= %(attempts_max)s THEN 'failed'
                ELSE state END
    WHERE organization_id = %(organization_id)s AND id = %(batch_id)s
      AND state = 'pending' AND lease_token = %(token)s
"""


def apply_or_postpone(claim: Claim) -> int:
    """Apply a claim; where that fails, batch by batch, so that one cannot hold up the others.

    Returns how many batches were applied.
    """
    try:
        apply(claim)
    except LeaseLost as lost:
        logger.warning("a lease was lost: %s", lost)
        return apply_or_postpone(left) if (left := _still_ours(claim)) else 0
    except (Error, NotThere) as error:
        if len(claim) > 1:
            return sum(apply_or_postpone(part) for part in claim.parts())
        postpone(claim, error)
        return 0
    return len(claim)


STILL_OURS = """
    SELECT batch.organization_id, batch.id
    FROM unnest(%(organization_ids)s::bigint[], %(batch_ids)s::bigint[])
         AS ours (organization_id, id)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = ours.organization_id AND batch.id = ours.id
    WHERE batch.state = 'pending' AND batch.lease_token = %(token)s
    ORDER BY batch.organization_id, batch.id
"""


def _still_ours(claim: Claim) -> Claim | None:
    """The claim without the batches that went to somebody else or were reverted; None where that
    is all of it, or none, so that whoever goes on with it comes to an end."""
    parameters: Parameters = {
        "organization_ids": list(claim.organization_ids),
        "batch_ids": list(claim.batch_ids),
        "token": claim.token,
    }
    with connection.cursor() as cursor:
        cursor.execute(STILL_OURS, parameters)
        left = cursor.fetchall()
    if not 0 < len(left) < len(claim):
        return None
    organization_ids, batch_ids = zip(*left, strict=True)
    return replace(claim, organization_ids=organization_ids, batch_ids=batch_ids)


def pause_after(attempts: int) -> timedelta:
    """How long whatever failed so often is left alone."""
    return PAUSES[min(attempts, len(PAUSES)) - 1]


def postpone(claim: Claim, error: Exception) -> None:
    """Give a batch back with its error: later again, or failed once it was tried often enough.

    A database that is down, locked or too busy is not the batch's fault and does not count.
    """
    logger.error("batch %s was not applied: %s", claim.batch_ids, error)
    parameters: Parameters = {
        "organization_id": claim.organization_ids[0],
        "batch_id": claim.batch_ids[0],
        "token": claim.token,
        "pause": pause_after(claim.attempts),
        "error": str(error)[:ERROR_LENGTH_MAX],
        "attempts_max": ATTEMPTS_MAX,
        "outage": isinstance(error, OperationalError),
    }
    with connection.cursor() as cursor:
        cursor.execute(FAILED, parameters)


def apply_pending(limit: int = GROUP_MAX) -> int:
    """Claim once and apply; how many batches were claimed. Zero means that nothing is open."""
    claimed = claim(limit)
    if claimed is None:
        return 0
    apply_or_postpone(claimed)
    return len(claimed)


def retry_failed(organization_id: int, batch_id: int) -> bool:
    """Put a failed batch back to work. False: it is not failed, or somebody did so before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE metering_ingestbatch SET state = 'pending', attempts = 0, lease_until = NULL"
            " WHERE organization_id = %s AND id = %s AND state = 'failed'",
            [organization_id, batch_id],
        )
        return bool(cursor.rowcount == 1)


TOLD_ANEW = """
    UPDATE metering_ingestbatch SET limits_version = %(version)s
    WHERE organization_id = %(organization_id)s AND applied_at IS NOT NULL
      AND limits_version < %(version)s
"""


def rebuild(organization_id: int) -> None:
    """Make the organization's readings anew from its events: those ever applied, less what is out.

    They are told apart by the limits of now. Waits for roll-ups under way, and they wait for it.
    Rating keys stay, so nothing else changes.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        netting.lock(cursor, [organization_id], alone=[organization_id])
        parameters: Parameters = {
            "organization_id": organization_id,
            "version": limits.newest(cursor).version,
        }
        cursor.execute(TOLD_ANEW, parameters)
        for table in ("metering_reading", "metering_readinghour", "metering_minute"):
            cursor.execute(f"DELETE FROM {table} WHERE organization_id = %s", [organization_id])  # noqa: S608
        summing.add_all(cursor, netting.EVER_IN, parameters)
        summing.subtract(cursor, netting.OUT_BY_NOW, parameters)
        if minutes.asked_by(cursor, [organization_id]):
            minutes.add(cursor, netting.EVER_IN_BY_MINUTE, parameters)
            minutes.subtract(cursor, netting.OUT_BY_NOW, parameters)
