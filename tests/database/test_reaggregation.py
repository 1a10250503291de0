"""Readings told apart more finely than when they were made: the same sums, at every moment."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from metering import backfills, limits, readings, reaggregation, reverting, rollup, store, summing
from metering.models import Minute
from metering.store import Incoming
from metering.tasks import apply_pending_batches
from metering.usage.correction import Correction
from metering.usage.event import UsageEvent
from tests import build
from tests.conftest import NOW
from tests.database.test_rollup import expected, hours_off, summed
from tests.meter import (
    apply_all,
    connect,
    database,
    empty,
    empty_meter,
    make_event,
    readings_of,
    store_events,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ODD, ODDER = 20_000, 140_000  # sizes that the first set does not have


def event(event_id: str, size: int = 30_000, **fields: Any) -> UsageEvent:
    return make_event(now=NOW, id=event_id, usage={"input": size, "output": 7}, **fields)


def void(database: Database, organization: Organization, name: str, target: str) -> None:
    project_id = organization.projects.get().pk
    item = Correction(name, "gateway-1", target, None, None)
    store.store(database, organization.pk, 1, [Incoming(0, item, project_id, item)])


def roll_up() -> None:
    """Apply what is pending and nothing else."""
    while rollup.apply_pending():
        pass


def ask(organization: Organization, *sizes: int, since: datetime = LONG_AGO) -> None:
    readings.tell_apart(sizes, {organization.pk: since}, reason="a test")


def ask_for_minutes(organization: Organization, since: datetime = LONG_AGO) -> None:
    readings.tell_apart([], {organization.pk: since}, reason="a test", by_minute=True)


def minutes_of(organization: Organization) -> dict[tuple[Any, ...], int]:
    """What was used by minute, API key and register, as far as it is summed so."""
    found = Minute.objects.filter(organization_id=organization.pk, quantity__gt=0)
    return {
        row[:3]: row[3] for row in found.values_list("starts_at", "api_key", "register", "quantity")
    }


def expected_minutes(events: Iterable[UsageEvent]) -> dict[tuple[Any, ...], int]:
    """The same, event by event."""
    total: Counter[tuple[Any, ...]] = Counter()
    for one in events:
        minute = one.occurred_at.replace(second=0, microsecond=0)
        for register, quantity in (*one.usage.items(), ("requests", 1)):
            total[minute, one.api_key or "", register] += quantity
    return not_zero(total)


def bands_of(organization: Organization) -> Counter[int]:
    """How much input lies in each band."""
    total: Counter[int] = Counter()
    for row in readings_of(organization):
        if row[-2] == "input" and row[-1]:
            total[row[7]] += row[-1]
    return total


def sums_of(organization: Organization) -> Counter[tuple[Any, ...]]:
    """What the readings add up to by quarter-hour and register."""
    total: Counter[tuple[Any, ...]] = Counter()
    for row in readings_of(organization):
        total[row[0], row[-2]] += row[-1]
    return total


def minutes_anew(organization: Organization) -> dict[tuple[Any, ...], int]:
    """The same, summed once more from the events of all batches that say that they are in it."""
    with transaction.atomic():
        rollup.rebuild(organization.pk)
        found = minutes_of(organization)
        transaction.set_rollback(True)
    return found


def not_zero(found: Counter[tuple[Any, ...]]) -> dict[tuple[Any, ...], int]:
    return {key: quantity for key, quantity in found.items() if quantity}


# A next set of limits, as the database must refuse it.
REFUSED = {
    "one is taken away": "2, limits[2:] || 2000000",
    "none is new": "2, limits",
    "a number is left out": "3, limits || 2000000",
    "they do not rise": "2, 2000000 || limits",
    "one is there twice": "2, limits || 2000000 || 2000000",
    "one is no size": "2, 0 || limits",
}


@pytest.mark.parametrize("columns", REFUSED.values(), ids=REFUSED)
def test_the_database_lets_limits_only_grow(db: None, columns: str) -> None:
    with (
        pytest.raises(IntegrityError),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "INSERT INTO metering_inputlimits (version, limits, reason)"
            f" SELECT {columns}, 'a test' FROM metering_inputlimits"
        )


@pytest.mark.parametrize("statement", ["UPDATE metering_inputlimits SET limits = limits || 2000000",
                                       "DELETE FROM metering_inputlimits"])  # fmt: skip
def test_a_set_of_limits_stays_as_it_is(db: None, statement: str) -> None:
    with (
        pytest.raises(IntegrityError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_limits_are_extended_once_by_whoever_comes_first(db: None) -> None:
    assert limits.extended_by([16_000, 128_000], "known") == limits.FIRST
    before = readings.input_limits()
    assert limits.extended_by([ODD], "new") == 2
    assert limits.extended_by([ODD, 16_000], "again") == 2
    assert limits.extended_by([ODD, ODDER], "more") == 3
    assert readings.input_limits() == tuple(sorted({*before, ODD, ODDER}))


def test_there_is_an_end_to_how_finely_readings_tell(db: None) -> None:
    room = readings.INPUT_LIMITS_MAX - len(readings.input_limits())
    limits.extended_by(range(1, room + 1), "all that fit")
    with pytest.raises(ValueError, match="64 sizes at most"):
        limits.extended_by([room + 1], "one more")


def test_what_was_summed_before_is_told_apart_by_the_new_size(
    database: Database, acme: Organization, globex: Organization
) -> None:
    for organization in (acme, globex):
        store_events(database, organization, [event("a", 19_000), event("b"), event("c", 31_000)])
    roll_up()
    assert bands_of(acme) == {16_384: 80_000}
    sums, others = sums_of(acme), readings_of(globex)
    ask(acme, ODD)
    assert readings.unsettled(acme.pk, NOW).being_told_apart
    assert not readings.tells_apart(acme.pk, [ODD], LONG_AGO)
    while reaggregation.step():
        pass
    assert bands_of(acme) == {16_384: 19_000, ODD: 61_000}
    assert sums_of(acme) == sums
    assert hours_off() == 0
    assert not readings.unsettled(acme.pk, NOW).being_told_apart
    assert readings.tells_apart(acme.pk, [ODD], LONG_AGO)
    assert readings_of(globex) == others  # nobody asked
    assert not readings.tells_apart(globex.pk, [ODD], LONG_AGO)


def test_usage_to_come_is_told_apart_at_once_whoevers_it_is(
    database: Database, acme: Organization, globex: Organization
) -> None:
    ask(acme, ODD)
    store_events(database, globex, [event("a", 19_000), event("b")])
    roll_up()
    assert bands_of(globex) == {16_384: 19_000, ODD: 30_000}
    assert readings.tells_apart(globex.pk, [ODD], LONG_AGO)


def test_what_the_first_set_tells_is_never_summed_anew(
    database: Database, acme: Organization
) -> None:
    store_events(database, acme, [event("a")])
    roll_up()
    ask(acme, 16_000, 32_768)
    assert not readings.unsettled(acme.pk, NOW).being_told_apart
    assert reaggregation.step() == 0
    assert readings.needs_telling([16_000], {acme.pk: LONG_AGO}) == ((), [])


def test_nothing_is_asked_for_twice(database: Database, acme: Organization) -> None:
    since = NOW - timedelta(days=3)
    assert readings.needs_telling([ODD], {acme.pk: since}) == ((ODD,), [acme.pk])
    ask(acme, ODD, since=since)
    assert readings.needs_telling([ODD], {acme.pk: since}) == ((), [])
    ask(acme, ODD, since=NOW)
    assert len(reaggregation.progress()) == 1
    ask(acme, ODD, since=since - timedelta(days=1))
    assert len(reaggregation.progress()) == 2
    while reaggregation.step():
        pass
    ask(acme, ODD, since=NOW)
    assert reaggregation.progress() == []


def test_what_was_received_before_the_instant_stays_as_it_is(
    database: Database, acme: Organization
) -> None:
    store_events(database, acme, [event("a")])
    roll_up()
    database.execute("UPDATE metering_ingestbatch SET limits_version = 1")
    ask(acme, ODD, since=datetime(2100, 1, 1, tzinfo=UTC))
    while reaggregation.step():
        pass
    assert bands_of(acme) == {16_384: 30_000}


def test_what_left_with_its_backfill_leaves_nothing_to_be_told(
    database: Database, acme: Organization
) -> None:
    """It is in no reading, so nobody walks over it, and nobody is refused a comparison for it."""
    box = backfills.open_backfill(
        acme, reason="why", start=NOW - timedelta(days=1), end=NOW, now=NOW
    ).id
    incoming = [Incoming(0, event("a"), acme.projects.get().pk)]
    store.store(database, acme.pk, 1, incoming, backfill_id=box)
    backfills.close(acme, box, now=NOW)
    apply_all()
    backfills.revert(acme, box, now=NOW)
    apply_all()
    ask(acme, ODD)
    ask_for_minutes(acme)
    apply_all()
    assert readings.tells_apart(acme.pk, [ODD], LONG_AGO, by_minute=True)


def test_an_event_knows_by_which_sizes_its_batch_is_told_apart(
    database: Database, acme: Organization
) -> None:
    store_events(database, acme, [event("a")])
    roll_up()
    ask(acme, ODD)
    (found,) = readings.find_events(acme.pk)
    assert found.input_band == 16_384
    assert readings.reading_of(acme.pk, found)["input"] == 30_000
    while reaggregation.step():
        pass
    (found,) = readings.find_events(acme.pk)
    assert found.input_band == ODD
    assert readings.reading_of(acme.pk, found)["input"] == 30_000
    (tally,) = readings.tallies(acme.pk, [LONG_AGO], NOW + timedelta(hours=1))
    assert tally.kind.input_band == ODD


def test_a_roll_up_under_way_with_the_old_sizes_is_caught(
    database: Database, acme: Organization
) -> None:
    """It took the set before there was another, and commits after it was asked for."""
    store_events(database, acme, [event("a")])
    waits = threading.Event()

    def tell_anew() -> None:
        ask(acme, ODD)
        waits.set()
        while reaggregation.step():
            pass
        connections.close_all()

    worker = threading.Thread(target=tell_anew)
    with transaction.atomic():
        roll_up()
        worker.start()
        assert waits.wait(10)
        until_somebody_waits(database)
    worker.join(10)
    assert not worker.is_alive()
    assert bands_of(acme) == {ODD: 30_000}
    assert not readings.unsettled(acme.pk, NOW).being_told_apart


def until_somebody_waits(database: Database) -> None:
    """Until a session of this database waits for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while database.execute(waiting).fetchone() == (0,):
        pass


def test_whoever_dies_on_the_way_leaves_nothing_half_done(
    database: Database, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is ended while it has moved a part; the next one goes on from the last commit."""
    monkeypatch.setattr(reaggregation, "BATCHES_MAX", 2)
    for number in range(5):
        store_events(database, acme, [event(f"e{number}")])
    roll_up()
    ask(acme, ODD)
    assert reaggregation.step()
    after_one = readings_of(acme)
    with monkeypatch.context() as patch:
        patch.setattr(summing, "add", the_session_ends(database))
        assert reaggregation.step()
    assert readings_of(acme) == after_one
    (left,) = reaggregation.progress()
    assert (left.batches_left, left.attempts) == (3, 0)
    assert "terminating connection" in left.last_error
    database.execute("UPDATE metering_reaggregation SET retry_at = NULL")  # no waiting here
    while reaggregation.step():
        pass
    assert bands_of(acme) == {ODD: 150_000}
    assert hours_off() == 0


def the_session_ends(database: Database) -> Callable[..., None]:
    """Half-way: what moves has left its old place and is not in its new one."""

    def end(cursor: Any, *arguments: Any) -> None:
        cursor.execute("SELECT pg_backend_pid()")
        database.execute("SELECT pg_terminate_backend(%s)", cursor.fetchone())
        cursor.execute("SELECT 1")

    return end


def test_one_that_cannot_be_done_is_tried_later_then_waits_for_a_person(
    database: Database, acme: Organization, globex: Organization
) -> None:
    """Somebody has put his hands into the readings of Acme."""
    for organization in (acme, globex):
        store_events(database, organization, [event("a")])
    roll_up()
    database.execute(
        "UPDATE metering_reading SET quantity = 1 WHERE organization_id = %s", [acme.pk]
    )
    ask(acme, ODD)
    ask(globex, ODD)
    for _ in range(reaggregation.ATTEMPTS_MAX):
        while reaggregation.step():
            pass
        database.execute("UPDATE metering_reaggregation SET retry_at = NULL")
    assert reaggregation.step() == 0
    (stuck,) = reaggregation.progress()
    assert (stuck.organization_id, stuck.is_stuck) == (acme.pk, True)
    assert "reading_is_not_negative" in stuck.last_error
    assert readings.unsettled(acme.pk, NOW).being_told_apart
    assert bands_of(globex) == {ODD: 30_000}
    rollup.rebuild(acme.pk)
    assert reaggregation.retry(acme.pk, stuck.id)
    assert not reaggregation.retry(acme.pk, stuck.id)
    while reaggregation.step():
        pass
    assert bands_of(acme) == {ODD: 30_000}
    assert reaggregation.progress() == []


def test_a_rebuild_tells_apart_by_the_sizes_of_now(database: Database, acme: Organization) -> None:
    store_events(database, acme, [event("a"), event("b", 19_000)])
    roll_up()
    ask(acme, ODD)
    rollup.rebuild(acme.pk)
    assert bands_of(acme) == {16_384: 19_000, ODD: 30_000}
    while reaggregation.step():
        pass
    assert bands_of(acme) == {16_384: 19_000, ODD: 30_000}


def test_the_beat_takes_turns_with_the_roll_up(database: Database, acme: Organization) -> None:
    store_events(database, acme, [event("a")])
    roll_up()
    ask(acme, ODD)
    store_events(database, acme, [event("b")])
    apply_pending_batches()
    assert bands_of(acme) == {ODD: 60_000}
    assert reaggregation.progress() == []


NUMBERS = count(1)
SIZES = st.sampled_from([5, 16_000, 19_999, 20_000, 20_001, 100_000, 139_999, 140_001, 2_000_000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.lists(SIZES, min_size=1, max_size=4)),
        st.tuples(st.just("backfill"), SIZES),
        st.tuples(st.just("void"), st.integers(0, 10)),
        st.tuples(st.just("amend"), SIZES),
        st.tuples(st.just("finer"), st.sampled_from([ODD, ODDER, 100_000])),
        st.tuples(st.just("by minute"), st.none()),
        st.tuples(st.just("apply"), st.integers(1, 3)),
        st.tuples(st.just("re-aggregate"), st.integers(1, 3)),
        st.tuples(st.just("revert"), st.booleans()),
    ),
    min_size=3,
    max_size=25,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS, st.randoms(use_true_random=False))
def test_in_any_course_of_usage_corrections_and_finer_sizes_nothing_is_lost_or_doubled(
    database: Database, acme: Organization, steps: list[tuple[str, Any]], chance: random.Random
) -> None:
    """Telling anew changes no sum; in the end all is as if the last sizes had been there always."""
    empty()
    organization = build.make_organization(name="T", slug=f"t{next(NUMBERS)}")
    stored: dict[str, UsageEvent] = {}
    of_box: dict[int, list[str]] = {}
    numbers = count(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reaggregation, "BATCHES_MAX", 2)
        for kind, argument in steps:
            match kind:
                case "send":
                    events = [event(f"e{next(numbers)}", size) for size in argument]
                    at = NOW - timedelta(minutes=chance.choice([0, 20, 50]))
                    events = [one._replace(occurred_at=at) for one in events]
                    store_events(database, organization, events)
                    stored |= {one.id: one for one in events}
                case "backfill":
                    one = event(f"e{next(numbers)}", argument)
                    start = NOW - timedelta(days=1)
                    box = backfills.open_backfill(
                        organization, reason="why", start=start, end=NOW, now=NOW
                    ).id
                    project_id = organization.projects.get().pk
                    incoming = [Incoming(0, one, project_id)]
                    store.store(database, organization.pk, 1, incoming, backfill_id=box)
                    backfills.close(organization, box, now=NOW)
                    stored[one.id] = one
                    of_box[box] = [one.id]
                case "void" if stored:
                    target = chance.choice(sorted(stored))
                    void(database, organization, f"v{next(numbers)}", target)
                    del stored[target]
                case "amend" if stored:
                    target = chance.choice(sorted(stored))
                    one = event(f"e{next(numbers)}", argument)
                    item = Correction(one.id, "gateway-1", target, None, one)
                    project_id = organization.projects.get().pk
                    store.store(database, organization.pk, 1, [Incoming(0, one, project_id, item)])
                    del stored[target]
                    stored[one.id] = one
                case "finer":
                    ask(organization, argument)
                case "by minute":
                    ask_for_minutes(organization)
                case "apply":
                    rollup.apply_pending(argument)
                case "re-aggregate":
                    before = sums_of(organization)
                    for _ in range(argument):
                        reaggregation.step()
                    assert sums_of(organization) == before
                case "revert" if of_box:
                    box, names = of_box.popitem()
                    backfills.revert(organization, box, now=NOW)
                    for name in names:
                        stored.pop(name, None)
                    if argument:
                        reverting.apply_reverts()
            assert hours_off() == 0
            if kind in {"apply", "re-aggregate", "revert"}:
                assert minutes_of(organization) == minutes_anew(organization)
        ask_for_minutes(organization)
        apply_all()
    fresh = readings.freshness()
    assert (fresh.pending_batches, fresh.failed_batches, reaggregation.progress()) == (0, 0, [])
    wanted = expected(list(stored.values()), organization.projects.get().pk)
    found = not_zero(summed(organization))
    assert found == not_zero(wanted)
    by_minute = minutes_of(organization)
    assert by_minute == expected_minutes(stored.values())
    rollup.rebuild(organization.pk)
    assert not_zero(summed(organization)) == found
    assert minutes_of(organization) == by_minute


def test_only_usage_of_those_who_ask_is_summed_by_the_minute(
    database: Database, acme: Organization, globex: Organization
) -> None:
    ask_for_minutes(acme)
    times = [NOW - timedelta(seconds=seconds) for seconds in (10, 50, 130)]
    events = [event(f"e{at}", 100, api_key="k")._replace(occurred_at=at) for at in times]
    for organization in (acme, globex):
        store_events(database, organization, events)
    roll_up()
    assert minutes_of(acme) == expected_minutes(events)
    assert minutes_of(globex) == {}


def test_usage_from_before_somebody_asked_is_caught_up_and_until_then_it_is_said(
    database: Database, acme: Organization
) -> None:
    stored = [event("a", api_key="k"), event("b")]
    for one in stored:
        store_events(database, acme, [one])
    roll_up()
    assert not readings.tells_apart(acme.pk, [], LONG_AGO, by_minute=True)
    assert readings.needs_telling([], {acme.pk: LONG_AGO}, by_minute=True) == ((), [acme.pk])
    ask_for_minutes(acme)
    assert readings.needs_telling([], {acme.pk: LONG_AGO}, by_minute=True) == ((), [])
    assert readings.unsettled(acme.pk, NOW).being_told_apart
    store_events(database, acme, [event("c")])
    apply_all()
    assert minutes_of(acme) == expected_minutes([*stored, event("c")])
    assert not readings.unsettled(acme.pk, NOW).being_told_apart
    assert readings.tells_apart(acme.pk, [], LONG_AGO, by_minute=True)


def test_a_roll_up_under_way_when_minutes_are_asked_for_is_caught(
    database: Database, acme: Organization
) -> None:
    """It saw nobody ask, and commits after it was asked for."""
    store_events(database, acme, [event("a")])
    waits = threading.Event()

    def catch_up() -> None:
        ask_for_minutes(acme)
        waits.set()
        while reaggregation.step():
            pass
        connections.close_all()

    worker = threading.Thread(target=catch_up)
    with transaction.atomic():
        roll_up()
        worker.start()
        assert waits.wait(10)
        until_somebody_waits(database)
    worker.join(10)
    assert not worker.is_alive()
    assert minutes_of(acme) == expected_minutes([event("a")])


def test_two_workers_share_the_organizations_and_neither_doubles(
    database: Database, acme: Organization, globex: Organization
) -> None:
    for organization in (acme, globex):
        for number in range(6):
            store_events(database, organization, [event(f"e{number}")])
    roll_up()
    ask(acme, ODD)
    ask(globex, ODD)

    def work() -> None:
        while reaggregation.step():
            pass
        connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert bands_of(acme) == bands_of(globex) == {ODD: 180_000}
    assert reaggregation.progress() == []


def test_a_publisher_waits_for_another_and_takes_its_sizes_over(
    database: Database, acme: Organization
) -> None:
    with connect() as other, other.transaction():
        other.execute("LOCK TABLE metering_inputlimits IN SHARE ROW EXCLUSIVE MODE")
        other.execute(
            "INSERT INTO metering_inputlimits SELECT 2, array_agg(one ORDER BY one), now(), 'other'"
            " FROM (SELECT unnest(limits) AS one FROM metering_inputlimits UNION SELECT %s) AS all_"
            "", [ODDER],
        )  # fmt: skip
        found: list[int] = []

        def extend() -> None:
            found.append(limits.extended_by([ODD, ODDER], "both"))
            connections.close_all()

        publisher = threading.Thread(target=extend)
        publisher.start()
        until_somebody_waits(database)
    publisher.join(10)
    assert found == [3]
    assert {ODD, ODDER} <= {*readings.input_limits()}
