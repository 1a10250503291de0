"""What was used in slices of time: how statements on readings begin, and what they are asked with.

The statements go on from `used`, which has a number (of the slice), a rating_key_id, a register and
a quantity. Whole hours come from their sums, the rest of a slice from its quarter-hours. Keys are
told apart by number until all is added up, which is far cheaper than by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

HOUR, MOMENT = timedelta(hours=1), timedelta(microseconds=1)
TABLES = HOURS, EDGES = "metering_readinghour", "metering_reading"

Parameters = dict[str, Any]


class Slice(NamedTuple):
    """A half-open stretch of time, as UTC instants."""

    start: datetime
    end: datetime


_PART = """
        SELECT slice.number, reading.rating_key_id, reading.register,
               sum(reading.quantity) AS quantity
        FROM unnest(%({table}_numbers)s::int[], %({table}_starts)s::timestamptz[],
                    %({table}_ends)s::timestamptz[]) AS slice (number, starts_at, ends_at)
        JOIN {table} reading
          ON reading.organization_id = %(organization_id)s
         AND reading.starts_at >= slice.starts_at AND reading.starts_at < slice.ends_at
        WHERE {only}
        GROUP BY slice.number, reading.rating_key_id, reading.register
"""
# The same for each quarter-hour by itself; its number is its instant.
_QUARTERS = """
        SELECT reading.starts_at AS number, reading.rating_key_id, reading.register,
               reading.quantity
        FROM metering_reading reading
        WHERE reading.organization_id = %(organization_id)s
          AND reading.starts_at >= %(start)s AND reading.starts_at < %(end)s AND {only}
"""


def used_in(slices: Sequence[Slice], *, only: str = "TRUE") -> tuple[str, Parameters]:
    """How such a statement begins, and its parameters besides the organization's.

    only: a condition on `reading`. A table that no slice needs is not in the statement: whole
    hours, as billing asks for, are planned in half the time.
    """
    pieces: dict[str, list[tuple[int, datetime, datetime]]] = {}
    for number, piece in enumerate(slices):
        for table, start, end in _tables(piece):
            if start < end:
                pieces.setdefault(table, []).append((number, start, end))
    pieces = pieces or {HOURS: []}
    parameters = {
        f"{table}_{column}": [row[place] for row in found]
        for table, found in pieces.items()
        for place, column in enumerate(("numbers", "starts", "ends"))
    }
    return _as_used(_PART.format(table=table, only=only) for table in pieces), parameters


def used_by_quarter(*, only: str) -> str:
    """The same, where the quarter-hours from `start` to `end` are wanted by themselves."""
    return _as_used([_QUARTERS.format(only=only)])


def _as_used(parts: Iterable[str]) -> str:
    return f"WITH used AS MATERIALIZED ({'UNION ALL'.join(parts)})"


def _tables(piece: Slice) -> list[tuple[str, datetime, datetime]]:
    """A slice as whole hours and the edges around them."""
    first, last = _hour(piece.start + HOUR - MOMENT), _hour(piece.end)
    if first >= last:
        return [(EDGES, *piece)]
    return [(HOURS, first, last), (EDGES, piece.start, first), (EDGES, last, piece.end)]


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
