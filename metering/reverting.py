"""Batches of a closed backfill that was reverted leave the readings, claimed as in the roll-up.

The rows say what is left to do. A claim has a lease; leaving and being marked are one transaction,
so each batch leaves wholly and once, and a worker that dies leaves nothing half done. A batch that
fails is tried again alone, after a pause, and waits for a person once it was tried often enough:
whatever else is to leave or to come goes on.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.utils import Error, OperationalError

from metering import minutes, netting, rollup, summing
from metering.rollup import ATTEMPTS_MAX, CLAIMED, ERROR_LENGTH_MAX, LEASE, LeaseLost
from metering.summing import Parameters

BATCHES_MAX = 20  # a transaction

logger = logging.getLogger(__name__)

_FREE = "state = 'reverting' AND (lease_until IS NULL OR lease_until < clock_timestamp())"
# Those of one organization that were never tried, as what leaves has its readings to itself.
CLAIM_UNTRIED = f"""
    WITH open AS (
        SELECT organization_id, id FROM metering_ingestbatch
        WHERE {_FREE} AND attempts = 0 AND organization_id = (
            SELECT organization_id FROM metering_ingestbatch
            WHERE {_FREE} AND attempts = 0 ORDER BY id LIMIT 1)
        ORDER BY id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
"""  # noqa: S608 - our own texts
CLAIM_TRIED = f"""
    WITH open AS (
        SELECT organization_id, id FROM metering_ingestbatch
        WHERE {_FREE} AND attempts BETWEEN 1 AND {ATTEMPTS_MAX - 1}
        ORDER BY id LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
"""  # noqa: S608
ABANDON = """
    UPDATE metering_ingestbatch
    SET lease_token = NULL, last_error = 'its worker died again and again'
    WHERE state = 'reverting' AND attempts >= %(attempts_max)s
      AND lease_token IS NOT NULL AND lease_until < clock_timestamp()
"""
DONE = """
    UPDATE metering_ingestbatch
    SET state = 'reverted', lease_token = NULL, lease_until = NULL, last_error = ''
    WHERE organization_id = %(organization_id)s AND id = ANY(%(batch_ids)s)
      AND state = 'reverting' AND lease_token = %(token)s
"""
FAILED = """
    UPDATE metering_ingestbatch
    SET lease_token = NULL, lease_until = clock_timestamp() + %(pause)s, last_error = %(error)s,
        attempts = attempts - %(outage)s::int
    WHERE organization_id = %(organization_id)s AND id = ANY(%(batch_ids)s)
      AND state = 'reverting' AND lease_token = %(token)s
"""
RETRY = """
    UPDATE metering_ingestbatch SET attempts = 0, lease_until = NULL
    WHERE organization_id = %s AND id = %s AND state = 'reverting' AND attempts >= %s
      AND lease_token IS NULL
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Batches of one organization that are ours until the lease ends."""

    token: uuid.UUID
    organization_id: int
    batches: Sequence[tuple[int, datetime]]  # by number, with when each was received
    attempts: int

    def __len__(self) -> int:
        return len(self.batches)

    def parts(self) -> list[Claim]:
        """The same batches, one by one."""
        return [
            Claim(self.token, self.organization_id, [batch], self.attempts)
            for batch in self.batches
        ]

    def parameters(self) -> Parameters:
        return {
            "token": self.token,
            "organization_id": self.organization_id,
            "organization_ids": [self.organization_id] * len(self.batches),
            "batch_ids": [batch_id for batch_id, _ in self.batches],
            "received_at": [received_at for _, received_at in self.batches],
        }


def claim(*, lease: timedelta = LEASE) -> Claim | None:
    """Take batches to revert that nobody works on: a group of untried ones, or one that was."""
    with connection.cursor() as cursor:
        cursor.execute(ABANDON, {"attempts_max": ATTEMPTS_MAX})
    for chosen in (CLAIM_UNTRIED, CLAIM_TRIED):
        token = uuid.uuid4()
        with transaction.atomic(), connection.cursor() as cursor:
            parameters: Parameters = {"limit": BATCHES_MAX, "token": token, "lease": lease}
            cursor.execute(chosen + CLAIMED, parameters)
            rows = sorted(cursor.fetchall())
        if rows:
            batches = [(batch_id, received_at) for _, batch_id, received_at, _ in rows]
            return Claim(token, rows[0][0], batches, max(row[3] for row in rows))
    return None


def apply(claim: Claim) -> None:
    """Take the batches out of the readings and mark them, in one transaction; or raise and do
    neither. They are marked first, which says whether they are still ours."""
    parameters = claim.parameters()
    with transaction.atomic(), connection.cursor() as cursor:
        netting.lock(cursor, [claim.organization_id], alone=[claim.organization_id])
        cursor.execute(DONE, parameters)
        if cursor.rowcount != len(claim):
            raise LeaseLost(f"{len(claim) - cursor.rowcount} of {len(claim)} batches are not ours")
        summing.subtract(cursor, netting.REVERTED, parameters)
        if minutes.asked_by(cursor, [claim.organization_id]):
            minutes.subtract(cursor, netting.REVERTED, parameters)


def apply_or_postpone(claim: Claim) -> int:
    """Apply a claim; where that fails, batch by batch, so that one cannot hold up the others.

    Returns how many batches left.
    """
    try:
        apply(claim)
    except LeaseLost as lost:
        logger.warning("a lease was lost: %s", lost)
        return 0
    except (Error, summing.NotThere) as error:
        if len(claim) > 1:
            return sum(apply_or_postpone(part) for part in claim.parts())
        _postpone(claim, error)
        return 0
    return len(claim)


def _postpone(claim: Claim, error: Exception) -> None:
    """Give a batch back with its error; an outage is not its fault and does not count."""
    logger.error("batch %s was not reverted: %s", claim.batches[0][0], error)
    parameters: Parameters = claim.parameters() | {
        "pause": rollup.pause_after(claim.attempts),
        "error": str(error)[:ERROR_LENGTH_MAX],
        "outage": isinstance(error, OperationalError),
    }
    with connection.cursor() as cursor:
        cursor.execute(FAILED, parameters)


def apply_reverts() -> int:
    """Claim once and apply; how many batches were claimed. Zero means that none is open."""
    claimed = claim()
    if claimed is None:
        return 0
    apply_or_postpone(claimed)
    return len(claimed)


def retry(organization_id: int, batch_id: int) -> bool:
    """Let a batch leave that was tried often enough. False: it is not stuck, or no more."""
    with connection.cursor() as cursor:
        cursor.execute(RETRY, [organization_id, batch_id, ATTEMPTS_MAX])
        return bool(cursor.rowcount == 1)
