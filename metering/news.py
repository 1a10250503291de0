"""Store a batch of which nothing is known yet, as most are: durable at once, or not at all.

A few of its keys are looked for as it is opened: whoever repeats a batch repeats all of it, so this
tells replays from news. What decides is the key's unique index. Where anything is known after all,
nothing is stored, and metering.store says event by event what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection, errors
from psycopg.pq import TransactionStatus

from metering import held, segments
from metering.segments import Columns

SAMPLE = 8  # keys that are looked for before the rest is believed to be new
AT_ONCE_MAX = 100  # events that are stored in one statement; of more, COPY is the cheaper way

# The batch takes its number and its moment from the database. Its sample is looked up one by one
# by the index, whatever the planner knows of the table.
OPEN = """
    INSERT INTO metering_ingestbatch
        (organization_id, api_key_id, submitted, accepted, duplicate, conflict, rejected,
         occurred_first, occurred_last, backfill_id, state)
    SELECT %(organization_id)s, %(api_key_id)s, %(submitted)s, %(accepted)s, 0, 0, %(rejected)s,
        %(occurred_first)s, %(occurred_last)s, %(backfill_id)s,
        CASE WHEN %(backfill_id)s::bigint IS NULL THEN 'pending' ELSE 'held' END
    WHERE NOT EXISTS (
        SELECT FROM unnest(%(sample_source_ids)s::integer[], %(sample_ids)s::bytea[])
            AS sent (source_id, id)
        CROSS JOIN LATERAL (
            SELECT FROM metering_identity key
            WHERE key.organization_id = %(organization_id)s
              AND key.source_id = sent.source_id AND key.id = sent.id
            LIMIT 1) known)
    RETURNING id, received_at
"""
# COPY is half as dear as INSERT, and stops at the first key that is known.
COPY_KEYS = """
    COPY metering_identity (organization_id, batch_id, source_id, ordinal, id) FROM STDIN
"""
AT_ONCE = f"""
    WITH opened AS ({OPEN}), written AS (
        INSERT INTO metering_identity (organization_id, batch_id, source_id, ordinal, id)
        SELECT %(organization_id)s, opened.id, new.source_id, new.ordinal, new.id
        FROM opened, unnest(%(source_ids)s::integer[], %(ids)s::bytea[],
                            %(key_ordinals)s::smallint[]) AS new (source_id, id, ordinal)
        ORDER BY new.source_id, new.id)
    {segments.INTO}
    SELECT %(organization_id)s, opened.id, opened.received_at, {segments.ARRAYS} FROM opened
    RETURNING batch_id, received_at
"""  # noqa: S608


class News(NamedTuple):
    """Events by their identities, each id packed in hexadecimal; and the rest of them."""

    source_ids: Sequence[int]
    ids: Sequence[str]
    columns: Columns
    first: datetime | None  # when the first of them happened
    last: datetime | None


class Opened(NamedTuple):
    """A batch as it was committed."""

    batch_id: int
    received_at: datetime


class _Known(Exception):
    """Something of the batch is known."""


def store(
    connection: Connection[Any],
    organization_id: int,
    api_key_id: int,
    news: News,
    *,
    rejected: int = 0,
    backfill_id: int | None = None,
) -> Opened | None:
    """Commit a batch; None, and nothing is stored, where it repeats itself or what was before.

    With a backfill it is held until that is closed; held.BackfillNotOpen where it is not open.
    """
    order = _order(news)
    if order is None:
        return None
    parameters = {
        "organization_id": organization_id,
        "api_key_id": api_key_id,
        "submitted": len(order) + rejected,
        "accepted": len(order),
        "rejected": rejected,
        "occurred_first": news.first,
        "occurred_last": news.last,
        "backfill_id": backfill_id,
        **_identities("sample_", news, order[:: max(1, len(order) // SAMPLE)]),
    }
    try:
        if backfill_id is None and len(order) <= AT_ONCE_MAX:
            return _at_once(connection, parameters, news, order)
        return _step_by_step(connection, parameters, news, order)
    except (_Known, errors.UniqueViolation, errors.DeadlockDetected, errors.SerializationFailure):
        return None


def _order(news: News) -> list[int] | None:
    """The places of the identities in the one order that everybody keeps to; None for twins."""
    ids, places = news.ids, range(len(news.ids))
    if len(set(news.source_ids)) == 1:
        return sorted(places, key=ids.__getitem__) if len(set(ids)) == len(ids) else None
    identities = list(zip(news.source_ids, ids, strict=True))
    if len(set(identities)) < len(identities):
        return None
    return sorted(places, key=identities.__getitem__)


def _at_once(
    connection: Connection[Any], parameters: dict[str, Any], news: News, order: Sequence[int]
) -> Opened:
    """One statement, a transaction of its own unless one is under way."""
    ordinals = news.columns.ordinals
    parameters |= _identities("", news, order) | segments.arrays(news.columns)
    parameters["key_ordinals"] = "{" + ",".join([str(ordinals[place]) for place in order]) + "}"
    if connection.info.transaction_status == TransactionStatus.IDLE:
        row = connection.execute(AT_ONCE, parameters).fetchone()
    else:
        with connection.transaction():
            row = connection.execute(AT_ONCE, parameters).fetchone()
    if row is None:
        raise _Known
    return Opened(*row)


def _step_by_step(
    connection: Connection[Any], parameters: dict[str, Any], news: News, order: Sequence[int]
) -> Opened:
    organization_id, backfill_id = parameters["organization_id"], parameters["backfill_id"]
    with connection.transaction():
        if backfill_id is not None:
            held.hold_open(connection, organization_id, backfill_id)
        row = connection.execute(OPEN, parameters).fetchone()
        if row is None:
            raise _Known
        opened = Opened(*row)
        _copy_keys(connection, f"{organization_id}\t{opened.batch_id}", news, order)
        segments.write(connection, organization_id, *opened, news.columns)
        if backfill_id is not None:
            held.sum_up(connection, organization_id, opened.batch_id, news.columns.usages)
    return opened


def _copy_keys(connection: Connection[Any], head: str, news: News, order: Sequence[int]) -> None:
    source_ids, ids, ordinals = news.source_ids, news.ids, news.columns.ordinals
    rows = [
        f"{head}\t{source_ids[place]}\t{ordinals[place]}\t\\\\x{ids[place]}\n" for place in order
    ]
    with connection.cursor() as cursor, cursor.copy(COPY_KEYS) as copy:
        copy.write("".join(rows))


def _identities(prefix: str, news: News, places: Sequence[int]) -> dict[str, str]:
    """Identities as two arrays that PostgreSQL reads."""
    source_ids, ids = news.source_ids, news.ids
    return {
        f"{prefix}source_ids": "{" + ",".join([str(source_ids[place]) for place in places]) + "}",
        f"{prefix}ids": "{" + ",".join([f'"\\\\x{ids[place]}"' for place in places]) + "}",
    }
