"""`python -m bench`: how fast usage comes in, beside the fastest and the plain way."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from bench import batches, report, scratch
from bench.report import Result
from bench.rounds import Run, organization, run

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.update(INGEST_EVENTS_PER_S="0", INGEST_BYTES_PER_S="0")  # one key sends all there is

DEFAULT_ROUNDS = 7
ROUNDS_S_MAX = 45.0  # on a busy machine: fewer rounds
BATCHES = {"copy": 60, "http": 60, "plain": 4, "django": 6}  # a round, so that each runs a second
WAYS = tuple(BATCHES)
COMPARED = ("copy", "plain", "django")
GROWTH_MILLIONS = [1, 10, 30, 100]
BACKLOG_MILLIONS = [5]
BACKLOG = 8  # rounds that wait to be drained while more come


def main() -> int:
    """Measure and report; nonzero only if something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("speed", "growth", "backlog"), default="speed")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS)
    parser.add_argument("--millions", type=int, nargs="+")
    asked = parser.parse_args()
    with ExitStack() as stack:
        stack.enter_context(scratch.database())
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--skip-checks", "--verbosity", "0"],
            check=True,
        )
        import django

        django.setup()
        if asked.what == "growth":
            from bench import growth

            growth.measure(stack, asked.millions or GROWTH_MILLIONS)
            return 0
        if asked.what == "backlog":
            from bench import backlog

            backlog.measure(stack, max(asked.millions or BACKLOG_MILLIONS))
            return 0
        results, server = measure(stack, asked.rounds)
        print(report.write(results, server=server))
    return 0


def measure(stack: ExitStack, rounds: int) -> tuple[list[Result], str]:
    """Everything, in the scratch database."""
    import psycopg
    from django.db import connection

    from bench import (
        closing,
        door,
        freshness,
        plain_django,
        raw_copy,
        single_events,
        storage,
        what_if,
    )
    from metering.ingest import pool

    bench, key = organization()
    with connection.schema_editor() as editor:
        editor.create_model(plain_django.PlainEvent)
    stack.callback(scratch.disconnect)
    watcher = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own.execute(raw_copy.CREATE)
    port, door_pid = stack.enter_context(door.served())
    django_port, django_pid = stack.enter_context(
        door.served("bench.plain_door:application", "wsgi", "--blocking-threads", "4")
    )
    senders = {"http": door.Senders(port, key), "django": door.Senders(django_port, key)}
    supply = batches.batches(seed=7)

    def take(way: str) -> tuple[Callable[[], Any], int]:
        chosen = list(islice(supply, BATCHES[way]))
        if way == "copy":
            texts = [raw_copy.render(batch, bench.pk) for batch in chosen]
            return lambda: raw_copy.copy(own, texts), len(chosen)
        if way in senders:
            bodies = [batches.as_json(batch) for batch in chosen]
            return lambda: senders[way].send(bodies), len(chosen)
        return lambda: plain_django.take(chosen, bench.pk), len(chosen)

    clock = scratch.CoreClock(watcher, door_pid)
    clocks = dict.fromkeys(WAYS, clock) | {"django": scratch.CoreClock(watcher, django_pid)}
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    started_at = time.perf_counter()
    for number in range(rounds + 1):  # the first warms up and is not counted
        if number > 1 and time.perf_counter() - started_at > ROUNDS_S_MAX:
            break
        for way in WAYS:
            runs[way].append(run(way, *take(way), clocks[way]))
    results = [*_compared(runs), *alone(supply)]
    results += storage.sizes(own, len(runs["http"]) * BATCHES["http"] * batches.EVENTS)
    results += backlogged(runs["http"], lambda: take("http")[0])
    results += freshness.measure(statistics.median(run.per_s for run in runs["http"][1:]))
    results += [*closing.measure(clock), *what_if.measure(clock)]
    results += single_events.compared(port, key)
    (version,) = watcher.execute("SHOW server_version").fetchone() or ("?",)
    return results, str(version)


NAMES = {
    "copy": "raw COPY, batches of 1,000",
    "plain": "plain Django (DRF, bulk_create), no HTTP",
    "django": "plain Django (DRF, bulk_create) over HTTP, the same senders",
    "http": "ingestion over HTTP, batches of 1,000",
}
UNITS = {
    "per_s": "events/s",
    "per_database_core_s": "events per core-second of the database",
    "per_core_s": "events per core-second of database and door",
}


def _compared(runs: dict[str, list[Run]]) -> Iterator[Result]:
    """Medians over the rounds, the first left out; by the wall and by processor seconds."""
    for measure_name, unit in UNITS.items():
        median = {
            way: statistics.median(getattr(run, measure_name) for run in those[1:])
            for way, those in runs.items()
        }
        for way in COMPARED:
            yield Result(NAMES[way], median[way], unit)
        for way in COMPARED:
            ratio = median["http"] / median[way]
            yield Result(NAMES["http"], median["http"], unit, NAMES[way], ratio)


def alone(supply: Iterator[list[batches.Event]]) -> Iterator[Result]:
    """Decoding and validating without a database."""
    from metering.ingest import decode

    bodies = [batches.as_json(batch) for batch in islice(supply, 30)]
    now = datetime.now(UTC)
    measured = []
    for body in bodies:
        started_at = time.thread_time()
        events = decode.decode(body, lines=False, now=now).events
        measured.append(len(events) / (time.thread_time() - started_at))
    yield Result("decode and validate", statistics.median(measured), "events per core-second")


def backlogged(runs: Sequence[Run], prepare: Callable[[], Callable[[], Any]]) -> Iterator[Result]:
    """The roll-up of everything that came over HTTP; then of a backlog, while senders send on."""
    from bench import backlog
    from metering import readings

    alone_per_s = statistics.median(run.per_s for run in runs[1:])
    each = BATCHES["http"] * batches.EVENTS
    pending = readings.freshness().pending_events
    assert pending == len(runs) * each, "an event was lost"
    rolled_up_per_s = pending / backlog.drain()
    assert readings.event_count(1) == pending, "a reading was lost"
    ratio = rolled_up_per_s / alone_per_s
    yield Result("roll-up by itself", rolled_up_per_s, "events/s", NAMES["http"], ratio)
    for _ in range(BACKLOG):
        prepare()()
    with backlog.draining() as process:
        times, took_s = backlog.sent_while(process, prepare)
    counted = readings.event_count(1) + readings.freshness().pending_events
    assert counted == pending + (BACKLOG + times) * each, "an event was lost"
    sent_per_s = times * each / took_s
    name = f"the same while a backlog of {BACKLOG * each:,} events drains"
    yield Result(name, sent_per_s, "events/s", NAMES["http"], sent_per_s / alone_per_s)


if __name__ == "__main__":
    sys.exit(main())
