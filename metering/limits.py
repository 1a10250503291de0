"""The sizes of a request's whole input at which readings are told apart: sets that only grow.

A set never changes once it is there. Which is the newest is asked of the database each time, under
the lock of the organization whose readings are written, so no batch is told apart by a set that a
re-aggregation believes to be behind it (`metering.reaggregation`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

INPUT_LIMITS_MAX = 64  # each may add rating keys to whoever sends requests of every size
FIRST = 1  # the version that the database began with

NEWEST = "SELECT version, limits FROM metering_inputlimits ORDER BY version DESC LIMIT 1"
FIRST_WITH = "SELECT min(version) FROM metering_inputlimits WHERE limits @> %s::bigint[]"
ADD = "INSERT INTO metering_inputlimits (version, limits, reason) VALUES (%s, %s, %s)"


class LimitSet(NamedTuple):
    """Limits in rising order, in tokens, under their version."""

    version: int
    limits: tuple[int, ...]


def newest(cursor: CursorWrapper) -> LimitSet:
    """The set that batches applied from now on are told apart by."""
    cursor.execute(NEWEST)
    version, limits = cursor.fetchone()
    return LimitSet(version, tuple(limits))


def first_with(cursor: CursorWrapper, sizes: Collection[int]) -> int | None:
    """The first version that tells all these sizes apart; None if there is none yet."""
    cursor.execute(FIRST_WITH, [sorted(sizes)])
    (version,) = cursor.fetchone()
    return None if version is None else int(version)


@transaction.atomic
def extended_by(sizes: Collection[int], reason: str) -> int:
    """The first version that tells all these sizes apart, published here if there was none.

    ValueError where they find no room. Whoever else extends the limits waits until the commit.
    """
    with connection.cursor() as cursor:
        version = first_with(cursor, sizes)
        if version is not None:
            return version
        cursor.execute("LOCK TABLE metering_inputlimits IN SHARE ROW EXCLUSIVE MODE")
        last = newest(cursor)
        limits = sorted({*last.limits, *sizes})
        if limits == list(last.limits):  # somebody else was first
            return last.version
        if len(limits) > INPUT_LIMITS_MAX:
            raise ValueError(f"readings tell requests apart at {INPUT_LIMITS_MAX} sizes at most")
        cursor.execute(ADD, [last.version + 1, limits, reason])
    return last.version + 1
