"""What an event costs when many are stored already: the same rounds again and again, ever deeper.

What lies there is generated: segments are copies of ones that came over HTTP, under new batches;
identities are random UUIDs, the worst case for an index. The index is built over each layer at
once, as full as random inserts leave it, because to fill it one by one would take hours.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench import backlog, batches, door, report, scratch, storage
from bench.rounds import Run, organization, run

PAGE = Path(__file__).parent / "GROWTH.md"
BATCHES = 60
ROUNDS = 4  # the first warms up and is not counted
LAYER = 1_000  # batches that are made in one statement

DROP_INDEX = "ALTER TABLE metering_identity DROP CONSTRAINT metering_identity_pkey"
ADD_INDEX = """
    ALTER TABLE metering_identity ADD CONSTRAINT metering_identity_pkey
        PRIMARY KEY (organization_id, source_id, id) WITH (fillfactor = 70)
"""
# Another organization's names for the same, under the same numbers.
NAMES_TOO = """
    WITH sources AS (
        INSERT INTO metering_source (organization_id, id, name)
        SELECT %(organization_id)s, id, name FROM metering_source
        WHERE organization_id = %(pattern_of)s
    )
    INSERT INTO metering_attribution
        (organization_id, id, project_id, model, api_key, agent, region, service_class)
    SELECT %(organization_id)s, attribution.id, project.id, model, api_key, agent, region,
           service_class
    FROM metering_attribution attribution
    JOIN accounts_project project ON project.organization_id = %(organization_id)s
    WHERE attribution.organization_id = %(pattern_of)s
"""
# Batches, each with a segment like one that came, and a thousand new identities.
FILL = """
    WITH pattern AS MATERIALIZED (
        SELECT *, row_number() OVER () - 1 AS number
        FROM (SELECT * FROM metering_segment LIMIT 60) AS came
    ), made AS (
        INSERT INTO metering_ingestbatch (organization_id, api_key_id, submitted, accepted,
            duplicate, conflict, rejected, state, applied_at, occurred_first, occurred_last)
        SELECT %(organization_id)s, 1, %(events)s, %(events)s, 0, 0, 0, %(state)s,
            CASE %(state)s WHEN 'applied' THEN clock_timestamp() END, clock_timestamp(),
            clock_timestamp()
        FROM generate_series(1, %(batches)s)
        RETURNING id, received_at
    ), segments AS (
        INSERT INTO metering_segment
        SELECT %(organization_id)s, made.id, made.received_at, ordinals, occurred_at,
               attribution_ids, sessions, input, cache_read, cache_write, output, reasoning, extra
        FROM made JOIN pattern ON pattern.number = made.id %% (SELECT count(*) FROM pattern)
    )
    INSERT INTO metering_identity (organization_id, batch_id, source_id, ordinal, id)
    SELECT %(organization_id)s, made.id, (SELECT min(id) FROM metering_source), ordinal,
           '\\xff'::bytea || uuid_send(gen_random_uuid())
    FROM made CROSS JOIN generate_series(0, %(events)s - 1) AS ordinal
"""


class Depth(NamedTuple):
    """What an event costs at a depth: in microseconds of one core, and in bytes."""

    stored: int
    database_us: float
    door_us: float
    roll_up_us: float
    bytes_each: float
    index_bytes: int


def measure(stack: ExitStack, millions: Sequence[int]) -> None:
    """Go down step by step; the page is written after each, so that an ended run says something."""
    from django.db import connection

    from metering.ingest import pool

    bench, key = organization()
    stack.callback(connection.close_pool)
    stack.callback(connection.close)
    own = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own.execute("SET statement_timeout = 0; SET maintenance_work_mem = '512MB'")
    port, door_pid = stack.enter_context(door.served())
    senders = door.Senders(port, key)
    clock = scratch.CoreClock(own, door_pid)
    supply = batches.batches(seed=11)
    (version,) = own.execute("SHOW server_version").fetchone() or ("?",)

    def send() -> Run:
        bodies = [batches.as_json(batch) for batch in islice(supply, BATCHES)]
        return run("http", lambda: senders.send(bodies), BATCHES, clock)

    depths: list[Depth] = []
    send()  # what the generated segments are copies of
    for million in sorted(millions):
        stored = _fill(own, bench.pk, million * 1_000_000)
        depths.append(_depth(own, stored, send, clock))
        page = _page(depths, str(version))
        PAGE.write_text(page)
        print(page, flush=True)


def _fill(own: psycopg.Connection[Any], organization_id: int, wanted: int) -> int:
    """Fill up to about as many events; how many there are."""
    missing = max(0, wanted - _stored(own)) // batches.EVENTS
    fill(own, organization_id, missing, state="applied")
    return _stored(own)


def fill(own: psycopg.Connection[Any], organization_id: int, count: int, *, state: str) -> None:
    """Make so many batches of a thousand events in that state; its names are there."""
    own.execute(DROP_INDEX)
    for done in range(0, count, LAYER):
        own.execute(
            FILL,
            {
                "organization_id": organization_id,
                "events": batches.EVENTS,
                "batches": min(LAYER, count - done),
                "state": state,
            },
        )
    own.execute(ADD_INDEX)
    for table in storage.EVENTS:
        own.execute(f"VACUUM ANALYZE {table}")


def _stored(own: psycopg.Connection[Any]) -> int:
    (stored,) = own.execute("SELECT sum(accepted) FROM metering_ingestbatch").fetchone() or (0,)
    return int(stored)


def _depth(
    own: psycopg.Connection[Any], stored: int, send: Callable[[], Run], clock: scratch.CoreClock
) -> Depth:
    backlog.drain()
    runs = [send() for _ in range(ROUNDS)][1:]
    before_s = clock.database_s()
    backlog.drain()
    roll_up_s = clock.database_s() - before_s
    database_us = statistics.median(1e6 / one.per_database_core_s for one in runs)
    return Depth(
        stored=stored,
        database_us=database_us,
        door_us=statistics.median(1e6 / one.per_core_s for one in runs) - database_us,
        roll_up_us=roll_up_s / (ROUNDS * BATCHES * batches.EVENTS) * 1e6,
        bytes_each=storage.size_bytes(own, *storage.EVENTS) / _stored(own),
        index_bytes=storage.size_bytes(own, "metering_identity_pkey"),
    )


HEAD = """# Growth

Written by `python -m bench growth`: what one more event costs when so many are stored already.
Times are of one core; ratios are to the first row.
"""
COLUMNS = (
    "| stored | database, us | ratio | door, us | roll-up, us | ratio | bytes an event | index |",
    "|---:|---:|---:|---:|---:|---:|---:|---:|",
)


def _page(depths: Sequence[Depth], server: str) -> str:
    lines = [HEAD, *(f"- {name}: {value}" for name, value in report.circumstances(server).items())]
    lines += ["", *COLUMNS]
    first = depths[0]
    lines += [
        f"| {one.stored:,} | {one.database_us:.1f} | {one.database_us / first.database_us:.2f}"
        f" | {one.door_us:.1f} | {one.roll_up_us:.1f} | {one.roll_up_us / first.roll_up_us:.2f}"
        f" | {one.bytes_each:.0f} | {one.index_bytes / 2**20:,.0f} MiB |"
        for one in depths
    ]
    return "\n".join(lines) + "\n"
