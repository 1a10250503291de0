"""What an event costs when many are stored already: the same rounds again and again, ever deeper.

What lies there is generated: segments are copies of ones that came over HTTP, under new batches;
identities are random UUIDs, the worst case for an index. The index is built over most of a layer
at once, as full as random inserts leave it, because to fill it one by one would take hours; the
last ones go in one by one, so that its pages are where a running system has them.
Rounds come with random ids and with ids that begin with the time, as our own client makes them.
Between them the same number of rows is copied into an emptied table: what that costs tells
how busy the machine was, and the ratio to it is what may be compared between depths.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench import backlog, batches, door, raw_copy, report, scratch, storage
from bench.rounds import Run, organization, run

PAGE = Path(__file__).parent / "GROWTH.md"
BATCHES = 60
ROUNDS = 4  # the first warms up and is not counted
LAYER = 1_000  # batches that are made in one statement
ONE_BY_ONE = 3_000  # the batches of a depth whose identities go into the index as it stands
# What decides how much of the index stays in memory, and how often a page is logged whole.
SETTINGS = ("shared_buffers", "max_wal_size", "checkpoint_timeout", "wal_compression")

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
    copy_us: float
    by_time_us: float  # of the database, where ids begin with the time
    at_random_us: float
    door_us: float
    roll_up_us: float
    bytes_each: float
    index_bytes: int


def measure(stack: ExitStack, millions: Sequence[int]) -> None:
    """Go down step by step; the page is written after each, so that an ended run says something."""
    from metering.ingest import pool

    bench, key = organization()
    stack.callback(scratch.disconnect)
    own = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own.execute("SET statement_timeout = 0; SET maintenance_work_mem = '512MB'")
    copier = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    copier.execute(raw_copy.CREATE)
    port, door_pid = stack.enter_context(door.served())
    senders = door.Senders(port, key)
    clock = scratch.CoreClock(own, door_pid)
    supply, chance = batches.batches(seed=11), random.Random(12)

    def send(taken: list[list[batches.Event]]) -> Run:
        bodies = [batches.as_json(batch) for batch in taken]
        return run("http", lambda: senders.send(bodies), BATCHES, clock)

    def copy(taken: list[list[batches.Event]]) -> Run:
        texts = [raw_copy.render(batch, bench.pk) for batch in taken]
        copier.execute("TRUNCATE bench_copy")
        return run("copy", lambda: raw_copy.copy(copier, texts), BATCHES, clock)

    def take() -> list[list[batches.Event]]:
        return list(islice(supply, BATCHES))

    def rounds() -> Round:
        in_order = [batches.by_time(batch, chance) for batch in take()]
        return Round(copy(take()), send(in_order), send(take()))

    depths: list[Depth] = []
    send(take())  # what the generated segments are copies of
    for million in sorted(millions):
        stored = _fill(own, bench.pk, million * 1_000_000)
        depths.append(_depth(own, stored, rounds, clock))
        page = _page(depths, _circumstances(own))
        PAGE.write_text(page)
        print(page, flush=True)


class Round(NamedTuple):
    """The same number of events, three ways."""

    copied: Run
    by_time: Run
    at_random: Run


def _fill(own: psycopg.Connection[Any], organization_id: int, wanted: int) -> int:
    """Fill up to about as many events; how many there are."""
    missing = max(0, wanted - _stored(own)) // batches.EVENTS
    at_once = max(0, missing - ONE_BY_ONE)
    fill(own, organization_id, at_once, state="applied")
    _make(own, organization_id, missing - at_once, state="applied")
    return _stored(own)


def fill(own: psycopg.Connection[Any], organization_id: int, wanted: int, *, state: str) -> None:
    """Make so many batches in that state, whose identities go into the index all at once."""
    if wanted:
        own.execute(DROP_INDEX)
        _make(own, organization_id, wanted, state=state)
        own.execute(ADD_INDEX)
    for table in storage.EVENTS:
        own.execute(f"VACUUM ANALYZE {table}")


def _make(own: psycopg.Connection[Any], organization_id: int, wanted: int, *, state: str) -> None:
    for done in range(0, wanted, LAYER):
        parameters = {
            "organization_id": organization_id,
            "events": batches.EVENTS,
            "batches": min(LAYER, wanted - done),
            "state": state,
        }
        own.execute(FILL, parameters)


def _stored(own: psycopg.Connection[Any]) -> int:
    (stored,) = own.execute("SELECT sum(accepted) FROM metering_ingestbatch").fetchone() or (0,)
    return int(stored)


def _depth(
    own: psycopg.Connection[Any], stored: int, rounds: Callable[[], Round], clock: scratch.CoreClock
) -> Depth:
    backlog.drain()
    done = [rounds() for _ in range(ROUNDS)][1:]
    before_s = clock.database_s()
    backlog.drain()
    roll_up_s = clock.database_s() - before_s

    def database_us(runs: Iterable[Run]) -> float:
        return statistics.median(1e6 / one.per_database_core_s for one in runs)

    by_time = [one.by_time for one in done]
    both_us = statistics.median(1e6 / one.per_core_s for one in by_time)
    return Depth(
        stored=stored,
        copy_us=database_us(one.copied for one in done),
        by_time_us=database_us(by_time),
        at_random_us=database_us(one.at_random for one in done),
        door_us=both_us - database_us(by_time),
        roll_up_us=roll_up_s / (2 * ROUNDS * BATCHES * batches.EVENTS) * 1e6,
        bytes_each=storage.size_bytes(own, *storage.EVENTS) / _stored(own),
        index_bytes=storage.size_bytes(own, "metering_identity_pkey"),
    )


def _circumstances(own: psycopg.Connection[Any]) -> dict[str, str]:
    settings = dict(
        own.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)",
            [["server_version", *SETTINGS]],
        ).fetchall()
    )
    return {**report.circumstances(settings.pop("server_version")), **settings}


HEAD = """# Growth

Written by `python -m bench growth`: what one more event costs when so many are stored already.
Times are of one core, in microseconds. Ratios are to raw COPY of as many rows in the same minute.
"""
RATIO = "ratio"
HEADS = ["stored", "COPY", "ids by time", RATIO, "random ids", RATIO, "door", "roll-up", RATIO]
HEADS += ["bytes", "index"]


def _page(depths: Sequence[Depth], circumstances: dict[str, str]) -> str:
    lines = [HEAD, *(f"- {name}: {value}" for name, value in circumstances.items())]
    lines += ["", f"| {' | '.join(HEADS)} |", "|---:" * len(HEADS) + "|"]
    lines += [
        f"| {one.stored:,} | {one.copy_us:.1f}"
        f" | {one.by_time_us:.1f} | {one.by_time_us / one.copy_us:.2f}"
        f" | {one.at_random_us:.1f} | {one.at_random_us / one.copy_us:.2f}"
        f" | {one.door_us:.1f} | {one.roll_up_us:.1f} | {one.roll_up_us / one.copy_us:.2f}"
        f" | {one.bytes_each:.0f} | {one.index_bytes / 2**20:,.0f} MiB |"
        for one in depths
    ]
    return "\n".join(lines) + "\n"
