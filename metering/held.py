"""A batch that is held for a backfill: it goes in while that is open, and is summed up for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from psycopg import Connection

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


class BackfillNotOpen(Exception):
    """The backfill that a batch was sent into is closed or reverted, or never was."""


def hold_open(connection: Connection[Any], organization_id: int, backfill_id: int) -> None:
    """Keep the backfill open until the caller's commit, or raise BackfillNotOpen."""
    parameters = {"organization_id": organization_id, "backfill_id": backfill_id}
    if connection.execute(HOLD_OPEN, parameters).fetchone() is None:
        raise BackfillNotOpen


def sum_up(
    connection: Connection[Any],
    organization_id: int,
    batch_id: int,
    usages: Iterable[Mapping[str, int]],
) -> None:
    """Note what the batch comes to, so that nobody has to add it up again."""
    sums: Counter[str] = Counter()
    for usage in usages:
        sums.update(usage)
    parameters = {"organization_id": organization_id, "batch_id": batch_id}
    connection.execute(SUM_UP, {"sums": json.dumps(sums, sort_keys=True), **parameters})
