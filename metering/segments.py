"""A batch's events as one row of arrays: how they are written, and how single ones are read back.

A register's column is of 32 bits; the rare quantity beyond them lies in `extra`, beside the
registers that have no column. In the view `metering_event` every event is a row of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection

from metering.usage import registers

NARROW_MAX = 2**31 - 1
NULL = "NULL"
_CORE = frozenset(registers.CORE)

INTO = """
    INSERT INTO metering_segment (organization_id, batch_id, received_at, ordinals, occurred_at,
        attribution_ids, sessions, input, cache_read, cache_write, output, reasoning, extra)
"""
ARRAYS = """
        %(ordinals)s::smallint[], %(occurred_at)s::timestamptz[], %(attribution_ids)s::integer[],
        %(sessions)s::text[], %(input)s::integer[], %(cache_read)s::integer[],
        %(cache_write)s::integer[], %(output)s::integer[], %(reasoning)s::integer[],
        %(extra)s::jsonb[]
"""
INSERT = f"{INTO} VALUES (%(organization_id)s, %(batch_id)s, %(received_at)s, {ARRAYS})"
# Each event is taken out of its arrays by its place, so a segment is not spread out for one event.
AT = """
    SELECT place.batch_id, place.ordinal, segment.received_at, segment.occurred_at[found.at],
           attribution.project_id, attribution.model, nullif(attribution.api_key, ''),
           nullif(attribution.agent, ''), segment.sessions[found.at],
           nullif(attribution.region, ''), nullif(attribution.service_class, ''),
           segment.input[found.at], segment.cache_read[found.at], segment.cache_write[found.at],
           segment.output[found.at], segment.reasoning[found.at], segment.extra[found.at]
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = place.batch_id
    JOIN metering_segment segment
      ON segment.organization_id = %(organization_id)s AND segment.batch_id = place.batch_id
     AND segment.received_at = batch.received_at
    CROSS JOIN LATERAL (SELECT array_position(segment.ordinals, place.ordinal) AS at) found
    LEFT JOIN metering_attribution attribution
      ON attribution.organization_id = %(organization_id)s
     AND attribution.id = segment.attribution_ids[found.at]
    WHERE found.at IS NOT NULL
"""


class Columns(NamedTuple):
    """What a segment holds of each event, array by array; ordinals rise."""

    ordinals: Sequence[int]
    times: Sequence[str]  # when each occurred, in UTC, as PostgreSQL reads it
    attribution_ids: Sequence[int]
    sessions: Sequence[str | None]
    usages: Sequence[Mapping[str, int]]


class Content(NamedTuple):
    """What an event says besides its identity: two that agree in it are the same event."""

    occurred_at: datetime
    project_id: int
    model: str
    api_key: str | None
    agent: str | None
    session: str | None
    region: str | None
    service_class: str | None
    usage: Mapping[str, int]


def write(
    connection: Connection[Any],
    organization_id: int,
    batch_id: int,
    received_at: datetime,
    columns: Columns,
) -> None:
    """Insert the batch's segment, in the caller's transaction; none where it would be empty."""
    if columns.ordinals:
        connection.execute(
            INSERT,
            {
                "organization_id": organization_id,
                "batch_id": batch_id,
                "received_at": received_at,
                **arrays(columns),
            },
        )


def read(
    connection: Connection[Any], organization_id: int, places: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], tuple[datetime, Content]]:
    """When events were received and what they say, by batch and ordinal."""
    wanted = list(places)
    if not wanted:
        return {}
    rows = connection.execute(
        AT,
        {
            "organization_id": organization_id,
            "batch_ids": [batch_id for batch_id, _ in wanted],
            "ordinals": [ordinal for _, ordinal in wanted],
        },
    )
    return {(row[0], row[1]): (row[2], _content(row[3:])) for row in rows}


def _content(row: Sequence[Any]) -> Content:
    core = zip(registers.CORE, row[8:13], strict=True)
    usage = {name: value for name, value in core if value is not None} | (row[13] or {})
    return Content._make((*row[:8], usage))


def arrays(columns: Columns) -> dict[str, str | None]:
    """The arrays as PostgreSQL reads them; one that would hold nothing is left out."""
    usages = columns.usages
    quantities = {name: [usage.get(name) for usage in usages] for name in registers.CORE}
    fitting = {name: _fitting(column) for name, column in quantities.items()}
    in_columns = sum([len(column) - column.count(None) for column in fitting.values()])
    has_extra = in_columns < sum(map(len, usages))
    return {
        "ordinals": _numbers(columns.ordinals),
        "occurred_at": _array(columns.times),
        "attribution_ids": _numbers(columns.attribution_ids),
        "sessions": _texts(columns.sessions),
        "extra": _texts([_extra(usage) for usage in usages]) if has_extra else None,
        **{name: _numbers(column) if column else None for name, column in fitting.items()},
    }


def _array(elements: Iterable[str]) -> str:
    return "{" + ",".join(elements) + "}"


def _numbers(numbers: Sequence[int | None]) -> str:
    """As Python writes a list, but for its brackets and its word for nothing."""
    return "{" + str(list(numbers))[1:-1].replace("None", NULL) + "}"


def _fitting(quantities: list[int | None]) -> list[int | None]:
    """Those that fit their column; none at all is an empty list."""
    present = [quantity for quantity in quantities if quantity is not None]
    if not present or max(present) <= NARROW_MAX:
        return quantities if present else []
    fitting = [
        None if quantity is None or quantity > NARROW_MAX else quantity for quantity in quantities
    ]
    return fitting if min(present) <= NARROW_MAX else []


def _texts(texts: Sequence[str | None]) -> str | None:
    """In quotation marks, as a text may be the word NULL."""
    if not any(texts):
        return None
    joined = "" if None in texts else '","'.join(texts)  # type: ignore[arg-type]
    if joined.count('"') == 2 * (len(texts) - 1) and "\\" not in joined:  # none to be escaped
        return '{"' + joined + '"}'
    return _array([NULL if text is None else f'"{_escaped(text)}"' for text in texts])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _extra(usage: Mapping[str, int]) -> str | None:
    """The quantities that have no column of their own or do not fit theirs, as JSON."""
    if usage.keys() <= _CORE and max(usage.values(), default=0) <= NARROW_MAX:
        return None
    return json.dumps({
        name: usage[name] for name in sorted(usage)
        if name not in _CORE or usage[name] > NARROW_MAX
    })  # fmt: skip
