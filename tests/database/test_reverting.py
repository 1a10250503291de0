"""What was reverted leaves the readings once, whoever dies, and holds up nobody else."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import OperationalError

from accounts.models import Organization
from metering import backfills, reverting, rollup, summing
from tests.conftest import NOW
from tests.corrections import (
    event,
    opened,
    send,
    tokens,
)
from tests.database.test_rollup import hours_off
from tests.meter import (
    apply_all,
    database,
    empty_meter,
    readings_of,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


def closed_backfill(database: Database, organization: Organization, *ids: str) -> int:
    """A backfill with a batch for each id, closed and in the readings."""
    number = opened(organization)
    for one in ids:
        send(database, organization, [event(one, model=one)], backfill_id=number)
    backfills.close(organization, number, now=NOW)
    apply_all()
    return number


def reverted_backfill(database: Database, organization: Organization, *ids: str) -> None:
    """The same, reverted and not yet out of them."""
    number = closed_backfill(database, organization, *ids)
    backfills.revert(organization, number, now=NOW)


def leases_run_out(database: Database) -> None:
    database.execute("UPDATE metering_ingestbatch SET lease_until = '2020-01-01Z'")


def states(database: Database) -> dict[str, int]:
    rows = database.execute("SELECT state, count(*) FROM metering_ingestbatch GROUP BY state")
    return dict(rows.fetchall())


def test_a_worker_that_dies_while_reverting_leaves_nothing_half_done(
    database: Database, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    reverted_backfill(database, acme, "a", "b")
    before = readings_of(acme)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(summing, "subtract", die)
        with pytest.raises(KeyboardInterrupt):
            reverting.apply_reverts()
    assert readings_of(acme) == before
    assert states(database) == {"reverting": 2}
    assert reverting.apply_reverts() == 0  # until its lease has run out
    leases_run_out(database)
    apply_all()
    assert tokens(acme) == {}
    assert hours_off() == 0


def test_who_was_too_slow_takes_nothing_out_that_another_took_out(
    database: Database, acme: Organization
) -> None:
    reverted_backfill(database, acme, "a", "b")
    slow = reverting.claim()
    assert slow is not None
    leases_run_out(database)
    apply_all()
    assert tokens(acme) == {}
    assert reverting.apply_or_postpone(slow) == 0
    assert tokens(acme) == {}
    assert states(database) == {"reverted": 2}


def test_a_revert_that_cannot_be_done_harms_nobody_else(
    database: Database, acme: Organization, globex: Organization
) -> None:
    """What it would take out is not in the readings: the batch waits, with its error, alone."""
    send(database, acme, [event("before", usage={"input": 7})])
    both = {acme: closed_backfill(database, acme, "a", "b", "c")}
    both[globex] = closed_backfill(database, globex, "other")
    poisoned = _poison(database, "b")
    for organization, number in both.items():
        backfills.revert(organization, number, now=NOW)
    send(database, acme, [event("after", usage={"input": 5})])
    apply_all()
    assert states(database) == {"applied": 2, "reverting": 1, "reverted": 3}
    assert tokens(globex) == {}
    assert tokens(acme)["input"] == 12
    row = "SELECT attempts, last_error, lease_token FROM metering_ingestbatch WHERE id = %s"
    ((attempts, error, token),) = database.execute(row, [poisoned]).fetchall()
    assert (attempts >= 1, token) == (True, None)
    assert "missing" in error
    for _ in range(rollup.ATTEMPTS_MAX):
        leases_run_out(database)
        apply_all()
    ((attempts, error, token),) = database.execute(row, [poisoned]).fetchall()
    assert (attempts, token) == (rollup.ATTEMPTS_MAX, None)
    assert not reverting.retry(acme.pk, poisoned + 1)
    rollup.rebuild(acme.pk)  # which mends the readings
    assert reverting.retry(acme.pk, poisoned)
    assert not reverting.retry(acme.pk, poisoned)
    apply_all()
    assert tokens(acme) == {"input": 12, "requests": 2}
    assert hours_off() == 0


def _poison(database: Database, event_id: str) -> int:
    """Lose the readings of the event, which has a model of its own; its batch."""
    database.execute(
        "DELETE FROM metering_reading WHERE rating_key_id IN"
        " (SELECT id FROM metering_ratingkey WHERE model = %s)",
        [event_id],
    )
    ((batch_id,),) = database.execute(
        "SELECT batch_id FROM metering_eventkey WHERE event_id = %s", [event_id]
    ).fetchall()
    return int(batch_id)


def test_a_batch_that_kills_its_workers_is_left_to_a_person(
    database: Database, acme: Organization
) -> None:
    reverted_backfill(database, acme, "a")
    for _ in range(rollup.ATTEMPTS_MAX):
        assert reverting.claim() is not None
        leases_run_out(database)
    assert reverting.claim() is None
    ((error,),) = database.execute("SELECT last_error FROM metering_ingestbatch").fetchall()
    assert error == "its worker died again and again"


def test_an_outage_while_reverting_is_not_the_batchs_fault(
    database: Database, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    reverted_backfill(database, acme, "a")

    def fail(*_: object) -> None:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as patched:
        patched.setattr(summing, "subtract", fail)
        assert reverting.apply_reverts() == 1
    row = database.execute("SELECT state, attempts, last_error FROM metering_ingestbatch")
    assert row.fetchall() == [("reverting", 0, "the server closed the connection")]


def test_a_revert_between_claim_and_roll_up_delays_no_other_batch(
    database: Database, acme: Organization, globex: Organization
) -> None:
    """What is still the worker's is applied, and nobody waits for its lease to run out."""
    number = opened(acme)
    send(database, acme, [event("a")], backfill_id=number)
    backfills.close(acme, number, now=NOW)
    send(database, acme, [event("b")])
    send(database, globex, [event("c")])
    claim = rollup.claim()
    assert claim is not None
    assert len(claim) == 3
    backfills.revert(acme, number, now=NOW)
    assert rollup.apply_or_postpone(claim) == 2
    assert states(database) == {"applied": 2, "reverted": 1}
    assert tokens(acme)["requests"] == tokens(globex)["requests"] == 1
