"""From stored events to sums, in the database: the texts that the roll-up and its reverse share.

Which events is said by whoever asks, as a text that finds their segments; what their sums are, and
how they enter the readings or leave them, is said here and nowhere else.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.utils import CursorWrapper

from metering.netting import Events
from metering.usage import bands

Parameters = dict[str, Any]


def band(limits: str) -> str:
    """The text of an event's band among the limits that a text names."""
    return f"""coalesce(({limits})[width_bucket(
               coalesce(event.input, 0)::bigint + coalesce(event.cache_read, 0)
                   + coalesce(event.cache_write, 0) + coalesce(more.input, 0)::bigint - 1,
               {limits})], 0)"""


# The events of segments, one a row, each in the stretch of time whose sum it is part of.
_EVENTS = """
    SELECT segment.organization_id, event.attribution_id,
           date_bin('{every}', event.occurred_at, '2000-01-01T00:00Z') AS starts_at,
           event.input, event.cache_read, event.cache_write, event.output, event.reasoning,
           event.extra {told}
    {segments}
    CROSS JOIN LATERAL unnest({ordinals}segment.occurred_at, segment.attribution_ids, segment.input,
        segment.cache_read, segment.cache_write, segment.output, segment.reasoning, segment.extra)
        AS event ({ordinal}occurred_at, attribution_id, input, cache_read, cache_write, output,
                  reasoning, extra)
    {telling}
    WHERE {which}
"""
# With what cannot be told from a sum: the band of the whole input among the limits that their batch
# is told apart by, whether it reasoned, which media it had; as metering.usage.bands says, and a
# test holds the two together.
_TOLD = "input_band, thinking, attributes"  # by the registers
_APART = f""",
           {band("told.limits")} AS input_band,
           coalesce(event.reasoning > 0, more.reasoning, false) AS thinking,
           coalesce(more.attributes, '') AS attributes"""
_TELLING = """LEFT JOIN LATERAL (
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
"""
_QUARTERS = {"every": "15 minutes", "told": _APART, "telling": _TELLING}
_MINUTES = {"every": "1 minute", "told": "", "telling": ""}
_ALL = {"ordinals": "", "ordinal": "", "which": "true"}
_SOME = {"ordinals": "segment.ordinals, ", "ordinal": "ordinal, "}

# Keys first, in a statement of its own: what another worker is adding at the same moment is waited
# for, and seen by the next statement. Everybody adds in one order, so nobody waits in a circle.
_NAMES = "project_id, model, api_key, agent, region, service_class"
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
# One row per stretch of time, key and register: the five registers with columns of their own, the
# derived one, and whatever else the events carry.
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
    )
"""
# By the rating key. One that is missing is refused by the table, not left out by the join. The
# hours are the same quantities once more, in one statement.
NAMED = """, key AS MATERIALIZED (
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
    + NAMED
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
    + NAMED
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


def add_all(cursor: CursorWrapper, segments: str, parameters: Parameters) -> None:
    """Sum all events of some segments into the readings."""
    _add(cursor, _EVENTS.format(segments=segments, **_ALL, **_QUARTERS), parameters)


def _add(cursor: CursorWrapper, events: str, parameters: Parameters) -> None:
    for statement in (INTERN, ADD):
        cursor.execute(statement.format(events=events, **_PARTS), {**parameters, **TELLING})


def some_of(events: Events) -> str:
    """The text of events with what decides their rating key."""
    return _EVENTS.format(segments=events.segments, which=events.which, **_SOME, **_QUARTERS)


def some_by_minute(events: Events) -> str:
    """The text of those events whose batch is in the sums by the minute."""
    which = f"({events.which}) AND {events.in_minutes}"
    return _EVENTS.format(segments=events.segments, which=which, **_SOME, **_MINUTES)


class NotThere(Exception):
    """Something was to leave the readings that is not in them: the transaction must not stand."""


def subtract(cursor: CursorWrapper, leaving: Events, parameters: Parameters) -> None:
    """Take events out of the readings again."""
    statement = SUBTRACT.format(events=some_of(leaving), **_PARTS)
    cursor.execute(statement, {**parameters, **TELLING})
    (whole,) = cursor.fetchone()
    if not whole:
        raise NotThere("some readings of what was voided or reverted are missing")
