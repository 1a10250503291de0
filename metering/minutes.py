"""Sums by the minute, for organizations whose prices ask for a peak within a quarter-hour.

Nobody else pays for them. A batch carries whether its events are in these sums (`has_minutes`), and
whatever leaves the readings leaves them by the flag of its batch, so they are exact whichever
batches were summed by the minute already. By API key and register, which is all that a peak is told
apart by.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db.backends.utils import CursorWrapper

from metering import summing
from metering.netting import OF_BATCHES, STILL_IN, Events
from metering.summing import SUMMED, NotThere, Parameters

ASK = """
    INSERT INTO metering_minuteneed (organization_id)
    SELECT unnest(%s::bigint[]) ORDER BY 1 ON CONFLICT DO NOTHING
"""
ASKED = "SELECT organization_id FROM metering_minuteneed WHERE organization_id = ANY(%s)"
# A key that is missing is refused by the table, not left out by the join.
_NAMED = """, named AS MATERIALIZED (
        SELECT summed.organization_id, summed.starts_at, attribution.api_key, summed.register,
               sum(summed.quantity)::bigint AS quantity
        FROM summed
        LEFT JOIN metering_attribution attribution
          ON attribution.organization_id = summed.organization_id
         AND attribution.id = summed.attribution_id
        GROUP BY 1, 2, 3, 4
    )
"""
ADD = (
    SUMMED  # noqa: S608 - texts of our own
    + _NAMED
    + """
    INSERT INTO metering_minute AS minute (organization_id, starts_at, api_key, register, quantity)
    SELECT organization_id, starts_at, api_key, register, quantity FROM named
    ORDER BY 1, 2, 3, 4
    ON CONFLICT (organization_id, starts_at, api_key, register)
    DO UPDATE SET quantity = minute.quantity + excluded.quantity
"""
)
SUBTRACT = (
    SUMMED  # noqa: S608 - texts of our own
    + _NAMED
    + """, from_minutes AS (
        UPDATE metering_minute minute SET quantity = minute.quantity - named.quantity
        FROM named
        WHERE minute.organization_id = named.organization_id
          AND minute.starts_at = named.starts_at AND minute.api_key = named.api_key
          AND minute.register = named.register
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM named) = (SELECT count(*) FROM from_minutes)
"""
)
_KEY = "organization_id, attribution_id"
# Of batches that were applied before anybody asked: what of them is still in the readings.
NOT_YET_IN = Events(OF_BATCHES, STILL_IN, "NOT batch.has_minutes")
MARK = """
    UPDATE metering_ingestbatch SET has_minutes = true
    WHERE organization_id = %(organization_id)s AND id = ANY(%(batch_ids)s) AND NOT has_minutes
"""


def ask(cursor: CursorWrapper, organization_ids: Collection[int]) -> None:
    """Sum all their usage by the minute from now on."""
    cursor.execute(ASK, [sorted(organization_ids)])


def asked_by(cursor: CursorWrapper, organization_ids: Collection[int]) -> list[int]:
    """Those whose usage is summed by the minute; under their lock, so nobody asks meanwhile
    without being seen by whoever comes next."""
    cursor.execute(ASKED, [list(organization_ids)])
    return [organization_id for (organization_id,) in cursor.fetchall()]


def add(cursor: CursorWrapper, entering: Events, parameters: Parameters) -> None:
    """Sum those of some events whose batch is marked as being in."""
    events = summing.some_by_minute(entering)
    cursor.execute(ADD.format(events=events, key=_KEY), parameters)


def subtract(cursor: CursorWrapper, leaving: Events, parameters: Parameters) -> None:
    """Take those of some events out again whose batch is in."""
    events = summing.some_by_minute(leaving)
    cursor.execute(SUBTRACT.format(events=events, key=_KEY), parameters)
    (whole,) = cursor.fetchone()
    if not whole:
        raise NotThere("some minutes of what was voided or reverted are missing")


def catch_up(cursor: CursorWrapper, parameters: Parameters) -> None:
    """Sum batches by the minute that were applied before anybody asked, and mark them."""
    add(cursor, NOT_YET_IN, parameters)
    cursor.execute(MARK, parameters)
