"""Batches of a closed backfill that was reverted leave the readings, a few at a time.

The rows say what is left to do. Leaving and being marked are one transaction, so each batch leaves
wholly and once; a worker that dies leaves nothing half done.
"""

from __future__ import annotations

from django.db import connection, transaction

from accounts import prepared
from metering import netting, rollup

BATCHES_MAX = 20  # a transaction

NEXT = """
    SELECT organization_id FROM metering_ingestbatch WHERE state = 'reverting' ORDER BY id LIMIT 1
"""
THEIRS = """
    SELECT id, received_at FROM metering_ingestbatch
    WHERE organization_id = %s AND state = 'reverting' ORDER BY id LIMIT %s FOR UPDATE
"""
DONE = """
    UPDATE metering_ingestbatch SET state = 'reverted'
    WHERE organization_id = %s AND id = ANY(%s) AND state = 'reverting'
"""


LEAVING = """
    SELECT EXISTS (SELECT FROM metering_ingestbatch
        WHERE organization_id = %s AND backfill_id IS NOT NULL AND state = 'reverting')
"""


def is_being_taken_out(organization_id: int) -> bool:
    """Whether usage of a reverted backfill is still in an organization's readings."""
    ((leaving,),) = prepared.rows(LEAVING, [organization_id])
    return bool(leaving)


def apply_reverts() -> int:
    """Take some batches out of the readings; how many. Zero means that none is left."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(NEXT)
        found = cursor.fetchone()
        if found is None:
            return 0
        (organization_id,) = found
        netting.lock(cursor, [organization_id], alone=[organization_id])
        cursor.execute(THEIRS, [organization_id, BATCHES_MAX])
        batches = cursor.fetchall()
        if not batches:  # another worker had them while this one waited
            return 0
        parameters = {
            "organization_ids": [organization_id] * len(batches),
            "batch_ids": [batch_id for batch_id, _ in batches],
            "received_at": [received_at for _, received_at in batches],
        }
        rollup.subtract(cursor, netting.REVERTED, parameters)
        cursor.execute(DONE, [organization_id, parameters["batch_ids"]])
    return len(batches)
