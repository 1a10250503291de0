"""Group commit: requests that share a transaction are answered as if each had been alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from psycopg import Connection, errors

from accounts.models import Organization
from metering import backfills, readings, rejections
from metering.ingest import door as the_door
from metering.ingest import gather, pool, together
from metering.ingest.callers import Caller
from metering.ingest.decode import Refusal, Sent
from metering.ingest.gather import Gatherer
from metering.ingest.take import take
from metering.ingest.turns import Turns
from metering.ingest.units import REQUEST_EVENTS_MAX, Unit, is_small
from metering.models import IngestBatch
from metering.rejections import Which
from metering.store import Outcome
from metering.usage.event import Rejected, UsageEvent
from tests import build
from tests.meter import apply_all, empty_meter, make_event

__all__ = ["empty_meter"]


class Senders:
    """Keys, each with its caller as the door knows it."""

    def __init__(self) -> None:
        self.callers: dict[str, Caller] = {}

    def unit(self, key: str, *events: UsageEvent) -> Unit:
        sent = Sent(list(events), single=len(events) == 1, raws=lambda: ["{}"] * len(events))
        return Unit(self.callers[key], sent)


@pytest.fixture
def senders(empty_meter: None, acme: Organization, globex: Organization) -> Senders:
    """Two keys of Acme and one of Globex."""
    made = Senders()
    for name, organization in (("acme", acme), ("acme-2", acme), ("globex", globex)):
        found = the_door.callers.find(build.make_key(organization=organization)[1])
        assert found is not None
        made.callers[name] = found
    return made


def event(event_id: str, **fields: Any) -> UsageEvent:
    now = timezone.now()
    return make_event(now=now, occurred_at=now.isoformat(), id=event_id, **fields)


def committed(units: Sequence[Unit]) -> list[Unit]:
    """Those that were delivered, in their order; each exactly once."""
    delivered: list[Unit] = []
    gather.commit(units, delivered.extend)
    assert sorted(map(id, delivered)) == sorted(map(id, units))
    return delivered


def told(unit: Unit) -> list[str]:
    assert unit.error is None, unit.error
    assert unit.taken is not None
    return [one.code if isinstance(one, Rejected) else one.status for one in unit.taken.verdicts]


def status(unit: Unit) -> int:
    assert unit.taken is None
    return unit.error.problem.status if isinstance(unit.error, Refusal) else 500


def counted(organization: Organization) -> int:
    apply_all()
    return readings.event_count(organization.pk)


def test_requests_of_one_key_become_one_batch(senders: Senders, acme: Organization) -> None:
    units = [senders.unit("acme", event(f"e{number}"), event(f"f{number}")) for number in range(5)]
    committed(units)
    assert [told(unit) for unit in units] == [["accepted", "accepted"]] * 5
    (batch,) = IngestBatch.objects.filter(organization_id=acme.pk)
    assert (batch.submitted, batch.accepted) == (10, 10)
    assert {unit.taken.batch_id for unit in units if unit.taken} == {batch.id}
    assert all(
        [one.ordinal for one in unit.taken.verdicts if isinstance(one, Outcome)] == [0, 1]
        for unit in units
        if unit.taken
    )
    assert counted(acme) == 10


def test_keys_and_organizations_share_one_transaction_and_nothing_else(
    senders: Senders, acme: Organization, globex: Organization
) -> None:
    committed([senders.unit(key, event("same-id")) for key in ("acme", "globex")])
    committed([senders.unit("acme-2", event("other")), senders.unit("acme", event("third"))])
    assert IngestBatch.objects.count() == 4
    assert (counted(acme), counted(globex)) == (3, 1)


def test_a_group_becomes_visible_all_at_once(
    senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    whole = together.store

    def store(own: Connection[Any], *rest: Any, **more: Any) -> Any:
        stored = whole(own, *rest, **more)
        seen.append(IngestBatch.objects.count())  # by another session
        return stored

    monkeypatch.setattr(together, "store", store)
    committed([senders.unit(key, event(key)) for key in ("acme", "acme-2", "globex")])
    assert seen == [0, 0, 0]
    assert IngestBatch.objects.count() == 3


def test_a_replay_and_a_conflict_are_told_to_their_own_senders(
    senders: Senders, acme: Organization
) -> None:
    committed([senders.unit("acme", event("a")), senders.unit("acme", event("b"))])
    first = event("a")
    same = senders.unit("acme", first)
    committed([same])
    units = [
        senders.unit("acme", event("new")),
        senders.unit("acme", event("b", usage={"input": 7})),
        senders.unit("globex", event("b", usage={"input": 7})),
    ]
    order = committed(units)
    assert [told(unit) for unit in units] == [["accepted"], ["conflict"], ["accepted"]]
    assert order[-1] is units[1]  # what goes well is not kept waiting for what is kept
    assert rejections.counts(acme.pk, Which())["event_conflict"] >= 1


def test_flags_are_told_to_their_own_senders_and_again_where_they_repeat_themselves(
    senders: Senders, acme: Organization
) -> None:
    now = timezone.now()
    readings.close(acme.pk, now - timedelta(days=9), now - timedelta(days=3))
    senders.callers["acme"].closed_until = now - timedelta(days=3)  # as it is with the next look
    long_ago = (now - timedelta(days=5)).isoformat()
    late = make_event(now=now, occurred_at=long_ago, id="late")
    units = [
        senders.unit("acme", event("a"), late),
        senders.unit("acme", event("zero", usage={"input": 0})),
        senders.unit("globex", late),
    ]
    for status in ("accepted", "duplicate"):
        again = [Unit(unit.caller, unit.sent) for unit in units]
        committed(again)
        assert [told(unit) for unit in again] == [[status, status], [status], [status]]
        assert [flags(unit) for unit in again] == [[(), ("late",)], [("zero",)], [()]]


def flags(unit: Unit) -> list[tuple[str, ...]]:
    assert unit.taken is not None
    return [one.flags for one in unit.taken.verdicts if isinstance(one, Outcome)]


def test_an_event_of_a_reverted_backfill_is_refused_where_its_own_request_has_it(
    senders: Senders, acme: Organization
) -> None:
    now = timezone.now()
    span = {"start": now - timedelta(days=2), "end": now + timedelta(hours=1)}
    number = backfills.open_backfill(acme, reason="r", now=now, **span).id
    spent = event("spent")
    take(senders.callers["acme"], Sent([spent], single=True), atomic=False, backfill_id=number)
    backfills.revert(acme, number, now=now)
    units = [senders.unit("acme", event("a")), senders.unit("acme", event("b"), spent)]
    committed(units)
    assert [told(unit) for unit in units] == [["accepted"], ["accepted", "event_reverted"]]
    assert units[1].taken
    refused = units[1].taken.verdicts[1]
    assert isinstance(refused, Rejected)
    assert (refused.pointer, refused.event_id) == ("/1", "spent")
    assert rejections.counts(acme.pk, Which()) == {"event_reverted": 1}


def test_who_repeats_an_identity_waits_for_the_next_group(senders: Senders) -> None:
    once = event("twice")
    queue: Turns[Unit] = Turns(waiting_max=10, each_max=10)
    units = [
        senders.unit("acme", once),
        senders.unit("acme-2", once),
        senders.unit("acme", event("other")),
        senders.unit("acme", once, event("more")),
        senders.unit("globex", once),
    ]
    for unit in units:
        assert queue.put(unit.caller.organization_id, unit)
    groups = []
    while group := gather.form(queue):
        groups.append([units.index(unit) for unit in group])
        committed(group)
    assert [sorted(group) for group in groups] == [[0, 2, 4], [1], [3]]
    assert [told(unit) for unit in units] == [
        ["accepted"], ["duplicate"], ["accepted"], ["duplicate", "accepted"], ["accepted"],
    ]  # fmt: skip


def test_organizations_take_turns_in_a_group(
    senders: Senders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "GROUP_MAX", 4)
    queue: Turns[Unit] = Turns(waiting_max=100, each_max=100)
    for number in range(20):
        unit = senders.unit("acme", event(f"many-{number}"))
        queue.put(unit.caller.organization_id, unit)
    late = senders.unit("globex", event("late"))
    queue.put(late.caller.organization_id, late)
    assert late in gather.form(queue)


class TestNeighbours:
    """What is wrong with one request is no other's business."""

    @pytest.fixture(autouse=True)
    def _quiet(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL)

    @staticmethod
    def poison(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        """Whatever holds the model `poison` fails in the middle of being stored."""
        whole = together.store

        def store(own: Connection[Any], *rest: Any, **more: Any) -> Any:
            with own.transaction():
                stored = whole(own, *rest, **more)
                if any(getattr(item.event, "model", "") == "poison" for item in rest[2]):
                    raise error
            return stored

        monkeypatch.setattr(together, "store", store)
        monkeypatch.setattr("metering.ingest.take.store", store)

    @pytest.mark.parametrize("neighbours", [("acme", "acme"), ("globex", "acme-2")])
    def test_a_poisoned_one_fails_alone(
        self, senders: Senders, neighbours: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.poison(monkeypatch, psycopg.DataError("no"))
        units = [
            senders.unit(neighbours[0], event("before")),
            senders.unit("acme", event("bad", model="poison")),
            senders.unit(neighbours[1], event("after")),
        ]
        committed(units)
        assert [told(units[0]), told(units[2])] == [["accepted"], ["accepted"]]
        assert status(units[1]) == 500
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM metering_event")
            assert cursor.fetchone() == (2,)

    def test_a_key_without_the_project_is_refused_alone(self, senders: Senders) -> None:
        units = [
            senders.unit("acme", event("good")),
            senders.unit("acme", event("lost", project="nowhere")),
        ]
        committed(units)
        assert [told(unit) for unit in units] == [["accepted"], ["unknown_project"]]

    def test_where_the_commit_fails_nobody_is_told_accepted(
        self, senders: Senders, acme: Organization, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server ends the session between the last statement and COMMIT."""
        units = [senders.unit(key, event(key)) for key in ("acme", "acme-2", "globex")]
        whole = together.store

        def store(own: Connection[Any], *rest: Any, **more: Any) -> Any:
            stored = whole(own, *rest, **more)
            if rest[0] == units[2].caller.organization_id:
                with psycopg.connect(pool.conninfo(), autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 5000)", [own.info.backend_pid])
            return stored

        monkeypatch.setattr(together, "store", store)
        committed(units)
        assert [status(unit) for unit in units] == [503, 503, 503]
        monkeypatch.undo()
        assert IngestBatch.objects.count() == 0
        again = [Unit(unit.caller, unit.sent) for unit in units]
        committed(again)
        assert [told(unit) for unit in again] == [["accepted"]] * 3
        assert counted(acme) == 2

    def test_a_commit_that_is_refused_tries_each_alone(
        self, senders: Senders, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failed = []

        def try_group(own: Connection[Any], batch: Any) -> None:
            batch.store(own)
            if not failed and batch.api_key_id == senders.callers["globex"].api_key_id:
                failed.append(True)
                raise errors.SerializationFailure("could not serialize")

        monkeypatch.setattr(gather, "_try", try_group)
        units = [senders.unit(key, event(key)) for key in ("acme", "globex")]
        committed(units)
        assert [told(unit) for unit in units] == [["accepted"], ["accepted"]]
        assert IngestBatch.objects.count() == 2

    def test_no_database_is_a_503_for_all(
        self, senders: Senders, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        units = [senders.unit(key, event(key)) for key in ("acme", "globex")]
        pool.close()
        monkeypatch.setattr(pool, "WAIT_S", 0.2)
        monkeypatch.setattr(pool, "conninfo", lambda: "host=/nowhere dbname=x")
        committed(units)
        assert [status(unit) for unit in units] == [503, 503]
        pool.close()


def test_what_waits_is_committed_by_the_thread_and_before_the_end(
    senders: Senders, acme: Organization
) -> None:
    done = threading.Semaphore(0)
    gatherer = Gatherer(lambda units: [done.release() for _ in units] and None)
    for number in range(30):
        gatherer.put(senders.unit("acme", event(str(number))))
    for _ in range(30):
        assert done.acquire(timeout=20)
    for number in range(30, 40):
        gatherer.put(senders.unit("acme", event(str(number))))
    gatherer.close()
    assert counted(acme) == 40
    with pytest.raises(Refusal) as refused:
        gatherer.put(senders.unit("acme", event("late")))
    assert refused.value.problem.code == "temporarily_unavailable"


def test_a_full_queue_is_a_503(senders: Senders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "EACH_MAX", 2)
    held = threading.Event()
    entered = threading.Event()

    def hold(group: Sequence[Unit], deliver: Any) -> None:
        entered.set()
        held.wait(20)

    monkeypatch.setattr(gather, "commit", hold)
    gatherer = Gatherer(lambda units: None)
    gatherer.put(senders.unit("acme", event("under way")))
    assert entered.wait(20)
    for number in range(2):
        gatherer.put(senders.unit("acme", event(str(number))))
    with pytest.raises(Refusal):
        gatherer.put(senders.unit("acme", event("too many")))
    gatherer.put(senders.unit("globex", event("somebody else's")))
    held.set()
    gatherer.close()


def test_what_is_large_rejected_or_repeated_goes_its_own_way() -> None:
    one, two = event("1"), event("2")
    assert is_small(Sent([one], single=True))
    assert is_small(Sent([one, two], single=False))
    assert not is_small(Sent([one, one], single=False))
    assert not is_small(Sent([one, Rejected("id_invalid", "", "")], single=False))
    assert not is_small(Sent([Rejected("id_invalid", "", "")], single=True))
    many = [event(str(number)) for number in range(REQUEST_EVENTS_MAX + 1)]
    assert not is_small(Sent(list(many), single=False))
