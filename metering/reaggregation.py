"""Readings told apart more finely than when they were made: summed anew, batch by batch.

A batch carries the set of limits that its events are told apart by (`limits_version`), and whatever
is added to the readings or leaves them goes by the set of its batch. So the readings are exact at
every moment, whichever batches were told anew already; a re-aggregation only moves what a larger
set tells apart from one rating key to another, and sums stay as they are.

What is asked for is a row: an organization, a set, and the instant from which its usage needs that
set. A step takes the row with SKIP LOCKED, moves a few batches and notes how far it came, in one
transaction: whoever is killed leaves nothing half done. It has the organization's readings to
itself, as a revert has; roll-ups of others go on beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.utils import Error, OperationalError

from metering import limits, minutes, netting, summing
from metering.netting import OF_BATCHES, STILL_IN, Events
from metering.usage.event import AHEAD_MAX

BATCHES_MAX = 200  # a step
EVENTS_MAX = 20_000  # a step: what roll-ups of the organization wait for
ATTEMPTS_MAX = 5
PAUSE = timedelta(seconds=30)
ERROR_LENGTH_MAX = 500

Parameters = dict[str, Any]

logger = logging.getLogger(__name__)


class SumsDiffer(Exception):
    """The readings would add up to something else: the transaction must not stand."""


# Nothing is asked for twice: a larger set from an earlier instant has it, finished or on its way.
NEEDED = """
    SELECT asked.organization_id, asked.starts_at
    FROM unnest(%(organization_ids)s::bigint[], %(starts_at)s::timestamptz[])
         AS asked (organization_id, starts_at)
    WHERE NOT EXISTS (SELECT FROM metering_reaggregation known
        WHERE known.organization_id = asked.organization_id AND known.version >= %(version)s
          AND known.minutes >= %(minutes)s AND known.starts_at <= asked.starts_at)
    ORDER BY asked.organization_id
"""
ASK = f"""
    INSERT INTO metering_reaggregation (organization_id, starts_at, version, minutes)
    SELECT needed.*, %(version)s, %(minutes)s FROM ({NEEDED}) AS needed
"""  # noqa: S608 - our own texts


class Need(NamedTuple):
    """What readings have to learn for some prices."""

    sizes: tuple[int, ...]  # that they tell nothing apart at, in rising order
    organization_ids: list[int]  # whose readings were made when less was asked, as far as is known


def tell_apart(
    sizes: Collection[int],
    since: Mapping[int, datetime],
    *,
    reason: str,
    by_minute: bool = False,
) -> None:
    """Have readings tell requests apart at these sizes: all to come, and of each organization those
    since an instant, which are summed anew from their events. `by_minute` asks for their sums by
    the minute as well.

    In the transaction that makes it needed: then whoever sees the need sees the row as well.
    ValueError where the sizes find no room. `unsettled` says when it is done.
    """
    version = limits.extended_by(sizes, reason) if sizes else limits.FIRST
    if version == limits.FIRST and not by_minute:
        return
    with connection.cursor() as cursor:
        if by_minute:
            minutes.ask(cursor, since)
        cursor.execute(ASK, _asked(version, since, by_minute=by_minute))


def needs_telling(
    sizes: Collection[int], since: Mapping[int, datetime], *, by_minute: bool = False
) -> Need:
    """What `tell_apart` would begin; changes nothing."""
    with connection.cursor() as cursor:
        version = limits.first_with(cursor, sizes)
        last = limits.newest(cursor)
        if version == limits.FIRST and not by_minute:
            return Need((), [])
        asked = _asked(version or last.version + 1, since, by_minute=by_minute)
        cursor.execute(NEEDED, asked)
        organization_ids = [organization_id for organization_id, _ in cursor.fetchall()]
    return Need(tuple(sorted({*sizes} - {*last.limits})), organization_ids)


TOLD_LESS = """
    SELECT EXISTS (SELECT FROM metering_ingestbatch
        WHERE organization_id = %(organization_id)s AND received_at >= %(received_after)s
          AND accepted > 0 AND state IN ('applied', 'reverting')
          AND (limits_version < %(version)s OR %(minutes)s AND NOT has_minutes))
"""


def tells_apart(
    organization_id: int, sizes: Collection[int], since: datetime, *, by_minute: bool = False
) -> bool:
    """Whether an organization's readings since an instant tell requests apart at all these sizes,
    and have their sums by the minute.

    For looking at usage under prices that nobody asked its readings to tell.
    """
    with connection.cursor() as cursor:
        version = limits.first_with(cursor, sizes)
        if version is None:
            return False
        if version == limits.FIRST and not by_minute:
            return True
        parameters: Parameters = {
            "organization_id": organization_id,
            "received_after": since - AHEAD_MAX,
            "version": version,
            "minutes": by_minute,
        }
        cursor.execute(TOLD_LESS, parameters)
        (told_less,) = cursor.fetchone()
    return not told_less


def _asked(version: int, since: Mapping[int, datetime], *, by_minute: bool) -> Parameters:
    return {
        "version": version,
        "minutes": by_minute,
        "organization_ids": list(since),
        "starts_at": list(since.values()),
    }


@dataclass(frozen=True, slots=True)
class Progress:
    """A re-aggregation under way."""

    organization_id: int
    id: int
    since: datetime
    asked_at: datetime
    batches_left: int
    attempts: int
    last_error: str

    @property
    def is_stuck(self) -> bool:
        """Whether it was tried often enough and waits for a person."""
        return self.attempts >= ATTEMPTS_MAX


_LEFT = """
    batch.organization_id = task.organization_id
    AND (batch.limits_version < task.version OR task.minutes AND NOT batch.has_minutes)
    AND batch.state IN ('applied', 'reverting') AND batch.accepted > 0
    AND batch.received_at >= task.starts_at - %(ahead)s
"""
PROGRESS = f"""
    SELECT task.organization_id, task.id, task.starts_at, task.asked_at,
           (SELECT count(*) FROM metering_ingestbatch batch
            WHERE batch.id > task.reached_id AND {_LEFT}),
           task.attempts, task.last_error
    FROM metering_reaggregation task
    WHERE task.finished_at IS NULL
    ORDER BY task.attempts DESC, task.asked_at, task.id LIMIT %(limit)s
"""  # noqa: S608 - our own texts


def progress(limit: int = 100) -> list[Progress]:
    """The re-aggregations under way, those that fail first, then the oldest."""
    with connection.cursor() as cursor:
        parameters: Parameters = {"limit": limit, "ahead": AHEAD_MAX}
        cursor.execute(PROGRESS, parameters)
        return [Progress(*row) for row in cursor.fetchall()]


class _Task(NamedTuple):
    organization_id: int
    id: int
    version: int
    minutes: bool
    starts_at: datetime
    reached_id: int


class _Batch(NamedTuple):
    id: int
    received_at: datetime
    accepted: int


# Organizations take turns.
TAKE = """
    SELECT organization_id, id, version, minutes, starts_at, reached_id
    FROM metering_reaggregation
    WHERE finished_at IS NULL AND attempts < %s
      AND (retry_at IS NULL OR retry_at < clock_timestamp())
    ORDER BY stepped_at NULLS FIRST, organization_id, id
    LIMIT 1 FOR UPDATE SKIP LOCKED
"""
NEXT = f"""
    SELECT batch.id, batch.received_at, batch.accepted
    FROM metering_ingestbatch batch
    JOIN metering_reaggregation task
      ON task.organization_id = %(organization_id)s AND task.id = %(id)s
    WHERE batch.id > %(after)s AND {_LEFT}
    ORDER BY batch.id LIMIT %(limit)s
    FOR UPDATE OF batch
"""  # noqa: S608
STEPPED = """
    UPDATE metering_reaggregation
    SET reached_id = %(reached_id)s, stepped_at = clock_timestamp(), attempts = 0, retry_at = NULL,
        last_error = '', finished_at = CASE WHEN %(finished)s THEN clock_timestamp() END
    WHERE organization_id = %(organization_id)s AND id = %(id)s
"""
FAILED = """
    UPDATE metering_reaggregation
    SET attempts = attempts + %(counted)s::int, last_error = %(error)s,
        retry_at = clock_timestamp() + %(pause)s, stepped_at = clock_timestamp()
    WHERE organization_id = %(organization_id)s AND id = %(id)s AND finished_at IS NULL
"""


def step() -> int:
    """Tell a few batches anew. Zero: nothing is asked for that could be done now."""
    task: _Task | None = None
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(TAKE, [ATTEMPTS_MAX])
            found = cursor.fetchone()
            if found is None:
                return 0
            task = _Task._make(found)
            _go_on(cursor, task)
    except (Error, summing.NotThere, SumsDiffer) as error:
        if task is None:
            raise
        _postpone(task, error)
    return 1


def _go_on(cursor: CursorWrapper, task: _Task) -> None:
    """Where the walk is at its end it begins once more: batches are not applied by their number.

    With the readings to ourselves, none left means none ever: whatever is applied from now on is
    told apart by a set that is no smaller.
    """
    netting.lock(cursor, [task.organization_id], alone=[task.organization_id])
    batches = _next(cursor, task, after=task.reached_id)
    if not batches and task.reached_id:
        batches = _next(cursor, task, after=0)
    if batches:
        _tell_anew(cursor, task, batches)
    parameters: Parameters = {
        "organization_id": task.organization_id,
        "id": task.id,
        "reached_id": batches[-1].id if batches else task.reached_id,
        "finished": not batches,
    }
    cursor.execute(STEPPED, parameters)


def _next(cursor: CursorWrapper, task: _Task, *, after: int) -> list[_Batch]:
    parameters: Parameters = {
        "organization_id": task.organization_id,
        "id": task.id,
        "after": after,
        "ahead": AHEAD_MAX,
        "limit": BATCHES_MAX,
    }
    cursor.execute(NEXT, parameters)
    taken: list[_Batch] = []
    events = 0
    for batch in map(_Batch._make, cursor.fetchall()):
        events += batch.accepted
        if taken and events > EVENTS_MAX:
            break
        taken.append(batch)
    return taken


def _moved(side: str) -> Events:
    """The events that the larger set tells apart from others: where they are, or where they go."""
    return Events(
        f"""{OF_BATCHES}
        JOIN metering_inputlimits before ON before.version = batch.limits_version
        JOIN metering_inputlimits after ON after.version = %(version)s
        CROSS JOIN LATERAL (SELECT {side}.limits) AS told
        """,
        f"{STILL_IN} AND {summing.band('before.limits')} <> {summing.band('after.limits')}",
        "false",  # these do not tell sizes apart
    )


TOUCHED = f"SELECT DISTINCT starts_at FROM ({summing.some_of(_moved('before'))}) AS event"  # noqa: S608
TOLD = """
    UPDATE metering_ingestbatch SET limits_version = %(version)s
    WHERE organization_id = %(organization_id)s AND id = ANY(%(batch_ids)s)
"""
SUMS = """
    SELECT 'quarter', starts_at, register, sum(quantity) FROM metering_reading
    WHERE organization_id = %(organization_id)s AND starts_at = ANY(%(quarters)s::timestamptz[])
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT 'hour', starts_at, register, sum(quantity) FROM metering_readinghour
    WHERE organization_id = %(organization_id)s AND starts_at IN (
        SELECT date_bin('1 hour', one, '2000-01-01T00:00Z')
        FROM unnest(%(quarters)s::timestamptz[]) AS one)
    GROUP BY 1, 2, 3
    ORDER BY 1, 2, 3
"""


def _tell_anew(cursor: CursorWrapper, task: _Task, batches: list[_Batch]) -> None:
    """Move what the newest set tells apart, and note the set on the batches; sum them by the minute
    where that is asked for."""
    parameters: Parameters = {
        "organization_id": task.organization_id,
        "organization_ids": [task.organization_id] * len(batches),
        "batch_ids": [batch.id for batch in batches],
        "received_at": [batch.received_at for batch in batches],
        "version": limits.newest(cursor).version,
    }
    cursor.execute(TOUCHED, {**parameters, **summing.TELLING})
    parameters["quarters"] = [starts_at for (starts_at,) in cursor.fetchall()]
    if parameters["quarters"]:
        before = _sums(cursor, parameters)
        summing.subtract(cursor, _moved("before"), parameters)
        summing.add(cursor, _moved("after"), parameters)
        if _sums(cursor, parameters) != before:
            raise SumsDiffer("the readings would add up to something else")
    cursor.execute(TOLD, parameters)
    if task.minutes:
        minutes.catch_up(cursor, parameters)


def _sums(cursor: CursorWrapper, parameters: Parameters) -> list[tuple[Any, ...]]:
    cursor.execute(SUMS, parameters)
    sums: list[tuple[Any, ...]] = cursor.fetchall()
    return sums


def _postpone(task: _Task, error: Exception) -> None:
    """Later again. A database that is down, locked or too busy does not count as a try."""
    logger.error("readings of %s were not told anew: %s", task.organization_id, error)
    parameters: Parameters = {
        "organization_id": task.organization_id,
        "id": task.id,
        "counted": not isinstance(error, OperationalError),
        "error": str(error)[:ERROR_LENGTH_MAX],
        "pause": PAUSE,
    }
    with connection.cursor() as cursor:
        cursor.execute(FAILED, parameters)


def retry(organization_id: int, task_id: int) -> bool:
    """Try one that is stuck again. False: it is not stuck, or somebody did so before."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE metering_reaggregation SET attempts = 0, retry_at = NULL"
            " WHERE organization_id = %s AND id = %s AND finished_at IS NULL AND attempts >= %s",
            [organization_id, task_id, ATTEMPTS_MAX],
        )
        return bool(cursor.rowcount == 1)
