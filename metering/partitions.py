"""Where events lie: one partition per week of `received_at`, Monday to Monday, UTC.

A week, because at a hundred million events a day a month would be too large an index to keep in
memory and too large a piece to archive, while days would make 365 partitions a year for the planner
to look through on a small machine. `received_at` is the database's own clock, so the next weeks
are always known; what no week was made for falls into the overflow partition and is counted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

WEEK = timedelta(weeks=1)
TABLE = "metering_segment"
AHEAD = 3  # weeks made before they are needed
LOCK_TIMEOUT = "2s"  # attaching waits for nobody longer than this; the next hour tries again
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


class Connection(Protocol):
    """Django's connection or psycopg's own."""

    def cursor(self) -> Any:
        """A cursor that is a context manager."""


def ensure(connection: Connection, now: datetime, *, table: str = TABLE) -> list[str]:
    """Make this week's partition and the next ones; the names of those that were missing.

    Runs in the caller's transaction. A table is made by itself and then attached: creating it as a
    partition would stop every insert, attaching stops only those into the overflow.
    """
    made = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        for start in weeks(now):
            name = f"{table}_{start:%G_w%V}"
            if not _exists(cursor, name) and not _overflowed(cursor, table, start):
                _make(cursor, table, name, start)
                made.append(name)
    return made


def weeks(now: datetime) -> list[datetime]:
    """The Mondays of this week and of those ahead."""
    this = _MONDAY + (now - _MONDAY) // WEEK * WEEK
    return [this + WEEK * number for number in range(AHEAD + 1)]


def _exists(cursor: Any, name: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
    return bool(cursor.fetchone()[0])


def _overflowed(cursor: Any, table: str, start: datetime) -> bool:
    """Whether events of that week lie in the overflow: they stay there, and so does their week."""
    cursor.execute(
        f"SELECT EXISTS (SELECT FROM {table}_overflow"  # noqa: S608 - a name of ours
        " WHERE received_at >= %s AND received_at < %s)",
        [start, start + WEEK],
    )
    return bool(cursor.fetchone()[0])


def _make(cursor: Any, table: str, name: str, start: datetime) -> None:
    """Name and bounds are made from a date, not from input, so they may stand in the statement."""
    cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
    cursor.execute(
        f"ALTER TABLE {table} ATTACH PARTITION {name}"
        f" FOR VALUES FROM ('{start.isoformat()}') TO ('{(start + WEEK).isoformat()}')"
    )
