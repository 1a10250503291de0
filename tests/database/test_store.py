"""Durable and deduplicated are one act: what was acknowledged is there once, whatever happens."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, transaction
from django.db import connection as django_connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from metering import names, news, store, voids
from metering.readings import find_events
from metering.store import AllOrNothing, Status
from metering.usage.event import UsageEvent
from metering.usage.identity import packed
from tests.meter import connect, database, empty_meter, make_event, store_events

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]
A, D, C = Status.ACCEPTED, Status.DUPLICATE, Status.CONFLICT


def events_of(now: datetime, *ids: str, **fields: Any) -> list[UsageEvent]:
    return [make_event(now=now, id=one, **fields) for one in ids]


def statuses(stored: store.Stored) -> list[Status]:
    assert [outcome.ordinal for outcome in stored.outcomes] == list(range(len(stored.outcomes)))
    return [outcome.status for outcome in stored.outcomes]


def count(table: str) -> int:
    with django_connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def batch_row(batch_id: int) -> tuple[Any, ...]:
    with django_connection.cursor() as cursor:
        cursor.execute(
            "SELECT submitted, accepted, duplicate, conflict, rejected, state"
            " FROM metering_ingestbatch WHERE id = %s",
            [batch_id],
        )
        row: tuple[Any, ...] = cursor.fetchone()
        return row


def test_what_is_new_is_accepted_and_kept_whole(
    database: Database, acme: Organization, now: datetime
) -> None:
    event = make_event(
        now=now,
        id='a\\b"Größe',
        source="s\\N",
        agent="coder",
        session="s-1",
        region="eu",
        service_class="batch",
        api_key="abc",
        usage={"input": 1, "reasoning": 0, "somebodys_own": 7},
    )
    stored = store_events(database, acme, [event], rejected=2)
    assert statuses(stored) == [A]
    assert batch_row(stored.batch_id) == (3, 1, 0, 0, 2, "pending")
    (found,) = find_events(acme.pk)
    for name in event._fields:
        if name not in ("project", "usage"):
            assert getattr(found, name) == getattr(event, name), name
    assert found.usage == event.usage
    assert (found.project, found.batch_state) == ("default", "pending")
    assert found.received_at == stored.received_at


def test_the_same_batch_again_is_all_duplicates_and_nothing_for_the_rollup(
    database: Database, acme: Organization, now: datetime
) -> None:
    events = events_of(now, "a", "b", "c")
    store_events(database, acme, events)
    again = store_events(database, acme, list(reversed(events)))
    assert statuses(again) == [D, D, D]
    assert batch_row(again.batch_id) == (3, 0, 3, 0, 0, "applied")
    assert count("metering_event") == count("metering_eventkey") == 3


@pytest.mark.parametrize("size", [news.AT_ONCE_MAX, news.AT_ONCE_MAX + 1])
def test_a_duplicate_that_the_sample_missed_is_found_all_the_same(
    database: Database, acme: Organization, now: datetime, size: int
) -> None:
    names = [f"{number:03}" for number in range(size)]
    sampled = sorted(names)[:: size // news.SAMPLE]
    known = next(name for name in names if name not in sampled)
    store_events(database, acme, events_of(now, known))
    stored = store_events(database, acme, events_of(now, *names))
    assert statuses(stored).count(A) == size - 1
    assert stored.outcomes[int(known)].status is D
    assert batch_row(stored.batch_id) == (size, size - 1, 1, 0, 0, "pending")
    assert count("metering_event") == count("metering_eventkey") == size


def test_other_content_under_the_same_identity_is_a_conflict_and_the_first_stands(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, events_of(now, "a", usage={"input": 1, "own": 3}))
    stored = store_events(
        database, acme, events_of(now, "a", "b", usage={"input": 2}, model="other")
    )
    assert statuses(stored) == [C, A]
    detail = stored.outcomes[0].detail or ""
    assert "was accepted at 2" in detail
    assert "model deepseek-v4, now other" in detail
    assert "usage.input 1, now 2" in detail
    assert "usage.own 3, now absent" in detail
    assert [found.usage for found in find_events(acme.pk, event_id="a")] == [{"input": 1, "own": 3}]


@pytest.mark.parametrize("stored_before", [True, False])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"occurred_at": "2026-11-18T11:07:30.000+01:00"}, D),
        ({"usage": {"output": 80, "input": 1200}}, D),
        ({"agent": None}, D),
        ({"occurred_at": "2026-11-18T10:07:30.000001Z"}, C),
        ({"model": "other"}, C),
        ({"api_key": "k"}, C),
        ({"agent": "k"}, C),
        ({"session": "NULL"}, C),
        ({"region": "k"}, C),
        ({"service_class": "k"}, C),
        ({"usage": {"input": 1200, "output": 81}}, C),
        ({"usage": {"input": 1200}}, C),
        ({"usage": {"input": 1200, "output": 80, "reasoning": 0}}, C),
        ({"usage": {"input": 1200, "output": 80, "own": 0}}, C),
    ],
)
def test_every_field_but_the_identity_is_content(
    database: Database,
    acme: Organization,
    now: datetime,
    fields: dict[str, object],
    status: Status,
    *,
    stored_before: bool,
) -> None:
    first, second = make_event(now=now, id="a"), make_event(now=now, id="a", **fields)
    if stored_before:
        store_events(database, acme, [first])
        assert statuses(store_events(database, acme, [second])) == [status]
    else:
        assert statuses(store_events(database, acme, [first, second])) == [A, status]


def test_the_project_is_content_by_its_row(
    database: Database, acme: Organization, now: datetime
) -> None:
    """A renamed project must not turn a retry into a conflict, and another one is another story."""
    (event,) = events_of(now, "a")
    outcomes = [
        store.store(database, acme.pk, 1, [store.Incoming(0, event, project_id)]).outcomes[0]
        for project_id in (1, 1, 2)
    ]
    assert [outcome.status for outcome in outcomes] == [A, D, C]
    assert "with other content: project." in (outcomes[2].detail or "")


def test_quantities_beyond_32_bits_and_registers_of_ones_own_come_back_as_they_were(
    database: Database, acme: Organization, now: datetime
) -> None:
    usages = [
        {"input": 2**31 - 1, "output": 2**31},
        {"input": 10**12, "cache_read": 0, "own": 10**12},
        {"reasoning": 5},
        {"input_audio": 7},
    ]
    events = [make_event(now=now, id=str(n), usage=usage) for n, usage in enumerate(usages)]
    store_events(database, acme, events)
    assert [found.usage for found in reversed(find_events(acme.pk))] == usages
    assert statuses(store_events(database, acme, events)) == [D, D, D, D]


@given(
    st.text(min_size=1, max_size=128).filter(lambda text: "\x00" not in text) | st.uuids().map(str)
)
@settings(
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
def test_ids_are_packed_alike_in_sql_and_python_and_come_back(db: None, event_id: str) -> None:
    with django_connection.cursor() as cursor:
        cursor.execute(
            "SELECT metering_packed(%s), metering_unpacked(%s)", [event_id, packed(event_id)]
        )
        in_sql, back = cursor.fetchone()
    assert bytes(in_sql) == packed(event_id)
    assert back == event_id


def test_a_name_given_a_number_in_a_transaction_that_fails_is_not_remembered(
    database: Database, acme: Organization
) -> None:
    with database.transaction(force_rollback=True):
        names.source_ids(database, acme.pk, ["gateway"])
    number = names.source_ids(database, acme.pk, ["gateway"])["gateway"]
    assert database.execute("SELECT id FROM metering_source").fetchall() == [(number,)]


def test_twice_in_one_batch_counts_once(
    database: Database, acme: Organization, now: datetime
) -> None:
    same = make_event(now=now, id="a")
    other = make_event(now=now, id="a", usage={"input": 9})
    stored = store_events(database, acme, [same, same, other, make_event(now=now, id="b")])
    assert statuses(stored) == [A, D, C, A]
    assert "index 0 of this batch" in (stored.outcomes[1].detail or "")
    assert "usage.input 1200, now 9" in (stored.outcomes[2].detail or "")
    assert batch_row(stored.batch_id) == (4, 2, 1, 1, 0, "pending")
    assert count("metering_event") == 2


def test_the_same_id_from_another_source_or_organization_is_another_event(
    database: Database, acme: Organization, globex: Organization, now: datetime
) -> None:
    events = events_of(now, "a")
    assert statuses(store_events(database, acme, events)) == [A]
    assert statuses(store_events(database, globex, events)) == [A]
    assert statuses(store_events(database, acme, events_of(now, "a", source="other"))) == [A]
    assert len(find_events(acme.pk, event_id="a")) == 2
    assert len(find_events(globex.pk, event_id="a")) == 1


def test_atomic_stores_nothing_beside_a_conflict(
    database: Database, acme: Organization, now: datetime
) -> None:
    store_events(database, acme, events_of(now, "a"))
    with pytest.raises(AllOrNothing) as caught:
        store_events(database, acme, events_of(now, "a", "b", usage={"input": 2}), atomic=True)
    assert [outcome.status for outcome in caught.value.outcomes] == [C, A]
    assert count("metering_event") == count("metering_ingestbatch") == 1
    events = [*events_of(now, "a"), *events_of(now, "c")]
    assert statuses(store_events(database, acme, events, atomic=True)) == [D, A]


def test_two_connections_with_the_same_batch_accept_each_event_once(
    database: Database, acme: Organization, now: datetime
) -> None:
    """In opposite orders, all at once: no deadlock, no error, and every event accepted once."""
    events = events_of(now, *(f"e{number}" for number in range(200)))
    found: list[list[Status]] = []
    start = threading.Barrier(4)

    def send(batch: list[UsageEvent]) -> None:
        try:
            with connect() as own:
                start.wait()
                found.append(statuses(store_events(own, acme, batch)))
        finally:
            django_connection.close()

    senders = [
        threading.Thread(target=send, args=(list(batch),))
        for batch in (events, reversed(events), events[50:], events[:150])
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(found) == 4
    assert sum(batch.count(A) for batch in found) == 200
    assert not any(C in batch for batch in found)
    assert count("metering_event") == count("metering_eventkey") == 200


def test_a_duplicate_waits_for_the_first_to_commit_and_takes_its_place_if_it_does_not(
    database: Database, acme: Organization, now: datetime
) -> None:
    """The second sender blocks on the key of the first; the first's connection then dies."""
    events = events_of(now, "a")
    found: list[list[Status]] = []
    first = connect()
    first.execute("BEGIN")
    store_events(first, acme, events)

    def send() -> None:
        try:
            with connect() as own:
                found.append(statuses(store_events(own, acme, events)))
        finally:
            django_connection.close()

    second = threading.Thread(target=send)
    second.start()
    wait_until_blocked(database)
    database.execute("SELECT pg_terminate_backend(%s)", [first.info.backend_pid])
    second.join()
    first.close()
    assert found == [[A]]
    assert count("metering_event") == count("metering_eventkey") == 1


def wait_until_blocked(database: Database) -> None:
    """Return once some session of this database waits for another one's transaction."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(20_000):
        (number,) = database.execute(waiting).fetchone() or (0,)
        if number:
            return
    raise AssertionError("nobody waits for anybody")


def test_a_batch_cut_off_before_commit_leaves_nothing_and_can_be_sent_again(
    database: Database, acme: Organization, now: datetime
) -> None:
    events = events_of(now, "a", "b")
    doomed = connect()
    doomed.execute("BEGIN")
    store_events(doomed, acme, events)
    database.execute("SELECT pg_terminate_backend(%s)", [doomed.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        doomed.execute("COMMIT")
    assert statuses(store_events(database, acme, events)) == [A, A]
    assert count("metering_ingestbatch") == 1


def test_a_deadlock_is_tried_again_and_not_for_ever(
    database: Database, acme: Organization, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    opened = store._Batch._open

    def rival(*rest: object) -> None:
        raise psycopg.errors.DeadlockDetected

    def unlucky(batch: store._Batch) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise psycopg.errors.DeadlockDetected
        opened(batch)

    monkeypatch.setattr(news, "_at_once", rival)  # then it is no news any more
    monkeypatch.setattr(store._Batch, "_open", unlucky)
    assert statuses(store_events(database, acme, events_of(now, "a"))) == [A]
    assert calls == 3
    calls = -100
    with pytest.raises(psycopg.errors.DeadlockDetected):
        store_events(database, acme, events_of(now, "b"))
    assert calls == store.ATTEMPTS_MAX - 100


@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET organization_id = organization_id", "DELETE FROM {}"]
)
@pytest.mark.parametrize(
    "table",
    ["metering_segment", "metering_identity", "metering_attribution", "metering_source"],
)
def test_accepted_events_cannot_be_changed_or_removed(
    database: Database, acme: Organization, now: datetime, table: str, statement: str
) -> None:
    store_events(database, acme, events_of(now, "a"))
    with pytest.raises(psycopg.errors.RestrictViolation):
        database.execute(statement.format(table))


def test_every_session_of_the_door_waits_for_the_disk(database: Database) -> None:
    assert database.execute("SHOW synchronous_commit").fetchone() == ("on",)


@pytest.mark.parametrize(
    ("table", "trigger"),
    [
        ("metering_segment", "usage_events_are_never_emptied"),
        ("metering_identity", "event_keys_are_never_emptied"),
        ("metering_attribution", "attributions_are_never_emptied"),
        ("metering_source", "sources_are_never_emptied"),
    ],
)
def test_facts_are_never_emptied(db: None, table: str, trigger: str) -> None:
    """TRUNCATE passes the row triggers by."""
    with transaction.atomic(), django_connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            cursor.execute(f"TRUNCATE {table}")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")


def test_looking_for_known_events_costs_no_more_without_statistics(
    database: Database, acme: Organization, now: datetime
) -> None:
    """Each is found by the index: a join of all with all took ten seconds under load."""
    store_events(database, acme, events_of(now, *(f"e{number}" for number in range(50))))
    sent = {
        "organization_id": acme.pk,
        "sources": ["gateway-1"] * 50,
        "ids": [f"e{number}" for number in range(50)],
        "source_ids": "{" + ",".join(["1"] * 50) + "}",
    }
    for statement in (voids.PLACES, store.KNOWN):
        parameters = sent | ({"ids": "{}"} if statement is store.KNOWN else {})
        rows = database.execute("EXPLAIN " + statement, parameters).fetchall()
        plan = "\n".join(row[0] for row in rows)
        assert "Index" in plan.partition("metering_identity")[0].splitlines()[-1], plan
        assert "Seq Scan on metering_identity" not in plan, plan


def test_opening_a_batch_reads_no_more_identities_than_it_asks_for(database: Database) -> None:
    """Its sample is looked up key by key: a hash of all that the organization ever sent took
    three quarters of what a small batch cost.
    """
    parameters = {
        "organization_id": "1", "api_key_id": "1", "submitted": "8", "accepted": "8",
        "rejected": "0", "backfill_id": "NULL", "sample_source_ids": "$1", "sample_ids": "$2",
        "occurred_first": "NULL", "occurred_last": "NULL",
    }  # fmt: skip
    database.execute("SET plan_cache_mode = force_generic_plan")  # as it is once it was prepared
    database.execute("PREPARE opening AS " + news.OPEN % parameters)
    rows = database.execute("EXPLAIN EXECUTE opening ('{1}', '{}')").fetchall()
    plan = "\n".join(row[0] for row in rows)
    assert "(id = sent.id)" in plan, plan
    assert "Hash" not in plan, plan
