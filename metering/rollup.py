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
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.utils import Error, OperationalError

from metering import limits, netting
from metering.netting import Events
from metering.usage import bands

GROUP_MAX = 200  # batches a transaction
LEASE = timedelta(seconds=120)
ATTEMPTS_MAX = 5
PAUSES = (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=2))
ERROR_LENGTH_MAX = 500

Parameters = dict[str, Any]

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
        last_error = '', limits_version = %(version)s
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


def band(limits: str) -> str:
    """The text of an event's band among the limits that a text names."""
    return f"""coalesce(({limits})[width_bucket(
               coalesce(event.input, 0)::bigint + coalesce(event.cache_read, 0)
                   + coalesce(event.cache_write, 0) + coalesce(more.input, 0)::bigint - 1,
               {limits})], 0)"""


# Their events with what cannot be told from a sum: the band of the whole input among the limits
# that their batch is told apart by, whether it reasoned, which media it had; as
# metering.usage.bands says, and a test holds the two together.
EVENTS = """
    SELECT segment.organization_id, event.attribution_id,
           date_bin('15 minutes', event.occurred_at, '2000-01-01T00:00Z') AS starts_at,
           event.input, event.cache_read, event.cache_write, event.output, event.reasoning,
           event.extra,
           {band} AS input_band,
           coalesce(event.reasoning > 0, more.reasoning, false) AS thinking,
           coalesce(more.attributes, '') AS attributes
    {segments}
    CROSS JOIN LATERAL unnest({ordinals}segment.occurred_at, segment.attribution_ids, segment.input,
        segment.cache_read, segment.cache_write, segment.output, segment.reasoning, segment.extra)
        AS event ({ordinal}occurred_at, attribution_id, input, cache_read, cache_write, output,
                  reasoning, extra)
    LEFT JOIN LATERAL (
        SELECT sum(one.value::bigint) FILTER (
                   WHERE one.key ~ '^(input|cache_)' AND one.key !~ '_(hours|seconds)$') AS input,
               bool_or(one.key = 'reasoning') AS reasoning,
               concat_ws(',',
                   CASE WHEN bool_or(one.key = ANY(%(audio_output)s) AND one.value <> '0')
                        THEN 'audio_output' END,
                   CASE WHEN bool_or(one.key = ANY(%(media_input)s) AND one.value <> '0')
                        THEN 'media_input' END) AS attributes
        FROM jsonb_each_text(event.extra) AS one
    ) more ON event.extra IS NOT NULL
    {which}
"""
_TOLD_BAND = band("told.limits")
_ALL = {"ordinals": "", "ordinal": "", "which": "", "band": _TOLD_BAND}
_SOME = {"ordinals": "segment.ordinals, ", "ordinal": "ordinal, ", "band": _TOLD_BAND}

# Keys first, in a statement of its own: what another worker is adding at the same moment is waited
# for, and seen by the next statement. Everybody adds in one order, so nobody waits in a circle.
_NAMES = "project_id, model, api_key, agent, region, service_class"
_TOLD = "input_band, thinking, attributes"  # by the registers
# Each by its whole key in the index, which the limit makes sure of: what the planner believes of a
# few new batches has led it through all the keys of a band for each.
_KNOWN = """SELECT one.id FROM metering_ratingkey AS one
    WHERE (one.organization_id, one.project_id, one.model, one.api_key, one.agent, one.region,
           one.service_class, one.input_band, one.thinking, one.attributes)
        = (used.organization_id, attribution.project_id, attribution.model, attribution.api_key,
           attribution.agent, attribution.region, attribution.service_class, used.input_band,
           used.thinking, used.attributes)
    LIMIT 1"""
INTERN = """
    INSERT INTO metering_ratingkey (organization_id, {names}, {told})
    SELECT organization_id, {names}, {told}
    FROM (SELECT DISTINCT organization_id, attribution_id, {told} FROM ({events}) AS event) AS used
    JOIN metering_attribution attribution USING (organization_id)
    LEFT JOIN LATERAL ({known}) AS known ON true
    WHERE attribution.id = used.attribution_id AND known.id IS NULL
    ORDER BY organization_id, {names}, {told}
    ON CONFLICT DO NOTHING
"""
# One row per quarter-hour, rating key and register: the five registers with columns of their own,
# the derived one, and whatever else the events carry. A key that is missing is refused by the
# table, not left out by the join. The hours are the same quantities once more, in one statement.
SUMMED = """
    WITH event AS MATERIALIZED ({events}),
    total AS (
        SELECT {key}, starts_at, sum(input) AS input, sum(cache_read) AS cache_read,
               sum(cache_write) AS cache_write, sum(output) AS output,
               sum(reasoning) AS reasoning, count(*)::numeric AS requests
        FROM event GROUP BY {key}, starts_at
    ), summed AS (
        SELECT {key}, starts_at, register, quantity
        FROM total CROSS JOIN LATERAL (VALUES ('input', input), ('cache_read', cache_read),
            ('cache_write', cache_write), ('output', output), ('reasoning', reasoning),
            ('requests', requests)) AS one (register, quantity)
        WHERE quantity IS NOT NULL
        UNION ALL
        SELECT {key}, starts_at, one.key, sum(one.value::numeric)
        FROM event CROSS JOIN LATERAL jsonb_each_text(event.extra) AS one
        WHERE event.extra IS NOT NULL
        GROUP BY {key}, starts_at, one.key
    ), key AS MATERIALIZED (
        SELECT used.*, known.id
        FROM (SELECT DISTINCT {key} FROM event) AS used
        LEFT JOIN metering_attribution attribution
          ON attribution.organization_id = used.organization_id
         AND attribution.id = used.attribution_id
        LEFT JOIN LATERAL ({known}) AS known ON true
    ), named AS MATERIALIZED (
        SELECT organization_id, starts_at, key.id, register, sum(quantity) AS quantity
        FROM summed LEFT JOIN key USING ({key})
        GROUP BY 1, 2, 3, 4
    )
"""
ADD = (
    SUMMED  # noqa: S608 - texts of our own
    + """, into_hours AS (
        INSERT INTO metering_readinghour AS reading
            (organization_id, starts_at, rating_key_id, register, quantity)
        SELECT organization_id, date_bin('1 hour', starts_at, '2000-01-01T00:00Z'), id, register,
               sum(quantity)::bigint
        FROM named GROUP BY 1, 2, 3, 4
        ORDER BY 1, 2, 3, 4
        ON CONFLICT (organization_id, starts_at, rating_key_id, register)
        DO UPDATE SET quantity = reading.quantity + excluded.quantity
    )
    INSERT INTO metering_reading AS reading
        (organization_id, starts_at, rating_key_id, register, quantity)
    SELECT organization_id, starts_at, id, register, quantity::bigint
    FROM named
    ORDER BY organization_id, starts_at, id, register
    ON CONFLICT (organization_id, starts_at, rating_key_id, register)
    DO UPDATE SET quantity = reading.quantity + excluded.quantity
"""
)
# What leaves was put in before: a reading that is not there, or too small, is a fault of ours.
SUBTRACT = (
    SUMMED  # noqa: S608 - texts of our own
    + """, by_hour AS (
        SELECT organization_id, date_bin('1 hour', starts_at, '2000-01-01T00:00Z') AS starts_at, id,
               register, sum(quantity)::bigint AS quantity
        FROM named GROUP BY 1, 2, 3, 4
    ), from_hours AS (
        UPDATE metering_readinghour reading SET quantity = reading.quantity - by_hour.quantity
        FROM by_hour
        WHERE reading.organization_id = by_hour.organization_id
          AND reading.starts_at = by_hour.starts_at AND reading.rating_key_id = by_hour.id
          AND reading.register = by_hour.register
        RETURNING 1
    ), from_quarters AS (
        UPDATE metering_reading reading SET quantity = reading.quantity - named.quantity::bigint
        FROM named
        WHERE reading.organization_id = named.organization_id
          AND reading.starts_at = named.starts_at AND reading.rating_key_id = named.id
          AND reading.register = named.register
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM named) = (SELECT count(*) FROM from_quarters)
       AND (SELECT count(*) FROM by_hour) = (SELECT count(*) FROM from_hours)
"""
)
_PARTS = {
    "names": _NAMES,
    "told": _TOLD,
    "known": _KNOWN,
    "key": f"organization_id, attribution_id, {_TOLD}",
}
TELLING: Parameters = {attribute: list(telling) for attribute, telling in bands.ATTRIBUTES.items()}


def add(cursor: CursorWrapper, entering: Events, parameters: Parameters) -> None:
    """Sum some events into the readings."""
    _add(cursor, some_of(entering), parameters)


def _add(cursor: CursorWrapper, events: str, parameters: Parameters) -> None:
    for statement in (INTERN, ADD):
        cursor.execute(statement.format(events=events, **_PARTS), {**parameters, **TELLING})


def some_of(events: Events) -> str:
    """The text of events with what decides their rating key."""
    return EVENTS.format(segments=events.segments, which=events.which, **_SOME)


class NotThere(Exception):
    """Something was to leave the readings that is not in them: the transaction must not stand."""


def subtract(cursor: CursorWrapper, leaving: Events, parameters: Parameters) -> None:
    """Take events out of the readings again."""
    statement = SUBTRACT.format(events=some_of(leaving), **_PARTS)
    cursor.execute(statement, {**parameters, **TELLING})
    (whole,) = cursor.fetchone()
    if not whole:
        raise NotThere("some readings of what was voided or reverted are missing")


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
        parameters |= {"version": told.version, "limits": list(told.limits)}
        cursor.execute(APPLIED, parameters)
        if cursor.rowcount != len(claim):
            raise LeaseLost(f"{len(claim) - cursor.rowcount} of {len(claim)} batches are not ours")
        _add(cursor, EVENTS.format(segments=OURS, **_ALL), parameters)
        if netting.concerned(cursor, parameters):  # perhaps only since we asked first
            subtract(cursor, netting.VOIDED, parameters)


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
        for table in ("metering_reading", "metering_readinghour"):
            cursor.execute(f"DELETE FROM {table} WHERE organization_id = %s", [organization_id])  # noqa: S608
        _add(cursor, EVENTS.format(segments=netting.EVER_IN, **_ALL), parameters)
        subtract(cursor, netting.OUT_BY_NOW, parameters)
