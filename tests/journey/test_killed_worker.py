"""A worker that dies in the middle of a roll-up loses nothing and doubles nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from accounts.models import Organization
from config.celery import app
from metering import readings, rollup
from metering.tasks import apply_pending_batches
from tests.meter import apply_all, database, empty_meter, make_event, readings_of, store_events

__all__ = ["database", "empty_meter"]

WITHIN_S = 60.0
ROOT = settings.BASE_DIR

pytestmark = pytest.mark.skipif(
    settings.CELERY_BROKER_URL.startswith("memory:"),
    reason="a worker in a process of its own needs a broker: run under `python -m stack exec`",
)


def until(what: Callable[[], Any]) -> Any:
    """Return as soon as something is so."""
    give_up_at = time.monotonic() + WITHIN_S
    while time.monotonic() < give_up_at:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not so within {WITHIN_S} s")


class Worker:
    """A real Celery worker with its own queue, on the tests' database."""

    def __init__(self) -> None:
        self.name = f"killed-{uuid.uuid4().hex}"
        address = urlsplit(os.environ["DATABASE_URL"])
        database = f"/{connection.settings_dict['NAME']}"
        command = [sys.executable, "-m", "celery", "-A", "config", "worker", "--pool", "prefork"]
        self.process = subprocess.Popen(
            [*command, "-c", "1", "-Q", self.name, "--without-gossip", "--without-mingle"],
            cwd=ROOT,
            env={
                **os.environ,
                "DATABASE_URL": address._replace(path=database).geturl(),
                "PGAPPNAME": self.name,
                "C_FORCE_ROOT": "1",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def ring(self) -> None:
        app.send_task(apply_pending_batches.name, queue=self.name)

    def sessions(self, own: psycopg.Connection[Any], condition: str = "true") -> int:
        row = own.execute(
            f"SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND {condition}",
            [self.name],
        ).fetchone()
        return int(row[0]) if row else 0

    def gone(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """As when the machine runs out of memory: parent and child, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    try:
        yield worker
    finally:
        if not worker.gone():
            worker.kill()
        with app.connection_for_write() as broker:
            broker.default_channel.queue_delete(worker.name)


def test_a_worker_killed_in_the_middle_of_a_rollup_loses_and_doubles_nothing(
    database: psycopg.Connection[Any], acme: Organization, now: datetime, worker: Worker
) -> None:
    """It is caught inside its transaction: it waits for a reading that the test holds locked."""
    store_events(database, acme, [make_event(now=now, id="before")])
    apply_all()
    for number in range(3):
        events = [make_event(now=now, id=f"{number}-{one}") for one in range(10)]
        store_events(database, acme, events)
    before = readings_of(acme)

    with psycopg.connect(database.info.dsn, autocommit=True) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM metering_reading FOR UPDATE")
        worker.ring()
        until(lambda: worker.gone() or worker.sessions(database, "wait_event_type = 'Lock'"))
        assert not worker.gone()
        assert rollup.claim() is None  # all of it is in that worker's hands
        worker.kill()
        holder.execute("ROLLBACK")
    until(lambda: not worker.sessions(database))

    assert readings_of(acme) == before
    assert readings.freshness().pending_events == 30
    assert rollup.apply_pending() == 0  # the lease still runs: nobody else may begin
    database.execute("UPDATE metering_ingestbatch SET lease_until = now() WHERE state = 'pending'")
    apply_all()
    assert readings.event_count(acme.pk) == 31
    sums = {row[-2]: row[-1] for row in readings_of(acme)}
    assert sums == {"input": 31 * 1200, "output": 31 * 80, "requests": 31}
    after = readings_of(acme)
    rollup.rebuild(acme.pk)
    assert readings_of(acme) == after
    assert readings.freshness() == (0, 0, 0, None, 0)
