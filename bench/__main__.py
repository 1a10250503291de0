"""`python -m bench`: how fast usage comes in, beside the fastest and the plain way."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from bench import batches, report, scratch
from bench.report import Result

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.update(INGEST_EVENTS_PER_S="0", INGEST_BYTES_PER_S="0")  # one key sends all there is

DEFAULT_ROUNDS = 7
ROUNDS_S_MAX = 45.0  # on a busy machine: fewer rounds
BATCHES = {"copy": 60, "http": 60, "plain": 4}  # per round, so that each runs about a second
WAYS = tuple(BATCHES)


def main() -> int:
    """Measure and report; nonzero only if something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        stack.enter_context(scratch.database())
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--skip-checks", "--verbosity", "0"],
            check=True,
        )
        import django

        django.setup()
        results, server = measure(stack, rounds)
    print(report.write(results, server=server))
    return 0


def measure(stack: ExitStack, rounds: int) -> tuple[list[Result], str]:
    """Everything, in the scratch database."""
    import psycopg
    from django.db import connection

    from bench import closing, door, plain_django, raw_copy, single_events
    from metering.ingest import pool

    organization_id, key = _organization()
    with connection.schema_editor() as editor:
        editor.create_model(plain_django.PlainEvent)
    stack.callback(connection.close_pool)
    stack.callback(connection.close)
    watcher = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own.execute(raw_copy.CREATE)
    port, door_pid = stack.enter_context(door.served())
    senders = door.Senders(port, key)
    supply = batches.batches(seed=7)

    def take(way: str) -> tuple[Callable[[], Any], int]:
        chosen = list(islice(supply, BATCHES[way]))
        if way == "copy":
            texts = [raw_copy.render(batch, organization_id) for batch in chosen]
            return lambda: [raw_copy.copy(own, text) for text in texts], len(chosen)
        if way == "http":
            bodies = [batches.as_json(batch) for batch in chosen]
            return lambda: senders.send(bodies), len(chosen)
        return lambda: [plain_django.take(batch, organization_id) for batch in chosen], len(chosen)

    clock = scratch.CoreClock(watcher, door_pid)
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    started_at = time.perf_counter()
    for number in range(rounds + 1):  # the first warms up and is not counted
        if number > 1 and time.perf_counter() - started_at > ROUNDS_S_MAX:
            break
        for way in WAYS:
            runs[way].append(_run(way, *take(way), clock))
    results = [*_compared(runs), *alone(supply), drained(len(runs["http"]))]
    results += closing.measure(clock)
    results += single_events.compared(port, key)
    (version,) = watcher.execute("SHOW server_version").fetchone() or ("?",)
    return results, str(version)


class Run(NamedTuple):
    """One round of one way: events by the clock on the wall and by processor seconds."""

    per_s: float
    per_database_core_s: float
    per_core_s: float  # of the database and of whatever stands in front of it


def _run(way: str, act: Callable[[], Any], count: int, clock: scratch.CoreClock) -> Run:
    """The senders' own work is not counted, only that of who receives."""
    events = count * batches.EVENTS
    receiver = clock.door_s if way == "http" else time.process_time
    receiver_before, database_before = receiver(), clock.database_s()
    started_at = time.perf_counter()
    act()
    took_s = time.perf_counter() - started_at
    database_s = max(clock.database_s() - database_before, 0.01)
    receiver_s = receiver() - receiver_before
    return Run(events / took_s, events / database_s, events / (database_s + receiver_s))


NAMES = {
    "copy": "raw COPY, batches of 1,000",
    "plain": "plain Django (DRF, bulk_create), no HTTP",
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
        for way in ("copy", "plain"):
            yield Result(NAMES[way], median[way], unit)
        for way in ("copy", "plain"):
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


def drained(done: int) -> Result:
    """The roll-up of everything that came over HTTP; none of it was rolled up before."""
    from metering import readings, rollup

    pending = readings.freshness().pending_events
    assert pending == done * BATCHES["http"] * batches.EVENTS, "an event was lost"
    started_at = time.perf_counter()
    while rollup.apply_pending():
        pass
    took_s = time.perf_counter() - started_at
    assert readings.event_count(1) == pending, "a reading was lost"
    return Result("roll-up", pending / took_s, "events/s")


def _organization() -> tuple[int, str]:
    """Organization 1 of the scratch database, its default project, and a key that may send."""
    from django.conf import settings

    from accounts import keys
    from accounts.models import ApiKey, Organization, Project

    organization = Organization.objects.create(
        name="Bench", slug="bench", currency="USD", zone="UTC"
    )
    Project.objects.create(organization=organization, slug="default", name="Default")
    new = keys.make(settings.KEY_PEPPER)
    ApiKey.objects.create(
        organization=organization, name="bench", prefix=new.prefix, digest=new.digest,
        scopes=["ingest"],
    )  # fmt: skip
    return organization.pk, new.text


if __name__ == "__main__":
    sys.exit(main())
