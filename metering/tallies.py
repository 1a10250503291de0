"""All events of a stretch of time, counted by what decides their fate; to the event, not by sums.

Readings have forgotten which registers stood in one event. So the events themselves are gone
through, which takes its time: pages ask metering.tally_blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from metering.usage import bands
from metering.usage.event import AHEAD_MAX

END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides the fate of an event, as far as metering knows it."""

    slice: int  # the index of the slice that was asked for
    model: str
    region: str
    service_class: str
    input_band: int
    thinking: bool
    attributes: tuple[str, ...]
    batch_state: str
    taken_back: str  # voided or amended, where what did so is in the readings; or else ""
    applied_late: bool  # at or after the instant that was asked for
    registers: tuple[str, ...]  # those above zero


@dataclass(slots=True)
class Tally:
    """How many events of a kind there are, and what they add up to."""

    kind: Kind
    events: int = 0
    quantities: dict[str, int] = field(default_factory=dict)


TALLIES = """
    WITH event AS MATERIALIZED (
        SELECT width_bucket(event.occurred_at, %(starts)s::timestamptz[]) - 1 AS slice,
               event.model, coalesce(event.region, '') AS region,
               coalesce(event.service_class, '') AS service_class,
               coalesce(told.limits[width_bucket(
                   coalesce(event.input, 0) + coalesce(event.cache_read, 0)
                       + coalesce(event.cache_write, 0) + coalesce(more.input, 0) - 1,
                   told.limits)], 0) AS input_band,
               coalesce(event.reasoning, 0) > 0 AS thinking,
               coalesce(more.attributes, '') AS attributes,
               batch.state,
               CASE WHEN taker.state IS DISTINCT FROM 'applied' THEN ''
                    WHEN void.is_amendment THEN 'amended' ELSE 'voided' END AS taken_back,
               coalesce(batch.applied_at >= %(seen_until)s, false) AS applied_late,
               concat_ws(',', CASE WHEN event.input > 0 THEN 'input' END,
                   CASE WHEN event.cache_read > 0 THEN 'cache_read' END,
                   CASE WHEN event.cache_write > 0 THEN 'cache_write' END,
                   CASE WHEN event.output > 0 THEN 'output' END,
                   CASE WHEN event.reasoning > 0 THEN 'reasoning' END, more.registers) AS registers,
               event.input, event.cache_read, event.cache_write, event.output, event.reasoning,
               event.other
        FROM metering_ingestbatch batch
        JOIN metering_inputlimits told ON told.version = batch.limits_version
        JOIN metering_event event
          ON event.organization_id = batch.organization_id AND event.batch_id = batch.id
         AND event.received_at = batch.received_at
        LEFT JOIN metering_void void
          ON void.organization_id = %(organization_id)s AND void.target_batch_id = event.batch_id
         AND void.target_ordinal = event.ordinal
        LEFT JOIN metering_ingestbatch taker
          ON taker.organization_id = %(organization_id)s AND taker.id = void.batch_id
        LEFT JOIN LATERAL (
            SELECT sum(one.value::bigint) FILTER (
                       WHERE one.key ~ '^(input|cache_)' AND one.key !~ '_(hours|seconds)$')
                       AS input,
                   concat_ws(',',
                       CASE WHEN bool_or(one.key = ANY(%(audio_output)s)) THEN 'audio_output' END,
                       CASE WHEN bool_or(one.key = ANY(%(media_input)s)) THEN 'media_input' END)
                       AS attributes,
                   string_agg(one.key, ',' ORDER BY one.key) AS registers
            FROM jsonb_each_text(event.other) AS one
            WHERE one.value <> '0'
        ) more ON event.other IS NOT NULL
        WHERE batch.organization_id = %(organization_id)s
          AND event.organization_id = %(organization_id)s
          AND batch.received_at BETWEEN %(received_first)s AND %(received_last)s
          AND event.received_at BETWEEN %(received_first)s AND %(received_last)s
          {chosen}
          AND event.occurred_at >= %(start)s AND event.occurred_at < %(end)s
    )
    SELECT {kind}, one.register, sum(one.quantity)
    FROM event CROSS JOIN LATERAL (VALUES ('', 1::bigint), ('input', input),
        ('cache_read', cache_read), ('cache_write', cache_write), ('output', output),
        ('reasoning', reasoning)) AS one (register, quantity)
    WHERE one.quantity > 0
    GROUP BY {kind}, one.register
    UNION ALL
    SELECT {kind}, one.key, sum(one.value::bigint)
    FROM event CROSS JOIN LATERAL jsonb_each_text(event.other) AS one
    WHERE event.other IS NOT NULL AND one.value <> '0'
    GROUP BY {kind}, one.key
"""
CHOSEN = """AND batch.id = ANY(%(batch_ids)s::bigint[])
          AND event.batch_id = ANY(%(batch_ids)s::bigint[])"""
_KIND = (
    "slice, model, region, service_class, input_band, thinking, attributes, state, taken_back,"
    " applied_late, registers"
)


def tallies(
    organization_id: int,
    starts: Sequence[datetime],
    end: datetime,
    *,
    seen_until: datetime | None = None,
    batches: Mapping[int, datetime] | None = None,
) -> list[Tally]:
    """Every stored event from the first of `starts` to the end, in any state, counted once.

    The slices tile that time. `applied_late` are the batches applied at `seen_until` or later.
    With `batches`, numbers with when each came, only their events.
    """
    received = batches.values() if batches else (starts[0] - AHEAD_MAX, END)
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "starts": list(starts),
        "start": starts[0],
        "end": end,
        "received_first": min(received),
        "received_last": max(received),
        "batch_ids": list(batches or ()),
        "seen_until": seen_until,
        **{attribute: list(telling) for attribute, telling in bands.ATTRIBUTES.items()},
    }
    found: dict[Kind, Tally] = {}
    with connection.cursor() as cursor:
        chosen = "" if batches is None else CHOSEN
        cursor.execute(TALLIES.format(kind=_KIND, chosen=chosen), parameters)
        for *kind, register, quantity in cursor.fetchall():
            tally = _tally(found, *kind)
            if register:
                tally.quantities[register] = int(quantity)
            else:
                tally.events = int(quantity)
    return list(found.values())


def _tally(found: dict[Kind, Tally], *columns: Any) -> Tally:
    """The tally of a row's kind; its lists are texts with commas."""
    *before, attributes, state, taken_back, late, used = columns
    slice_, model, region, service_class, band, thinking = before
    kind = Kind(slice_, model, region, service_class, band, thinking, _listed(attributes), state,
                taken_back, late, _listed(used))  # fmt: skip
    return found.setdefault(kind, Tally(kind))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
