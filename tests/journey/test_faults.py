"""Usage under faults: a short run of `python -m tests.chaos`, and proof that its count can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from accounts.models import Organization
from tests.chaos import count
from tests.chaos.journal import Acknowledged
from tests.chaos.sender import Plan, source_of
from tests.meter import apply_all, database, empty_meter, make_event, store_events

__all__ = ["database", "empty_meter"]

WITHIN_S = 240


@pytest.mark.skipif(
    settings.CELERY_BROKER_URL.startswith("memory:"),
    reason="kills servers of its own: run under `python -m stack exec`",
)
def test_nothing_acknowledged_is_lost_or_doubled_while_everything_is_killed(tmp_path: Path) -> None:
    ours = ("DATABASE_URL", "CELERY_BROKER_URL", "SECRET_KEY", "KILOTOKEN_KEY_PEPPER")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--acknowledged",
        "12000",
        "--seed",
        "4",
        "--hurry",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "stack", "exec", "--", *command],
        cwd=settings.BASE_DIR,
        env={**env, "KILOTOKEN_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["acknowledged"] >= 12_000
    assert sum(report["faults"].values()) > 0


@pytest.fixture
def plan(now: object) -> Plan:
    return Plan(seed=3, began_at=now - timedelta(hours=1))  # type: ignore[operator]


def _store(
    database: psycopg.Connection, organization: Organization, plan: Plan, number: int
) -> Acknowledged:
    """A planned batch, one without corrections, as if it had been sent and answered."""
    sent = [
        make_event(
            now=plan.began_at + timedelta(minutes=5),
            id=event.event_id,
            source=source_of(0),
            occurred_at=event.occurred_at.isoformat(),
            model=event.model,
            usage=event.usage,
        )
        for event in plan.batch(0, number)
    ]
    stored = store_events(database, organization, sent)
    apply_all()
    return Acknowledged(0, number, len(stored.outcomes), 0)


def test_the_count_is_content_where_everything_acknowledged_is_there(
    database: psycopg.Connection, acme: Organization, plan: Plan
) -> None:
    batches = [_store(database, acme, plan, number) for number in range(2)]
    assert count.faults(acme.pk, plan, batches) == []


def test_the_count_finds_a_lost_batch(
    database: psycopg.Connection, acme: Organization, plan: Plan
) -> None:
    batches = [_store(database, acme, plan, 0), Acknowledged(0, 1, 1, 0)]
    said = count.faults(acme.pk, plan, batches)
    assert said[0].startswith("lost: ")


def test_the_count_finds_an_event_nobody_was_told_of(
    database: psycopg.Connection, acme: Organization, plan: Plan
) -> None:
    batches = [_store(database, acme, plan, number) for number in range(2)]
    said = count.faults(acme.pk, plan, batches[:1])
    assert said[0].startswith("never sent: ")


def test_the_count_finds_a_reading_that_was_added_to_twice(
    database: psycopg.Connection, acme: Organization, plan: Plan
) -> None:
    batches = [_store(database, acme, plan, 0)]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE metering_reading SET quantity = quantity + 1 WHERE quantity > 0")
    said = count.faults(acme.pk, plan, batches)
    assert any(one.startswith("reading ") for one in said)
    assert any(one.startswith("made anew") for one in said)
