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
from typing import Any

from bench import batches, report, scratch
from bench.report import Result

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

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

    from bench import door, plain_django, raw_copy
    from metering.ingest import pool

    organization_id, key = _organization()
    with connection.schema_editor() as editor:
        editor.create_model(plain_django.PlainEvent)
    stack.callback(connection.close_pool)
    stack.callback(connection.close)
    watcher = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    own.execute(raw_copy.CREATE)
    senders = door.Senders(stack.enter_context(door.served()), key)
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

    clock = scratch.ServerClock(watcher)
    wall: dict[str, list[float]] = {way: [] for way in WAYS}
    core: dict[str, list[float]] = {way: [] for way in WAYS}
    started_at = time.perf_counter()
    done = 0
    for number in range(rounds + 1):  # the first warms up and is not counted
        if number > 1 and time.perf_counter() - started_at > ROUNDS_S_MAX:
            break
        done += 1
        for way in WAYS:
            per_s, per_core_s = _timed(*take(way), clock)
            if number:
                wall[way].append(per_s)
                core[way].append(per_core_s)
    results = [*_compared(wall, core), *alone(supply), drained(done)]
    (version,) = watcher.execute("SHOW server_version").fetchone() or ("?",)
    return results, str(version)


def _timed(act: Callable[[], Any], count: int, clock: scratch.ServerClock) -> tuple[float, float]:
    events = count * batches.EVENTS
    cpu_before, started_at = clock.seconds(), time.perf_counter()
    act()
    took_s = time.perf_counter() - started_at
    cpu_after = clock.seconds()
    if cpu_before is None or cpu_after is None or cpu_after <= cpu_before:
        return events / took_s, 0.0
    return events / took_s, events / (cpu_after - cpu_before)


def _compared(wall: dict[str, list[float]], core: dict[str, list[float]]) -> Iterator[Result]:
    median = {way: statistics.median(figures) for way, figures in wall.items()}
    per_core = {way: statistics.median(figures) for way, figures in core.items()}
    yield Result("raw COPY, batches of 1,000", median["copy"], "events/s")
    yield Result("plain Django (DRF, bulk_create), no HTTP", median["plain"], "events/s")
    http = median["http"]
    name = "ingestion over HTTP, batches of 1,000"
    yield Result(name, http, "events/s", "raw COPY", http / median["copy"])
    yield Result(name, http, "events/s", "plain Django", http / median["plain"])
    if all(per_core.values()):
        yield Result("raw COPY", per_core["copy"], "events per core-second of the database")
        yield Result(
            name,
            per_core["http"],
            "events per core-second of the database",
            "raw COPY",
            per_core["http"] / per_core["copy"],
        )


def alone(supply: Iterator[list[batches.Event]]) -> Iterator[Result]:
    """Decoding, validating and fingerprinting without a database."""
    from metering.ingest import decode
    from metering.usage.fingerprint import fingerprint

    bodies = [batches.as_json(batch) for batch in islice(supply, 30)]
    now = datetime.now(UTC)
    figures: dict[str, list[float]] = {"decode and validate": [], "fingerprint": []}
    for body in bodies:
        started_at = time.perf_counter()
        events = decode.decode(body, lines=False, now=now).events
        decoded_at = time.perf_counter()
        for event in events:
            assert isinstance(event, tuple)
            fingerprint(event, 1)
        done_at = time.perf_counter()
        figures["decode and validate"].append(len(events) / (decoded_at - started_at))
        figures["fingerprint"].append(len(events) / (done_at - decoded_at))
    for name, measured in figures.items():
        yield Result(name, statistics.median(measured), "events/s and core")


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
