"""Closed periods: stretches of time of which an organization's usage is settled.

Whoever settles says so here, in its own transaction, and takes it back likewise. Metering goes on
accepting such usage; it only says that it is late. Why a period is closed it does not know.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from accounts import prepared
from metering.usage.flags import ClosedPeriod

CLOSE = """
    INSERT INTO metering_closedperiod (organization_id, ends_at, starts_at)
    VALUES (%(organization_id)s, %(ends_at)s, %(starts_at)s)
    ON CONFLICT (organization_id, ends_at, starts_at) DO UPDATE SET closed_at = excluded.closed_at
"""
OPEN_AGAIN = """
    DELETE FROM metering_closedperiod
    WHERE organization_id = %(organization_id)s AND ends_at = %(ends_at)s
      AND starts_at = %(starts_at)s
"""
SINCE = """
    SELECT starts_at, ends_at, closed_at FROM metering_closedperiod
    WHERE organization_id = %s AND ends_at > %s
    ORDER BY ends_at
"""


def close(organization_id: int, starts_at: datetime, ends_at: datetime) -> None:
    """From the caller's commit on, usage of this half-open period comes late."""
    _run(CLOSE, organization_id, starts_at, ends_at)


def open_again(organization_id: int, starts_at: datetime, ends_at: datetime) -> None:
    """Take `close` back: nothing of the period is late any more, whenever it came."""
    _run(OPEN_AGAIN, organization_id, starts_at, ends_at)


def since(connection: Connection[Any], organization_id: int, first: datetime) -> list[ClosedPeriod]:
    """The closed periods that end after an instant, in their order."""
    found = connection.execute(SINCE, [organization_id, first])
    return [ClosedPeriod(*row) for row in found]


def _run(statement: str, organization_id: int, starts_at: datetime, ends_at: datetime) -> None:
    with prepared.cursor() as cursor:
        cursor.execute(
            statement,
            {"organization_id": organization_id, "starts_at": starts_at, "ends_at": ends_at},
        )
