"""What was counted before is used while it is true, and counted again where it is not any more."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from accounts.models import Organization
from metering import backfills, readings, tally_blocks
from metering.tally_blocks import Stretch
from tests.conftest import NOW
from tests.corrections import JULY, opened, send, void
from tests.meter import apply_all, connect, database, empty_meter, make_event

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]
BEGINNING, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_blocks, "BLOCK_EVENTS", 2)


@pytest.fixture
def stretch(acme: Organization) -> Stretch:
    return Stretch(acme.pk, (BEGINNING, NOW - timedelta(hours=1)), END)


@pytest.fixture
def counted_once(database: Database, acme: Organization, stretch: Stretch) -> list[int]:
    """Six batches of one event each, all of them counted; the first numbers of their blocks."""
    for number in range(6):
        send_one(database, acme, str(number), usage={"input": 10_000 * number, "output": 1})
    apply_all()
    return count_all(database, stretch)


def send_one(database: Database, organization: Organization, name: str, **fields: Any) -> None:
    send(database, organization, [make_event(now=NOW, id=name, **fields)])


def count_all(database: Database, stretch: Stretch) -> list[int]:
    while not tally_blocks.count_on(stretch).is_done:
        pass
    return blocks(database)


def blocks(database: Database) -> list[int]:
    rows = database.execute("SELECT first_id FROM metering_tallyblock ORDER BY first_id")
    return [first_id for (first_id,) in rows]


def is_exact(stretch: Stretch, seen_until: datetime | None = None) -> bool:
    """Whether the tallies are what going through all events tells."""
    with transaction.atomic():
        told = tally_blocks.counted(stretch, seen_until=seen_until)
        true = readings.tallies(*stretch, seen_until=seen_until)
    assert len({one.kind for one in told}) == len(told) > 0
    return {one.kind: one for one in told} == {one.kind: one for one in true}


def uncounted(stretch: Stretch, seen_until: datetime | None = None) -> int:
    """How many events would have to be gone through."""
    try:
        tally_blocks.counted(stretch, seen_until=seen_until, events_max=0)
    except tally_blocks.TooManyEvents as refused:
        return refused.events - refused.counted
    return 0


def test_blocks_say_what_all_events_say(counted_once: list[int], stretch: Stretch) -> None:
    assert len(counted_once) == 3
    assert uncounted(stretch) == 0
    assert is_exact(stretch)


def test_new_batches_are_gone_through_until_they_fill_a_block(
    database: Database, acme: Organization, stretch: Stretch, counted_once: list[int]
) -> None:
    send_one(database, acme, "pending")
    assert (uncounted(stretch), is_exact(stretch)) == (1, True)
    apply_all()
    assert count_all(database, stretch) == counted_once
    send_one(database, acme, "one more")
    apply_all()
    assert len(count_all(database, stretch)) == 4
    assert (uncounted(stretch), is_exact(stretch)) == (0, True)


def test_a_void_makes_its_block_be_counted_again(
    database: Database, acme: Organization, stretch: Stretch, counted_once: list[int]
) -> None:
    send(database, acme, [void("v", "2")])
    assert (uncounted(stretch), is_exact(stretch)) == (0, True)  # until it is in the readings
    apply_all()
    assert (uncounted(stretch), is_exact(stretch)) == (2, True)
    assert count_all(database, stretch) == counted_once
    assert (uncounted(stretch), is_exact(stretch)) == (0, True)


def test_a_revert_makes_its_blocks_be_counted_again(
    database: Database, acme: Organization, stretch: Stretch
) -> None:
    number = opened(acme)
    for name in "abcd":
        send_one(database, acme, name)
        then = make_event(now=NOW, id=f"{name}-then")._replace(occurred_at=JULY)
        send(database, acme, [then], backfill_id=number)
    backfills.close(acme, number, now=NOW)
    apply_all()
    assert len(count_all(database, stretch)) == 4
    assert is_exact(stretch)
    backfills.revert(acme, number, now=NOW)
    assert (uncounted(stretch), is_exact(stretch)) == (8, True)
    apply_all()
    count_all(database, stretch)
    assert is_exact(stretch)


def test_telling_a_batch_apart_anew_makes_its_block_be_counted_again(
    database: Database, acme: Organization, stretch: Stretch, counted_once: list[int]
) -> None:
    readings.tell_apart([25_000], {acme.pk: NOW - timedelta(days=400)}, reason="a test")
    apply_all()
    assert (uncounted(stretch), is_exact(stretch)) == (6, True)
    assert count_all(database, stretch) == counted_once
    assert (uncounted(stretch), is_exact(stretch)) == (0, True)


def test_what_was_applied_late_is_told_of_whole_blocks_and_gone_through_in_others(
    database: Database, stretch: Stretch, counted_once: list[int]
) -> None:
    rows = database.execute("SELECT applied_at FROM metering_ingestbatch ORDER BY id").fetchall()
    # All were applied together: they are taken apart, as if each had been by itself.
    for number, (applied_at,) in enumerate(rows):
        database.execute(
            "UPDATE metering_ingestbatch SET applied_at = %s WHERE id = ("
            "SELECT id FROM metering_ingestbatch ORDER BY id OFFSET %s LIMIT 1)",
            [applied_at + timedelta(seconds=number), number],
        )
    database.execute("DELETE FROM metering_tallyblock")
    count_all(database, stretch)
    first = rows[0][0]
    for second, gone_through in ((-1, 0), (2, 0), (3, 2), (4, 0), (99, 0)):
        seen_until = first + timedelta(seconds=second)
        assert uncounted(stretch, seen_until) == gone_through, second
        assert is_exact(stretch, seen_until)


def test_other_slices_are_counted_by_themselves(
    database: Database, stretch: Stretch, counted_once: list[int]
) -> None:
    other = stretch._replace(starts=(BEGINNING,))
    assert uncounted(other) == 6
    count_all(database, other)
    assert len(blocks(database)) == 2 * len(counted_once)
    assert is_exact(other)
    assert is_exact(stretch)


def test_a_batch_that_commits_late_among_others_is_not_missed(
    database: Database, acme: Organization, stretch: Stretch
) -> None:
    """Numbers are taken before the commit: a block may have been counted around one."""
    send_one(database, acme, "its names")
    with connect() as slow, slow.transaction():
        send(slow, acme, [make_event(now=NOW, id="slow")])
        for name in "abc":
            send_one(database, acme, name)
        apply_all()
        count_all(database, stretch)
    assert is_exact(stretch)
    apply_all()
    assert is_exact(stretch)
    count_all(database, stretch)
    assert is_exact(stretch)


def test_two_who_count_do_not_count_twice(
    database: Database, stretch: Stretch, counted_once: list[int]
) -> None:
    database.execute("DELETE FROM metering_tallyblock")
    with connect() as other, other.transaction():
        other.execute(tally_blocks.LOCK, [stretch.organization_id])
        found: list[tally_blocks.Progress] = []
        thread = threading.Thread(target=lambda: found.append(_apart(stretch)))
        thread.start()
        thread.join()
    assert found == [(0, 6, True)]
    assert count_all(database, stretch) == counted_once


def _apart(stretch: Stretch) -> tally_blocks.Progress:
    try:
        return tally_blocks.count_on(stretch)
    finally:
        connection.close()


def test_what_was_counted_long_ago_is_let_go_of(
    database: Database, stretch: Stretch, counted_once: list[int]
) -> None:
    tally_blocks.purge()
    assert blocks(database) == counted_once
    database.execute(
        "UPDATE metering_tallyblock SET counted_at = counted_at - interval '31 days'"
        " WHERE first_id = %s",
        [counted_once[0]],
    )
    tally_blocks.purge()
    assert blocks(database) == counted_once[1:]
    assert count_all(database, stretch) == counted_once
    assert is_exact(stretch)
