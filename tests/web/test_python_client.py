"""The Python client against the real door: what its own tests take for granted of the server."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from kilotoken.counting import Complaints, Counts
from kilotoken.event import Event
from kilotoken.posting import Answer
from kilotoken.sending import HELD_S, Sender
from kilotoken.spool import Spool

from accounts.models import Organization
from metering import names, readings
from metering.ingest import doorbell
from tests import build
from tests.meter import Door, apply_all, empty_meter

__all__ = ["empty_meter"]

NOW_S = 1_794_996_450.0


@dataclass
class DoorPoster:
    """Stands where the client has its connection."""

    door: Door

    def post(self, body: bytes, *, compress: bool = False) -> Answer:
        encoding = {"HTTP_CONTENT_ENCODING": "gzip"} if compress else {}
        body = gzip.compress(body) if compress else body
        reply = self.door.post(body, query="only=errors", **encoding)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return Answer(reply.status, headers, reply.body)


@dataclass
class Client:
    sender: Sender
    spool: Spool
    counts: Counts

    def send(self, *events: Event) -> None:
        self.spool.add(event.wire() for event in events)
        while self.sender.step(NOW_S) == 0.0:
            pass


@pytest.fixture
def make_client(
    empty_meter: None, acme: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Client]]:
    monkeypatch.setattr(doorbell, "ring", lambda: None)
    spool, counts = Spool(tmp_path, owner="test"), Counts()

    def make(*, key: str | None = None, compress: bool = False) -> Client:
        poster: Any = DoorPoster(Door(key or build.make_key(organization=acme)[1]))
        sender = Sender(spool, poster, counts, Complaints(), compress=compress)
        return Client(sender, spool, counts)

    yield make
    spool.close()


def event(number: int = 1, **fields: Any) -> Event:
    given: dict[str, Any] = {
        "id": f"evt-{number}", "source": "client", "occurred_at": timezone.now(),
        "model": "qwen-plus", "project": "default", "session": "run-7", "region": "eu-1",
        "usage": {"input": 1200, "cache_read": 300, "cache_write_1h": 5, "output": 450},
        **fields,
    }  # fmt: skip
    return Event(**given)


def test_the_door_takes_what_the_client_writes(
    make_client: Callable[..., Client], acme: Organization
) -> None:
    client = make_client()
    client.send(*(event(number) for number in range(1_200)))
    apply_all()
    assert client.counts.accepted == 1_200
    assert client.spool.count() == 0
    assert readings.event_count(acme.pk) == 1_200


def test_a_retry_is_a_duplicate_and_another_quantity_a_conflict(
    make_client: Callable[..., Client],
) -> None:
    client, first = make_client(), event()
    client.send(first)
    client.send(first)
    client.send(event(usage={"input": 7}, occurred_at=first.occurred_at))
    counts = client.counts
    assert (counts.accepted, counts.duplicate, counts.conflict) == (1, 1, 1)


def test_a_rejection_for_good_is_set_aside_and_one_for_now_waits(
    make_client: Callable[..., Client], tmp_path: Path
) -> None:
    client = make_client()
    old = timezone.now() - timedelta(days=40)
    client.send(event(1), event(2, occurred_at=old), event(3, project="not-made-yet"))
    counts = client.counts
    assert (counts.accepted, counts.rejected, counts.put_off) == (1, 1, 1)
    assert client.spool.count() == 1
    assert '"code":"timestamp_too_old"' in (tmp_path / "dead-letters.jsonl").read_text()


def test_a_compressed_request_is_taken(make_client: Callable[..., Client]) -> None:
    client = make_client(compress=True)
    client.send(event())
    assert client.counts.accepted == 1


def test_a_key_that_is_not_valid_holds_the_spool(make_client: Callable[..., Client]) -> None:
    client = make_client(key="kt_" + "x" * 12 + "_" + "y" * 43)
    client.spool.add([event().wire()])
    assert client.sender.step(NOW_S) == HELD_S
    assert client.spool.count() == 1


def test_the_client_counts_what_the_door_flags(
    make_client: Callable[..., Client], acme: Organization
) -> None:
    now = timezone.now()
    readings.close(acme.pk, now - timedelta(days=9), now - timedelta(days=3))
    client = make_client()
    late = now - timedelta(days=5)
    client.send(event(1, occurred_at=late), event(2, usage={"input": 0}), event(3))
    counts = client.counts
    assert (counts.accepted, counts.late, counts.zero) == (3, 1, 1)
    assert "1 late, 1 zero" in str(counts)


def test_an_event_whose_name_finds_no_room_holds_up_no_other(
    make_client: Callable[..., Client], acme: Organization, settings: Any
) -> None:
    settings.INGEST_NAMES_MAX = 2
    client = make_client()
    client.send(*(event(number, agent=f"run-{number}") for number in range(3)))
    counts = client.counts
    assert (counts.accepted, counts.put_off, counts.rejected) == (2, 1, 0)
    client.send(event(10, agent="run-0"), event(11, agent="new"), event(12, agent="run-1"))
    assert (counts.accepted, counts.put_off, client.spool.count()) == (4, 2, 2)
    assert not client.sender.held
    settings.INGEST_NAMES_MAX = 4
    names.forget()  # or two seconds later
    assert client.sender.step(NOW_S) > 0  # not due yet
    assert client.sender.step(NOW_S + 61) == 0.0
    assert (counts.accepted, client.spool.count()) == (6, 0)
    apply_all()
    assert readings.event_count(acme.pk) == 6
