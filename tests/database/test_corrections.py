"""What was taken back counts no more, exactly once, whatever comes first and however often."""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from metering import backfills, held, judging, readings, reverting, rollup, store
from metering.store import Incoming, Outcome, Stored
from metering.tasks import apply_pending_batches
from metering.usage.correction import Correction
from metering.usage.event import Rejected, UsageEvent
from tests import build
from tests.conftest import NOW
from tests.database.test_rollup import expected, hours_off, summed
from tests.meter import (
    apply_all,
    connect,
    database,
    empty_meter,
    make_event,
    readings_of,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


def void(event_id: str, target: str, reason: str | None = None) -> Correction:
    return Correction(event_id, "gateway-1", target, reason, None)


def amend(event_id: str, target: str, **fields: Any) -> Correction:
    event = make_event(now=NOW, id=event_id, **fields)
    return Correction(event_id, "gateway-1", target, None, event)


def send(
    database: Database,
    organization: Organization,
    items: list[UsageEvent | Correction],
    **options: Any,
) -> Stored:
    project_id = organization.projects.get(slug="default").pk
    return store.store(
        database, organization.pk, 1,
        [_incoming(ordinal, item, project_id) for ordinal, item in enumerate(items)], **options,
    )  # fmt: skip


def _incoming(ordinal: int, item: UsageEvent | Correction, project_id: int) -> Incoming:
    if isinstance(item, UsageEvent):
        return Incoming(ordinal, item, project_id)
    if item.event is None:
        return Incoming(ordinal, item, 0, item)
    return Incoming(ordinal, item.event, project_id, item)


def said(stored: Stored) -> list[str]:
    return [one.code if isinstance(one, Rejected) else one.status.value for one in stored.outcomes]


def detail(stored: Stored, index: int = 0) -> str:
    return stored.outcomes[index].detail or ""


def event(event_id: str, **fields: Any) -> UsageEvent:
    return make_event(now=NOW, id=event_id, **fields)


def tokens(organization: Organization) -> dict[str, int]:
    total: Counter[str] = Counter()
    for row in readings_of(organization):
        total[row[-2]] += row[-1]
    return {name: quantity for name, quantity in total.items() if quantity}


def nothing_waits() -> bool:
    """Whether the roll-up did everything, and gave nothing back as too hard."""
    fresh = readings.freshness()
    return (fresh.pending_batches, fresh.failed_batches) == (0, 0)


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


def test_an_amendment_puts_one_event_in_the_place_of_another(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a", usage={"input": 10}, model="m")])
    stored = send(database, acme, [amend("b", "a", usage={"input": 12}, model="n")])
    assert said(stored) == ["accepted"]
    apply_all()
    rows = [(row[2], row[-2], row[-1]) for row in readings_of(acme) if row[-1]]
    assert rows == [("n", "input", 12), ("n", "requests", 1)]


def test_a_chain_of_amendments_is_followed_along_its_newest_link(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a", usage={"input": 1})])
    send(database, acme, [amend("b", "a", usage={"input": 2})])
    again = send(database, acme, [amend("c", "a", usage={"input": 3})])
    assert said(again) == ["already_voided"]
    assert "'b', which counts in its place" in detail(again)
    assert said(send(database, acme, [amend("c", "b", usage={"input": 3})])) == ["accepted"]
    assert said(send(database, acme, [void("v", "b")])) == ["already_voided"]
    assert said(send(database, acme, [void("v", "c")])) == ["accepted"]
    apply_all()
    assert tokens(acme) == {}


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


def test_a_key_of_one_project_takes_back_only_what_is_in_it(
    database: Database, acme: Organization
) -> None:
    other = build.make_project(organization=acme, slug="other").pk
    send(database, acme, [event("a"), void("v", "a"), event("b")])
    stored = send(database, acme, [void("x", "b"), void("y", "v"), void("z", "a")],
                  own_project_id=other)  # fmt: skip
    assert said(stored) == ["nothing_to_void"] * 3
    own = acme.projects.get(slug="default").pk
    assert said(send(database, acme, [void("x", "b")], own_project_id=own)) == ["accepted"]


def test_what_became_of_another_projects_event_is_told_to_nobody_else(
    database: Database, acme: Organization
) -> None:
    other = build.make_project(organization=acme, slug="other").pk
    send(database, acme, [event("a"), amend("not-yours", "a"), event("b"), void("nor-this", "b")])
    sent = [Incoming(0, event("a"), other), Incoming(1, event("b"), other)]
    stored = store.store(database, acme.pk, 1, sent)
    assert said(stored) == ["conflict"] * 2
    for index in range(2):
        assert "with other content: project. The first one stands." in detail(stored, index)
        assert not any(
            word in detail(stored, index) for word in ("not-yours", "nor-this", "It was")
        )
    again = send(database, acme, [event("a"), event("b")])
    assert "by 'not-yours'" in detail(again)
    assert "by 'nor-this'" in detail(again, 1)


def test_another_project_cannot_tell_a_corrected_event_from_one_that_nothing_happened_to(
    database: Database, acme: Organization
) -> None:
    """Whatever stands under an id: the words are those for an event that was only accepted."""
    other = build.make_project(organization=acme, slug="other").pk
    send(database, acme, [event("plain"), event("a"), event("b"), void("v", "a"), amend("w", "b")])
    number = opened(acme)
    send(database, acme, [event("reverted")], backfill_id=number)
    backfills.revert(acme, number, now=NOW)
    ids = ["plain", "a", "b", "v", "w", "reverted"]
    sent = [Incoming(ordinal, event(one), other) for ordinal, one in enumerate(ids)]
    stored = store.store(database, acme.pk, 1, sent)
    assert said(stored) == ["conflict"] * len(ids)
    assert len({without_moments(detail(stored, index)) for index in range(len(ids))}) == 1
    assert "other content: project" in detail(stored)

    own = store.store(database, acme.pk, 1, [Incoming(0, event("mine"), other)])
    assert said(own) == ["accepted"]
    taking = send(database, acme, [void(one, "mine") for one in ids], own_project_id=other)
    assert said(taking) == ["conflict"] * len(ids)
    assert len({detail(taking, index) for index in range(len(ids))}) == 1


def without_moments(sentence: str) -> str:
    return re.sub(r"[0-9-]+T[0-9:.]+Z", "then", sentence)


def test_a_key_of_one_project_is_told_what_became_of_its_own_events(
    database: Database, acme: Organization
) -> None:
    own = acme.projects.get(slug="default").pk
    send(database, acme, [event("a"), void("v", "a")])
    again = send(database, acme, [void("v", "a"), void("x", "v"), event("v")], own_project_id=own)
    assert said(again) == ["duplicate", "void_is_final", "conflict"]
    assert "a void has this source and id" in detail(again, 2).lower()


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
    judge.judge([_incoming(ordinal, item, 1) for ordinal, item in enumerate(items)])
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
        return store.store(own, acme.pk, 1, [_incoming(0, item, project_id)])

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


# Backfills: held, released, taken back.

JULY = datetime(2026, 7, 1, tzinfo=UTC)


def opened(organization: Organization) -> int:
    return backfills.open_backfill(organization, reason="r", start=JULY, end=NOW, now=NOW).id


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


def test_a_worker_that_dies_while_reverting_leaves_nothing_half_done(
    database: Database, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = opened(acme)
    for name in "ab":
        send(database, acme, [event(name)], backfill_id=number)
    backfills.close(acme, number, now=NOW)
    apply_all()
    backfills.revert(acme, number, now=NOW)
    before = readings_of(acme)
    monkeypatch.setattr(reverting, "DONE", "SELECT 1 / 0 -- %s %s")
    with pytest.raises(Exception, match="division"):
        reverting.apply_reverts()
    assert readings_of(acme) == before
    monkeypatch.undo()
    apply_all()
    assert tokens(acme) == {}


# All of it at once, against a dictionary.

NUMBERS = itertools.count()
IDS = st.integers(0, 9).map(str)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), IDS, st.integers(0, 5)),
        st.tuples(st.just("void"), IDS, IDS),
        st.tuples(st.just("amend"), IDS, IDS, st.integers(0, 5)),
        st.tuples(st.just("into"), IDS, st.integers(0, 5)),
        st.tuples(st.sampled_from(["close", "revert", "apply", "again"])),
    ),
    min_size=1,
    max_size=25,
)


class Model:
    """What shall count, kept the simple way: one dictionary, and a set of what was taken back."""

    def __init__(self) -> None:
        self.events: dict[str, UsageEvent] = {}
        self.box_of: dict[str, int] = {}
        self.voids: dict[str, str] = {}  # id of the void: its target
        self.taken: dict[str, str] = {}  # target: what took it back
        self.boxes: dict[int, str] = {}

    def stands(self, event_id: str) -> bool:
        return event_id in self.events or event_id in self.voids

    def is_reverted(self, event_id: str) -> bool:
        return self.boxes.get(self.box_of.get(event_id, -1)) == "reverted"

    def take_back(self, event_id: str, target: str) -> bool:
        """Whether a correction with this id takes the target back now."""
        free = not self.stands(event_id) and target in self.events
        if not free or target in self.taken or self.is_reverted(target):
            return False
        self.taken[target] = event_id
        return True

    def counting(self) -> list[UsageEvent]:
        return [
            event
            for event_id, event in self.events.items()
            if event_id not in self.taken
            and self.boxes.get(self.box_of.get(event_id, -1), "closed") == "closed"
        ]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS, st.randoms(use_true_random=False))
def test_any_course_of_corrections_and_backfills_is_what_a_dictionary_says(
    database: Database, acme: Organization, steps: list[Any], chance: random.Random
) -> None:
    organization = build.make_organization(name="T", slug=f"c{next(NUMBERS)}")
    model, box = Model(), opened(organization)
    model.boxes[box] = "open"
    sent: list[tuple[Any, int | None]] = []

    def deliver(item: Any, into: int | None = None) -> None:
        sent.append((item, into))
        send(database, organization, [item], backfill_id=into)

    for kind, *arguments in steps:
        match kind, arguments:
            case "event" | "into", [name, size]:
                into = box if kind == "into" else None
                one = event(name, usage={"input": size, "own": 1})
                if not model.stands(name):
                    model.events[name] = one
                    if into is not None:
                        model.box_of[name] = into
                deliver(one, into)
            case "void", [name, target]:
                if model.take_back(name, target):
                    model.voids[name] = target
                deliver(void(name, target))
            case "amend", [name, target, size]:
                item = amend(name, target, usage={"input": size}, model="amended")
                if model.take_back(name, target):
                    assert item.event
                    model.events[name] = item.event
                deliver(item)
            case "close" | "revert", _:
                step = backfills.close if kind == "close" else backfills.revert
                step(organization, box, now=NOW)
                model.boxes[box] = "closed" if kind == "close" else "reverted"
                if chance.random() < 0.5 and kind == "close":
                    backfills.revert(organization, box, now=NOW)
                    model.boxes[box] = "reverted"
                box = opened(organization)
                model.boxes[box] = "open"
            case "apply", _:
                rollup.apply_pending(chance.randint(1, 3))
                if chance.random() < 0.3:
                    reverting.apply_reverts()
            case "again", _ if sent:
                item, into = chance.choice(sent)
                is_open = into is None or model.boxes[into] == "open"
                if is_open and _is_settled(model, item):
                    send(database, organization, [item], backfill_id=into)
    apply_all()
    assert nothing_waits()
    project_id = organization.projects.get().pk
    wanted = expected(model.counting(), project_id)
    assert {k: v for k, v in summed(organization).items() if v} == {
        k: v for k, v in wanted.items() if v
    }
    assert hours_off() == 0
    before = readings_of(organization)
    rollup.rebuild(organization.pk)
    assert readings_of(organization) == before
    assert hours_off() == 0


def _is_settled(model: Model, item: UsageEvent | Correction) -> bool:
    """Whether sending it again changes nothing: what was refused before may be taken now."""
    return model.stands(item.id)
