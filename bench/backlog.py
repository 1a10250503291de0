"""A backlog that drains while usage comes in: what it costs the senders, and how fast it goes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench import batches, door, report, scratch
from bench.rounds import Run, organization, run

PAGE = Path(__file__).parent / "BACKLOG.md"
BATCHES = 60
ROUNDS = 4  # the first warms up and is not counted


@contextmanager
def draining() -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that applies whatever is open, and says in the end what it took."""
    command = [sys.executable, "-m", "bench.backlog"]
    process = subprocess.Popen(command, env=os.environ.copy(), stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def drain() -> float:
    """Apply everything that is open; the seconds it took."""
    from metering import rollup

    started_at = time.perf_counter()
    while rollup.apply_pending():
        pass
    return time.perf_counter() - started_at


def sent_while(
    draining: subprocess.Popen[bytes], prepare: Callable[[], Callable[[], Any]]
) -> tuple[int, float]:
    """Send as long as it drains, a whole number of times; how often, and the seconds."""
    times, took_s = 0, 0.0
    while draining.poll() is None:
        send = prepare()
        started_at = time.perf_counter()
        send()
        took_s += time.perf_counter() - started_at
        times += 1
    return times, took_s


class Drained(NamedTuple):
    """What the roll-up of a backlog took: by the clock on the wall, and of one core."""

    took_s: float
    database_s: float
    own_s: float


class Found(NamedTuple):
    """A backlog, and sending before it and beside it."""

    events: int
    drained: Drained
    sent_meanwhile: int
    alone: Run
    beside_per_s: float


def measure(stack: ExitStack, millions: int) -> None:
    """Send, lay so many million events by, and send again while they are applied."""
    from metering import readings
    from metering.ingest import pool

    patient, _ = organization("patient")
    sender, key = organization("sender")
    stack.callback(scratch.disconnect)
    own = stack.enter_context(psycopg.connect(pool.conninfo(), autocommit=True))
    port, door_pid = stack.enter_context(door.served())
    senders, clock = door.Senders(port, key), scratch.CoreClock(own, door_pid)
    supply = batches.batches(seed=13)

    def prepare() -> Callable[[], int]:
        bodies = [batches.as_json(batch) for batch in islice(supply, BATCHES)]
        return lambda: senders.send(bodies)

    runs = [run("http", prepare(), BATCHES, clock) for _ in range(ROUNDS)]
    drain()
    _lay_by(own, sender.pk, patient.pk, millions * 1_000_000)
    with draining() as process:
        times, took_s = sent_while(process, prepare)
        assert process.stdout is not None
        drained = Drained(**json.loads(process.stdout.read()))
    drain()
    sent = times * BATCHES * batches.EVENTS
    assert readings.event_count(patient.pk) == millions * 1_000_000, "an event was lost"
    assert readings.event_count(sender.pk) == sent + len(runs) * BATCHES * batches.EVENTS
    (version,) = own.execute("SHOW server_version").fetchone() or ("?",)
    alone = Run(*(statistics.median(column) for column in zip(*runs[1:], strict=True)))
    found = Found(millions * 1_000_000, drained, sent, alone, sent / took_s)
    page = _page(found, str(version))
    PAGE.write_text(page)
    print(page)


def _lay_by(
    own: psycopg.Connection[Any], pattern_of: int, organization_id: int, events: int
) -> None:
    """Another organization's batches, like those that came, that nobody has applied."""
    from bench import growth

    own.execute(growth.NAMES_TOO, {"pattern_of": pattern_of, "organization_id": organization_id})
    growth.fill(own, organization_id, events // batches.EVENTS, state="pending")


def _page(found: Found, server: str) -> str:
    where = [f"- {name}: {value}" for name, value in report.circumstances(server).items()]
    drained, events = found.drained, found.events
    each_us = 1e6 / (events + found.sent_meanwhile)
    rows: Sequence[tuple[str, str]] = (
        ("backlog", f"{events:,} events"),
        ("drained in", f"{drained.took_s:,.0f} s, while {found.sent_meanwhile:,} more came"),
        ("both together", f"{(events + found.sent_meanwhile) / drained.took_s:,.0f} events/s"),
        ("the database's work for each", f"{drained.database_s * each_us:.1f} us of a core"),
        ("the worker's work for each", f"{drained.own_s * each_us:.2f} us of a core"),
        ("ingestion alone", f"{found.alone.per_s:,.0f} events/s"),
        ("ingestion meanwhile", f"{found.beside_per_s:,.0f} events/s"),
        ("ratio of the two", f"{found.beside_per_s / found.alone.per_s:.2f}"),
    )
    table = ["| what | value |", "|---|---:|", *(f"| {what} | {value} |" for what, value in rows)]
    return "\n".join([HEAD, *where, "", *table]) + "\n"


HEAD = """# Backlog

Written by `python -m bench backlog`: events of one organization that nobody applied for a while,
what their roll-up takes, and what it costs another that sends meanwhile, as fast as the door goes.
"""


def main() -> None:
    """Drain, and write down what it took."""
    import django

    django.setup()
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
        before_s, own_before_s = scratch.spent_s(pid), time.process_time()
        took_s = drain()
        database_s = scratch.spent_s(pid) - before_s
    drained = Drained(took_s, database_s, time.process_time() - own_before_s)
    print(json.dumps(drained._asdict()))


if __name__ == "__main__":
    main()
