"""Backfills are held, released and taken back, as a whole."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.models import Organization
from metering import backfills, held, readings, rollup
from metering.tasks import apply_pending_batches
from tests.conftest import NOW
from tests.corrections import (
    amend,
    detail,
    event,
    nothing_waits,
    opened,
    said,
    send,
    tokens,
    void,
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


def test_what_is_in_a_backfill_counts_when_that_is_closed(
    database: Database, acme: Organization
) -> None:
    number = opened(acme)
    stored = send(database, acme, [event("a", usage={"input": 5, "own": 2}), event("a"),
                                   event("b", usage={"input": 1})], backfill_id=number)  # fmt: skip
    assert said(stored) == ["accepted", "conflict", "accepted"]
    apply_all()
    assert tokens(acme) == {}
    assert readings.freshness(acme.pk).oldest_pending_s is None
    (counts,) = backfills.counts([backfills.get(acme.pk, number)]).values()
    assert (counts.submitted, counts.accepted, counts.conflict, counts.applied) == (3, 2, 1, 0)
    assert backfills.usage(acme.pk, number) == {"input": 6, "own": 2}
    assert backfills.close(acme, number, now=NOW)
    assert (readings.freshness(acme.pk).oldest_pending_s or 0) < 60
    apply_all()
    assert tokens(acme) == {"input": 6, "own": 2, "requests": 2}
    (counts,) = backfills.counts([backfills.get(acme.pk, number)]).values()
    assert counts.applied == 2


@pytest.mark.parametrize("when", ["open", "closed", "half applied", "applied"])
def test_a_reverted_backfill_counts_nowhere_whenever_it_is_reverted(
    database: Database, acme: Organization, when: str
) -> None:
    number = opened(acme)
    send(database, acme, [event("other", usage={"input": 100})])
    for name in "abc":
        send(database, acme, [event(name)], backfill_id=number)
    if when != "open":
        backfills.close(acme, number, now=NOW)
    if when == "half applied":
        rollup.apply_pending(2)
    if when == "applied":
        apply_all()
    assert backfills.revert(acme, number, now=NOW)
    assert not backfills.revert(acme, number, now=NOW)
    apply_all()
    assert tokens(acme) == {"input": 100, "requests": 1}
    assert hours_off() == 0
    assert readings.freshness(acme.pk).pending_batches == 0
    before = readings_of(acme)
    rollup.rebuild(acme.pk)
    assert readings_of(acme) == before


def test_the_beat_takes_out_what_was_reverted(database: Database, acme: Organization) -> None:
    number = opened(acme)
    send(database, acme, [event("a")], backfill_id=number)
    backfills.close(acme, number, now=NOW)
    apply_pending_batches()
    assert tokens(acme)["requests"] == 1
    backfills.revert(acme, number, now=NOW)
    apply_pending_batches()
    assert tokens(acme) == {}
    assert nothing_waits()


def test_an_event_of_a_reverted_backfill_is_never_lost_in_silence(
    database: Database, acme: Organization
) -> None:
    number = opened(acme)
    send(database, acme, [event("a"), event("b")], backfill_id=number)
    backfills.revert(acme, number, now=NOW)
    again = send(database, acme, [event("a"), event("a", model="x"), event("new")])
    assert said(again) == ["event_reverted", "event_reverted", "accepted"]
    assert f"backfill {number}" in detail(again)
    assert "new id" in detail(again)
    corrections = send(database, acme, [void("v", "a"), amend("w", "b")])
    assert said(corrections) == ["duplicate", "already_voided"]


def test_an_event_in_a_backfill_can_be_voided_before_and_after_it_counts(
    database: Database, acme: Organization
) -> None:
    number = opened(acme)
    send(database, acme, [event(name) for name in "abc"], backfill_id=number)
    assert said(send(database, acme, [void("v", "a")])) == ["accepted"]
    apply_all()
    assert tokens(acme) == {}
    backfills.close(acme, number, now=NOW)
    apply_all()
    assert tokens(acme)["requests"] == 2
    send(database, acme, [void("w", "b")])
    apply_all()
    (counts,) = backfills.counts([backfills.get(acme.pk, number)]).values()
    assert (counts.accepted, counts.voided, counts.applied) == (3, 2, 1)
    send(database, acme, [void("x", "c")])
    backfills.revert(acme, number, now=NOW)
    apply_all()
    assert tokens(acme) == {}
    assert hours_off() == 0


def test_nothing_comes_into_a_backfill_that_is_not_open(
    database: Database, acme: Organization, globex: Organization
) -> None:
    number = opened(acme)
    for organization, of in ((globex, number), (acme, number + 1)):
        with pytest.raises(held.BackfillNotOpen):
            send(database, organization, [event("a")], backfill_id=of)
    backfills.close(acme, number, now=NOW)
    with pytest.raises(held.BackfillNotOpen):
        send(database, acme, [event("a")], backfill_id=number)
    assert database.execute("SELECT count(*) FROM metering_ingestbatch").fetchone() == (0,)


@pytest.mark.parametrize("step", [backfills.close, backfills.revert])
def test_closing_and_reverting_wait_for_whoever_is_sending(
    database: Database, acme: Organization, step: Any
) -> None:
    number = opened(acme)
    finished = threading.Event()

    def settle() -> None:
        step(Organization.objects.get(pk=acme.pk), number, now=NOW)
        connection.close()
        finished.set()

    thread = threading.Thread(target=settle)
    with database.transaction():
        send(database, acme, [event("a")], backfill_id=number)
        thread.start()
        assert not finished.wait(0.3)
    thread.join()
    apply_all()
    counted = step is backfills.close
    assert tokens(acme).get("requests", 0) == (1 if counted else 0)
    states = database.execute("SELECT DISTINCT state FROM metering_ingestbatch").fetchall()
    assert states == [("applied" if counted else "reverted",)]
