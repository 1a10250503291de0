"""What was taken back counts no more, exactly once, whatever comes first and however often."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import Organization
from metering import backfills, judging, readings, rollup, store
from metering.store import Outcome, Stored
from metering.usage.correction import Correction
from metering.usage.event import Rejected, UsageEvent
from tests.conftest import NOW
from tests.corrections import (
    amend,
    detail,
    event,
    incoming,
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
    connect,
    database,
    empty_meter,
    make_event,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


def test_a_void_takes_exactly_its_event_out_of_the_readings(
    database: Database, acme: Organization
) -> None:
    usage = {"input": 10, "output": 3, "own": 5}
    send(database, acme, [event("a", usage=usage), event("b", usage={"input": 7})])
    apply_all()
    assert said(send(database, acme, [void("v-1", "a")])) == ["accepted"]
    assert tokens(acme) == {"input": 17, "output": 3, "own": 5, "requests": 2}
    apply_all()
    assert tokens(acme) == {"input": 7, "requests": 1}
    assert hours_off() == 0


def test_an_event_earlier_in_the_batch_can_be_taken_back(
    database: Database, acme: Organization
) -> None:
    items = [event("a", usage={"input": 1}), void("v", "a"), event("b", usage={"input": 2}),
             amend("c", "b", usage={"input": 4}), amend("d", "c", usage={"input": 8}),
             void("w", "later"), event("later", usage={"input": 16})]  # fmt: skip
    expected_now = ["accepted"] * 5 + ["nothing_to_void", "accepted"]
    assert said(send(database, acme, items)) == expected_now
    expected_again = ["duplicate"] * 5 + ["accepted", "duplicate"]
    assert said(send(database, acme, items)) == expected_again
    apply_all()
    assert tokens(acme) == {"input": 8, "requests": 1}


def test_an_event_is_taken_back_once_also_within_a_batch(
    database: Database, acme: Organization
) -> None:
    items = [event("a"), event("b"), void("v", "a"), void("w", "a"), amend("x", "a"),
             amend("c", "b", usage={"input": 1}), amend("d", "b"), void("y", "b")]  # fmt: skip
    assert said(send(database, acme, items)) == [
        "accepted", "accepted", "accepted", "duplicate", "already_voided",
        "accepted", "already_voided", "already_voided",
    ]  # fmt: skip
    apply_all()
    assert tokens(acme) == {"input": 1, "requests": 1}


@pytest.mark.parametrize("applied", [True, False])
def test_a_correction_sent_again_is_a_duplicate(
    database: Database, acme: Organization, applied: bool
) -> None:
    send(database, acme, [event("a"), event("b")])
    items = [void("v", "a", "twice"), amend("c", "b", usage={"input": 1})]
    assert said(send(database, acme, items)) == ["accepted", "accepted"]
    if applied:
        apply_all()
    for _ in range(2):
        again = send(database, acme, items)
        assert said(again) == ["duplicate", "duplicate"]
    assert "subtracted twice" in detail(again)
    apply_all()
    assert tokens(acme) == {"input": 1, "requests": 1}


def test_the_same_id_with_another_content_is_a_conflict(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a"), event("b"), void("v", "a"), amend("c", "b")])
    for other in (
        void("v", "b"), void("v", "a", "why"), void("a", "b"), void("c", "b"), event("v"),
        event("c"), amend("v", "b"), amend("c", "a"), amend("a", "b"), amend("c", "b", model="x"),
    ):  # fmt: skip
        assert said(send(database, acme, [other])) == ["conflict"], other
    send(database, acme, [event("d")])
    twins = [void("w", "d"), void("w", "d"), void("w", "a"), event("w")]
    assert said(send(database, acme, twins)) == ["accepted", "duplicate", "conflict", "conflict"]


def test_a_second_void_has_what_it_asks_for_and_takes_no_id(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a")])
    send(database, acme, [void("v", "a")])
    again = send(database, acme, [void("w", "a")])
    assert said(again) == ["duplicate"]
    assert "by 'v'; nothing more is to be done" in detail(again)
    assert said(send(database, acme, [event("w")])) == ["accepted"]  # the id is free


def test_an_event_sent_again_after_its_void_says_so(database: Database, acme: Organization) -> None:
    send(database, acme, [event("a"), event("b"), void("v", "a"), amend("c", "b")])
    again = send(database, acme, [event("a"), event("b"), event("a", model="x")])
    assert said(again) == ["duplicate", "duplicate", "conflict"]
    assert "It was voided" in detail(again)
    assert "with a new id" in detail(again)
    assert "by 'c', which counts in its place" in detail(again, 1)
    apply_all()
    assert tokens(acme)["requests"] == 1


def test_pages_can_tell_what_took_an_event_back(database: Database, acme: Organization) -> None:
    number = opened(acme)
    batch = send(database, acme, [event("a"), event("b"), event("c")]).batch_id
    send(database, acme, [void("v", "a", "twice")])
    amending = send(database, acme, [amend("n", "b")]).batch_id
    boxed = send(database, acme, [event("d")], backfill_id=number).batch_id
    backfills.revert(acme, number, now=NOW)
    asked = [(batch, 0), (batch, 1), (batch, 2), (amending, 0), (boxed, 0)]
    found = readings.voids_of(acme.pk, asked)
    assert found.keys() == {(batch, 0), (batch, 1), (amending, 0), (boxed, 0)}
    voided, amended = found[batch, 0].taken_back, found[batch, 1].taken_back
    assert voided
    assert (voided.by, voided.reason, voided.is_amendment, voided.is_applied) == (
        "v", "twice", False, False,
    )  # fmt: skip
    assert amended
    assert (amended.by, amended.is_amendment) == ("n", True)
    assert found[amending, 0] == readings.Corrections(
        taken_back=None, amends="b", amends_place=(batch, 1)
    )
    reverted = found[boxed, 0].taken_back
    assert reverted
    assert (reverted.by, reverted.backfill) == (None, number)
    apply_all()
    after = readings.voids_of(acme.pk, asked)[batch, 0].taken_back
    assert after
    assert after.is_applied


def test_the_id_of_a_void_leads_to_its_event_and_that_of_an_amendment_to_itself(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a"), event("b"), void("v", "a"), amend("n", "b")])
    found = {name: readings.find_events(acme.pk, event_id=name) for name in ("a", "v", "n", "x")}
    assert {name: [one.id for one in events] for name, events in found.items()} == {
        "a": ["a"], "v": ["a"], "n": ["n"], "x": [],
    }  # fmt: skip
    assert readings.find_events(acme.pk, event_id="v", source="another") == []


def test_what_takes_nothing_back_takes_no_id_either(
    database: Database, acme: Organization, globex: Organization
) -> None:
    send(database, globex, [event("theirs")])
    send(database, acme, [event("a"), void("v", "a")])
    stored = send(database, acme, [void("x", "theirs"), void("y", "nowhere"), void("z", "v"),
                                   amend("w", "v"), amend("u", "a")])  # fmt: skip
    assert said(stored) == [
        "nothing_to_void", "nothing_to_void", "void_is_final", "void_is_final", "already_voided",
    ]  # fmt: skip
    assert detail(stored).replace("theirs", "nowhere") == detail(stored, 1)
    batch = database.execute(
        "SELECT submitted, accepted, rejected, state FROM metering_ingestbatch WHERE id = %s",
        [stored.batch_id],
    ).fetchone()
    assert batch == (5, 0, 5, "applied")
    assert said(send(database, acme, [event(name) for name in "xyzwu"])) == ["accepted"] * 5


def test_all_or_nothing_goes_for_corrections_too(database: Database, acme: Organization) -> None:
    send(database, acme, [event("a")])
    with pytest.raises(store.AllOrNothing) as refused:
        send(database, acme, [void("v", "a"), event("b"), void("w", "nowhere")], atomic=True)
    kinds = [type(one) for one in refused.value.outcomes]
    assert kinds == [Outcome, Outcome, Rejected]
    assert said(send(database, acme, [void("v", "a"), event("b")], atomic=True)) == [
        "accepted", "accepted",
    ]  # fmt: skip


def test_usage_of_more_than_a_year_ago_is_corrected_no_more(
    database: Database, acme: Organization
) -> None:
    old, new = NOW - timedelta(days=366, seconds=1), NOW - timedelta(days=365)
    judge = judging.Judge(
        batch_id=9, received_at=NOW, own_project_id=None,
        known={("gateway-1", "old"): (1, 0), ("gateway-1", "new"): (1, 1)},
        standing={place: judging.Standing(place, NOW, at, 1)
                  for place, at in (((1, 0), old), ((1, 1), new))},
    )  # fmt: skip
    before = (new - timedelta(seconds=1)).isoformat()
    items = [
        void("v", "old"),
        Correction("w", "gateway-1", "new", None, _aged("w", before)),
        Correction("x", "gateway-1", "new", None, _aged("x", new.isoformat())),
    ]
    judge.judge([incoming(ordinal, item, 1) for ordinal, item in enumerate(items)])
    refused = judge.settled
    assert isinstance(refused[0], Rejected)
    assert isinstance(refused[1], Rejected)
    assert [(refused[n].code, refused[n].pointer) for n in (0, 1)] == [
        ("timestamp_too_old", "/voids"), ("timestamp_too_old", "/occurred_at"),
    ]  # fmt: skip
    assert judge.targets.keys() == {2}


def _aged(event_id: str, at: str) -> UsageEvent:
    long_ago = NOW - timedelta(days=400)
    return make_event(now=long_ago, id=event_id, occurred_at=long_ago.isoformat())._replace(
        occurred_at=datetime.fromisoformat(at)
    )


@pytest.mark.parametrize("first", ["target", "void"])
def test_whichever_of_void_and_event_is_rolled_up_last_takes_it_out(
    database: Database, acme: Organization, first: str
) -> None:
    target = send(database, acme, [event("a"), event("b", usage={"input": 1})]).batch_id
    taking = send(database, acme, [void("v", "a")]).batch_id
    order = [target, taking] if first == "target" else [taking, target]
    for batch_id in order:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE metering_ingestbatch SET attempts = 1")
            cursor.execute(
                "UPDATE metering_ingestbatch SET lease_until = CASE WHEN id <> %s"
                " THEN now() + interval '1 hour' END WHERE state = 'pending'", [batch_id]
            )  # fmt: skip
        assert rollup.apply_pending() == 1
    assert nothing_waits()
    assert tokens(acme) == {"input": 1, "requests": 1}
    assert hours_off() == 0


def test_a_void_may_have_begun_before_its_event_was_stored(
    database: Database, acme: Organization
) -> None:
    """A batch has its number before it waits for others: the event's may be the higher one."""
    send(database, acme, [event("a"), event("b", usage={"input": 1})])
    taken = database.execute("SELECT nextval('metering_ingestbatch_id_seq')").fetchone()
    assert taken
    database.execute("SELECT setval('metering_ingestbatch_id_seq', %s)", [taken[0] + 50])
    later = send(database, acme, [event("c")])
    database.execute("SELECT setval('metering_ingestbatch_id_seq', %s)", [taken[0]])
    stored = send(database, acme, [void("v", "c"), void("w", "a")])
    assert stored.batch_id < later.batch_id
    assert said(stored) == ["accepted", "accepted"]
    apply_all()
    assert tokens(acme) == {"input": 1, "requests": 1}
    database.execute("SELECT setval('metering_ingestbatch_id_seq', %s)", [later.batch_id])


def test_many_who_void_the_same_event_at_once_take_it_back_once(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a", usage={"input": 5}), event("b", usage={"input": 1})])
    outcomes: list[str] = []
    gate = threading.Barrier(8)

    def take_back(number: int) -> None:
        with connect() as own:
            gate.wait()
            item = void(f"v-{number}", "a") if number % 2 else amend(f"v-{number}", "a")
            outcomes.extend(said(send_as(own, number, item)))

    project_id = acme.projects.get(slug="default").pk

    def send_as(own: Database, number: int, item: Correction) -> Stored:
        return store.store(own, acme.pk, 1, [incoming(0, item, project_id)])

    threads = [threading.Thread(target=take_back, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("accepted") == 1
    assert set(outcomes) <= {"accepted", "duplicate", "already_voided"}
    apply_all()
    assert tokens(acme)["requests"] in (1, 2)  # voided, or amended
    assert hours_off() == 0


def test_the_database_takes_an_event_back_once_and_keeps_every_void(
    database: Database, acme: Organization
) -> None:
    stored = send(database, acme, [event("a"), void("v", "a")])
    kept = (
        "organization_id, target_batch_id, target_received_at, batch_id, received_at,"
        " is_amendment, reaches_back_to, api_key_id"
    )
    again = f"INSERT INTO metering_void ({kept}, target_ordinal, ordinal) SELECT {kept}"
    for statement, rule in (
        (f"{again}, target_ordinal, 9 FROM metering_void", "event_is_voided_once"),
        (f"{again}, -1, ordinal FROM metering_void", "void_takes_one_event_back"),
        (f"{again}, 9, 9 FROM metering_void", "void_is_not_its_own_event"),
        ("UPDATE metering_void SET reason = 'x'", "append-only"),
        ("DELETE FROM metering_void", "append-only"),
    ):
        with (
            pytest.raises(IntegrityError, match=rule),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
    assert stored.count(store.Status.ACCEPTED) == 2
