"""Readings are the sum of events, whatever the order, the split and the accidents on the way."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import DataError, OperationalError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing.rating.event import Event, band_of
from metering import readings, rollup
from metering.rollup import LeaseLost
from metering.usage import bands
from metering.usage.event import UsageEvent
from tests import build
from tests.conftest import NOW
from tests.meter import (
    apply_all,
    database,
    empty,
    empty_meter,
    make_event,
    readings_of,
    store_events,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


def batches(state: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM metering_ingestbatch WHERE state = %s", [state])
        return int(cursor.fetchone()[0])


def expected(events: list[UsageEvent], project_id: int) -> Counter[tuple[Any, ...]]:
    """The readings that these events add up to, worked out the slow way."""
    limits = readings.input_limits()
    total: Counter[tuple[Any, ...]] = Counter()
    for event in events:
        at = event.occurred_at
        starts_at = at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)
        key = (
            starts_at, project_id, event.model, event.api_key or "", event.agent or "",
            event.region or "", event.service_class or "", bands.band(event.usage, limits),
            event.usage.get("reasoning", 0) > 0, ",".join(bands.attributes(event.usage)),
        )  # fmt: skip
        for register, quantity in [*event.usage.items(), ("requests", 1)]:
            total[(*key, register)] += quantity
    return total


def hours_off() -> int:
    """How many hours are not the sum of their quarter-hours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM (SELECT organization_id, date_trunc('hour', starts_at, 'UTC')"
            " AS starts_at, rating_key_id, register, sum(quantity) AS quantity"
            " FROM metering_reading GROUP BY 1, 2, 3, 4) AS reading FULL JOIN metering_readinghour"
            " hour USING (organization_id, starts_at, rating_key_id, register)"
            " WHERE reading.quantity IS DISTINCT FROM hour.quantity"
        )
        return int(cursor.fetchone()[0])


def summed(organization: Organization) -> Counter[tuple[Any, ...]]:
    return Counter({row[:-1]: row[-1] for row in readings_of(organization)})


def test_a_reading_is_the_sum_of_its_quarter_hour(
    database: Database, acme: Organization, now: datetime
) -> None:
    times = ["10:00:00", "10:07:30", "09:59:59.999999", "10:12:30"]
    events = [
        make_event(now=now, id=time, occurred_at=f"2026-11-18T{time}Z", usage={"input": 10})
        for time in times
    ]
    store_events(database, acme, events)
    apply_all()
    inputs = {row[0]: row[-1] for row in readings_of(acme) if row[-2] == "input"}
    assert inputs == {
        datetime(2026, 11, 18, 9, 45, tzinfo=UTC): 10,
        datetime(2026, 11, 18, 10, 0, tzinfo=UTC): 30,
    }
    requests = sum(row[-1] for row in readings_of(acme) if row[-2] == "requests")
    assert requests == 4
    assert batches("applied") == 1


NUMBERS = itertools.count()
EVENTS = st.builds(
    dict,
    id=st.integers(0, 12).map(str),
    occurred_at=st.integers(0, 3000).map(
        lambda s: (datetime(2026, 11, 18, 9, tzinfo=UTC) + timedelta(seconds=s)).isoformat()
    ),
    model=st.sampled_from(["a", "b"]),
    agent=st.sampled_from([None, "x"]),
    usage=st.dictionaries(
        st.sampled_from(["input", "output", "own", "cache_write"]),
        st.integers(0, 10**12),
        min_size=1,
        max_size=3,
    ),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(EVENTS, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_any_order_split_and_repetition_gives_the_same_readings(
    database: Database, acme: Organization, bodies: list[dict[str, Any]], chance: random.Random
) -> None:
    """No token is lost and none is doubled: readings = the sum of the events that stand."""
    now = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)
    organization = build.make_organization(name="T", slug=f"t{next(NUMBERS)}")
    sent = [make_event(now=now, **body) for body in bodies]
    first = {event.id: event for event in reversed(sent)}
    stream = [*sent]
    while stream:
        size = chance.randint(1, len(stream))
        batch, stream = stream[:size], stream[size:]
        store_events(database, organization, batch)
        if chance.random() < 0.3:
            store_events(database, organization, chance.sample(batch, len(batch)))
        if chance.random() < 0.5:
            rollup.apply_pending(chance.randint(1, 3))
    apply_all()
    project_id = organization.projects.get().pk
    assert summed(organization) == expected(list(first.values()), project_id)
    assert hours_off() == 0
    before = readings_of(organization)
    rollup.rebuild(organization.pk)
    assert readings_of(organization) == before
    assert hours_off() == 0


def test_a_rebuild_is_equal_to_the_byte_and_leaves_others_alone(
    database: Database, acme: Organization, globex: Organization, now: datetime
) -> None:
    for organization in (acme, globex):
        for number in range(3):
            events = [
                make_event(now=now, id=f"{number}-{one}", model=f"m{one % 3}", usage={"input": one})
                for one in range(20)
            ]
            store_events(database, organization, events)
    apply_all()
    dump = (
        "SELECT (SELECT md5(string_agg(r::text, E'\\n' ORDER BY r::text)) FROM metering_reading r),"
        " (SELECT md5(string_agg(h::text, E'\\n' ORDER BY h::text)) FROM metering_readinghour h)"
    )
    before = database.execute(dump).fetchone()
    globex_before = readings_of(globex)
    with transaction.atomic():
        rollup.rebuild(acme.pk)
    assert database.execute(dump).fetchone() == before
    assert readings_of(globex) == globex_before


def test_a_rebuild_leaves_pending_batches_to_the_rollup(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, [make_event(now=now, id="a")])
    apply_all()
    store_events(database, acme, [make_event(now=now, id="b")])
    rollup.rebuild(acme.pk)
    assert readings.event_count(acme.pk) == 1
    apply_all()
    assert readings.event_count(acme.pk) == 2


def test_a_worker_whose_lease_ended_cannot_count_what_another_counted(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, [make_event(now=now)])
    zombie = rollup.claim(lease=timedelta(0))
    heir = rollup.claim()
    assert zombie
    assert heir
    assert (zombie.batch_ids, heir.attempts) == (heir.batch_ids, 2)
    with pytest.raises(LeaseLost):
        rollup.apply(zombie)
    assert readings_of(acme) == []
    rollup.apply(heir)
    before = readings_of(acme)
    for late in (zombie, heir):
        assert rollup.apply_or_postpone(late) == 0
    assert readings_of(acme) == before != []


def test_a_claimed_batch_is_nobody_elses(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, [make_event(now=now)])
    assert rollup.claim()
    assert rollup.claim() is None
    assert rollup.apply_pending() == 0


def test_a_poisonous_batch_fails_alone_after_five_attempts(
    database: Database, acme: Organization, now: datetime
) -> None:
    """A sum beyond a bigint is one: the reading cannot hold it."""
    good = store_events(database, acme, [make_event(now=now, id="good")]).batch_id
    poison = make_event(now=now, id="bad", model="bad")._replace(usage={"own": 10**20})
    bad = store_events(database, acme, [poison]).batch_id  # the door would have refused it
    last = store_events(database, acme, [make_event(now=now, id="last")]).batch_id
    attempts = 0
    while batches("pending") and attempts < 20:
        attempts += 1
        rollup.apply_pending()
        database.execute("UPDATE metering_ingestbatch SET lease_until = NULL")  # no waiting here
    states = dict(database.execute("SELECT id, state FROM metering_ingestbatch").fetchall())
    assert states == {good: "applied", bad: "failed", last: "applied"}
    row = database.execute(
        "SELECT attempts, last_error FROM metering_ingestbatch WHERE id = %s", [bad]
    ).fetchone()
    assert row
    assert row[0] == rollup.ATTEMPTS_MAX
    assert "out of range" in row[1]
    assert readings.event_count(acme.pk) == 2
    assert readings.freshness().failed_batches == 1
    assert rollup.apply_pending() == 0


def test_a_failed_batch_can_be_put_back_to_work(
    database: Database, acme: Organization, now: datetime
) -> None:
    batch_id = store_events(database, acme, [make_event(now=now)]).batch_id
    database.execute("UPDATE metering_ingestbatch SET state = 'failed', attempts = 5")
    assert rollup.apply_pending() == 0
    assert rollup.retry_failed(acme.pk, batch_id) is True
    assert rollup.retry_failed(acme.pk, batch_id) is False
    apply_all()
    assert readings.event_count(acme.pk) == 1


def test_a_postponed_batch_waits_and_its_worker_may_not_go_on(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, [make_event(now=now)])
    claimed = rollup.claim()
    assert claimed
    rollup.postpone(claimed, DataError("no"))
    assert rollup.claim() is None
    with pytest.raises(LeaseLost):
        rollup.apply(claimed)


def test_an_outage_is_not_the_batchs_fault(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, [make_event(now=now)])
    for _ in range(rollup.ATTEMPTS_MAX + 2):
        claimed = rollup.claim()
        assert claimed
        rollup.postpone(claimed, OperationalError("the server is going away"))
        database.execute("UPDATE metering_ingestbatch SET lease_until = NULL")
    apply_all()
    assert readings.event_count(acme.pk) == 1


def test_a_batch_that_kills_its_workers_is_given_up(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, [make_event(now=now)])
    for _ in range(rollup.ATTEMPTS_MAX):
        assert rollup.claim(lease=timedelta(0))  # and then nothing more is heard of that worker
    assert rollup.claim() is None
    assert batches("failed") == 1


def test_batches_that_were_tried_go_alone(
    database: Database, acme: Organization, now: datetime
) -> None:
    """So that one which kills its worker takes no others with it, time after time."""
    for number in range(3):
        store_events(database, acme, [make_event(now=now, id=str(number))])
    crashed = rollup.claim(lease=timedelta(0))
    assert crashed
    assert len(crashed) == 3
    again = rollup.claim()
    assert again
    assert len(again) == 1


def test_freshness_says_how_far_behind(
    database: Database, acme: Organization, globex: Organization, now: datetime
) -> None:
    store_events(database, acme, [make_event(now=now, id="a"), make_event(now=now, id="b")])
    fresh = readings.freshness()
    assert (fresh.pending_batches, fresh.pending_events, fresh.failed_batches) == (1, 2, 0)
    assert fresh.oldest_pending_s is not None
    assert readings.freshness(globex.pk).pending_events == 0
    apply_all()
    assert readings.freshness() == (0, 0, 0, None, 0)


def test_an_organization_with_a_long_queue_does_not_hold_up_the_others(
    database: Database, acme: Organization, globex: Organization, now: datetime
) -> None:
    for number in range(30):
        store_events(database, acme, [make_event(now=now, id=f"a{number}")])
    late = store_events(database, globex, [make_event(now=now, id="late")]).batch_id
    claimed = rollup.claim(10)
    assert claimed
    assert len(claimed) == 10
    assert late in claimed.batch_ids
    again = rollup.claim(100)
    assert again
    assert len(again) == 21


REGISTERS = st.sampled_from([
    "input", "cache_read", "cache_write", "output", "reasoning", "input_audio", "input_image",
    "input_video", "input_document", "cache_read_audio", "cache_read_document", "cache_read_image",
    "cache_read_video", "output_video", "output_audio", "cache_write_1h", "cache_hours", "tool_use",
])  # fmt: skip
SIZES = st.sampled_from([0, 1, 15_999, 16_000, 16_001, 32_768, 1_048_577, 2**31, 10**12])
USAGES = st.dictionaries(REGISTERS, SIZES | st.integers(0, 300_000), min_size=1, max_size=6)


@given(st.lists(USAGES, min_size=1, max_size=8))
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
def test_what_cannot_be_told_from_a_sum_is_told_alike_in_sql_and_python(
    database: Database, acme: Organization, now: datetime, usages: list[dict[str, int]]
) -> None:
    empty()
    events = [make_event(now=now, id=str(n), usage=usage) for n, usage in enumerate(usages)]
    store_events(database, acme, events)
    apply_all()
    wanted: Counter[tuple[object, ...]] = Counter()
    for usage in usages:
        attributes = bands.attributes(usage)
        key = (
            bands.band(usage, readings.input_limits()),
            usage.get("reasoning", 0) > 0,
            ",".join(attributes),
        )
        wanted.update({(*key, name): value for name, value in usage.items() if value})
        wanted[*key, "requests"] += 1
        rated = Event("x", now, "m", usage)
        assert (attributes, key[1]) == (rated.all_attributes, rated.thought)
        assert key[0] == band_of(rated.input_tokens, readings.input_limits())
    assert {row[7:11]: row[11] for row in readings_of(acme) if row[11]} == wanted


def test_a_small_claim_looks_up_each_rating_key_once_however_many_there_are(
    database: Database, acme: Organization
) -> None:
    """What the planner believes of a few new batches led it through all keys for each."""
    keys = 400

    def report(round_: int) -> None:
        store_events(database, acme, [
            make_event(now=NOW, id=f"e-{round_}-{number}", api_key=f"key-{number}")
            for number in range(keys)
        ])  # fmt: skip

    report(1)
    apply_all()
    report(2)
    claim = rollup.claim()
    assert claim is not None
    with transaction.atomic(), connection.cursor() as cursor:
        rollup.apply(claim)
        cursor.execute(
            "SELECT coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)"
            " FROM pg_stat_xact_user_tables WHERE relname = 'metering_ratingkey'"
        )
        ((looked_at,),) = cursor.fetchall()
    assert looked_at <= 4 * keys
