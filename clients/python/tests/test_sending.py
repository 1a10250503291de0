"""One attempt at a time, with a clock that is told: nothing here waits."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kilotoken.counting import Complaints, Counts
from kilotoken.event import Event, instant, new_id
from kilotoken.posting import Poster
from kilotoken.sending import HELD_S, REFUSALS_MAX, Sender
from kilotoken.spool import Spool, owner_of
from kilotoken_fake import FakeKilotoken, Say
from waiting import KEY

NOW_S = 1_794_996_450.0
HOUR_S, DAY_S = 3600, 86_400


class Desk:
    """A sender with its spool and counts, and what it logged."""

    def __init__(self, server: FakeKilotoken, folder: Path, **options: Any) -> None:
        self.spool = Spool(folder, owner=owner_of(server.url, KEY))
        self.counts = Counts()
        self.poster = Poster(server.url, KEY, timeout_s=5)
        self.sender = Sender(self.spool, self.poster, self.counts, Complaints(),
                             chance=lambda: 1.0, **options)  # fmt: skip

    def spool_events(self, number: int, **fields: Any) -> list[str]:
        given = {"source": "tests", "occurred_at": instant(NOW_S), "model": "m",
                 "usage": {"input": 1}, **fields}  # fmt: skip
        events = [Event(id=new_id(NOW_S), **given) for _ in range(number)]
        self.spool.add(event.wire() for event in events)
        return [event.id for event in events]

    def letters(self) -> list[dict[str, Any]]:
        path = self.spool.folder / "dead-letters.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def drain(self, now_s: float = NOW_S) -> None:
        while self.spool.count():
            assert self.sender.step(now_s) == 0.0


@pytest.fixture
def make_desk(server: FakeKilotoken, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**options: Any) -> Desk:
        made.append(Desk(server, tmp_path / "spool", **options))
        return made[-1]

    yield make
    for desk in made:
        desk.poster.close()
        desk.spool.close()


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk()


def test_batches_hold_at_most_a_thousand_events(desk: Desk, server: FakeKilotoken) -> None:
    ids = desk.spool_events(2_100)
    desk.drain()
    assert [len(got.ids) for got in server.got] == [1_000, 1_000, 100]
    assert server.ids == ids
    assert desk.counts.accepted == 2_100


def test_batches_stay_below_five_mebibytes(desk: Desk, server: FakeKilotoken) -> None:
    usage = {f"{'r' * 37}{n:02}": 10**12 for n in range(16)}
    long = {"agent": "a" * 128, "session": "s" * 128, "model": "m" * 128}
    body = Event(id="x", source="t", occurred_at=instant(NOW_S), usage=usage, **long).wire()
    padded = body[:-1] + b" " * 8_000 + b"}"
    desk.spool.add([padded.replace(b'"x"', f'"{n}"'.encode()) for n in range(900)])
    desk.drain()
    assert len(server.stored) == 900
    assert len(server.got) == 2
    assert all(len(got.raw) <= 5 * 1024 * 1024 for got in server.got)


@pytest.mark.parametrize(
    "trouble",
    [Say(429, "rate_limited"), Say(503), Say(500, "internal_error"), Say(cut=True),
     Say(cut=True, store=True), Say(502, "")],
    ids=["429", "503", "500", "cut", "answer lost", "proxy"],
)  # fmt: skip
def test_every_retry_carries_the_same_bytes(
    desk: Desk, server: FakeKilotoken, trouble: Say
) -> None:
    ids = desk.spool_events(3)
    server.next_answers.extend([trouble, trouble])
    now_s, pauses = NOW_S, []
    while desk.spool.count():
        pauses.append(desk.sender.step(now_s))
        now_s += pauses[-1]
    assert pauses == [0.5, 1.0, 0.0]
    assert server.ids == ids
    assert len({got.raw for got in server.got}) == 1
    assert desk.counts.retries == 2
    assert desk.counts.accepted + desk.counts.duplicate == 3
    assert (desk.counts.duplicate == 3) is trouble.store


def test_the_servers_own_wish_to_wait_is_honoured_even_in_a_hurry(
    desk: Desk, server: FakeKilotoken
) -> None:
    desk.spool_events(1)
    server.next_answers.append(Say(429, "rate_limited", {"Retry-After": "7"}))
    assert desk.sender.step(NOW_S) == 7.5
    desk.sender.hurry()
    assert desk.sender.step(NOW_S + 6) == 1.0
    assert desk.sender.step(NOW_S + 7) == 0.0
    assert len(server.stored) == 1


def test_a_hurry_shortens_a_pause_of_our_own(desk: Desk, server: FakeKilotoken) -> None:
    desk.spool_events(1)
    server.next_answers.append(Say(503))
    assert desk.sender.step(NOW_S) > 0
    assert desk.sender.step(NOW_S) > 0
    desk.sender.hurry()
    assert desk.sender.step(NOW_S) == 0.0


def test_a_clock_that_is_set_back_does_not_stop_sending(desk: Desk, server: FakeKilotoken) -> None:
    desk.spool_events(1)
    server.next_answers.append(Say(503))
    desk.sender.step(NOW_S)
    assert desk.sender.step(NOW_S - DAY_S) == 0.0


def test_a_day_offline_delays_events_and_loses_none(
    desk: Desk, server: FakeKilotoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = desk.poster._url
    desk.poster._url = online._replace(netloc="127.0.0.1:1")  # nobody listens there
    now_s, attempts, ids = NOW_S, 0, []
    while now_s < NOW_S + DAY_S:
        if attempts % 60 == 0:  # it is a working day: events go on coming
            ids += desk.spool_events(10)
        now_s += desk.sender.step(now_s)
        attempts += 1
    assert DAY_S / 60 <= attempts < DAY_S / 30  # neither given up nor hammering
    desk.poster._url = online
    now_s += desk.sender.step(now_s)
    assert desk.sender.step(now_s + 60) in (0.0, 1.0)
    assert server.ids == ids
    assert desk.spool.count() == 0


@pytest.mark.parametrize("trouble", [Say(401, "invalid_api_key"), Say(403, "scope_missing"),
                                     Say(404, "not_found"), Say(400, "")])  # fmt: skip
def test_a_wrong_key_or_address_holds_everything_and_complains_once_a_minute(
    desk: Desk, server: FakeKilotoken, trouble: Say, caplog: pytest.LogCaptureFixture
) -> None:
    ids = desk.spool_events(5)
    server.always = trouble
    for minute in range(3):
        assert desk.sender.step(NOW_S + minute * HELD_S) == HELD_S
        assert desk.sender.held
    complaints = [record for record in caplog.records if "none is lost" in record.message]
    assert len(complaints) == 1  # all within a minute of the real clock
    assert KEY not in caplog.text
    server.always = None
    desk.drain(NOW_S + 3 * HELD_S)
    assert server.ids == ids
    assert not desk.letters()


def test_a_complaint_comes_once_a_minute_and_says_how_often_it_was_held_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = iter([0.0, 1.0, 59.0, 60.0])
    complaints = Complaints(lambda: next(clock))
    for _ in range(4):
        complaints.say("held", "wait")
    assert [r.message for r in caplog.records] == [
        "wait",
        "wait (2 more of this kind since the last line)",
    ]


def test_a_rejected_event_goes_to_the_dead_letters_with_the_servers_words(
    desk: Desk, server: FakeKilotoken
) -> None:
    good, bad = desk.spool_events(2), desk.spool_events(1, model="bad")
    good += desk.spool_events(2)
    server.reject = lambda e: ("time_invalid", False) if e["model"] == "bad" else None
    desk.drain()
    assert server.ids == good
    (letter,) = desk.letters()
    assert letter["event"]["id"] == bad[0]
    assert (letter["code"], letter["detail"]) == ("time_invalid", "time_invalid!")
    assert (desk.counts.accepted, desk.counts.rejected) == (4, 1)


def test_a_conflict_goes_to_the_dead_letters_and_a_duplicate_is_a_success(
    desk: Desk, server: FakeKilotoken
) -> None:
    for quantity in (1, 1, 2):
        event = Event("same", "t", instant(NOW_S), "m", {"input": quantity})
        desk.spool.add([event.wire()])
    desk.drain()
    assert (desk.counts.accepted, desk.counts.duplicate, desk.counts.conflict) == (1, 1, 1)
    (letter,) = desk.letters()
    assert letter["status"] == "conflict"
    assert letter["event"]["usage"] == {"input": 2}


def test_an_event_refused_for_now_is_tried_again_without_holding_up_the_rest(
    desk: Desk, server: FakeKilotoken
) -> None:
    early, ids = desk.spool_events(1, project="not-made-yet"), desk.spool_events(2)
    server.reject = lambda e: ("unknown_project", True) if "project" in e else None
    assert desk.sender.step(NOW_S) == 0.0
    assert server.ids == ids
    assert desk.sender.step(NOW_S + 59) == 1.0  # nothing is due
    server.reject = lambda _event: None
    assert desk.sender.step(NOW_S + 60) == 0.0
    assert server.ids == ids + early
    assert not desk.letters()


def test_an_event_refused_for_a_day_is_set_aside_at_last(desk: Desk, server: FakeKilotoken) -> None:
    desk.spool_events(1)
    server.reject = lambda _event: ("unknown_project", True)
    now_s = NOW_S
    while desk.spool.count():
        desk.sender.step(now_s)
        now_s += HOUR_S
    assert now_s - NOW_S > DAY_S
    assert len(server.got) == REFUSALS_MAX + 1
    assert desk.letters()[0]["code"] == "unknown_project"


def test_one_event_that_spoils_a_batch_is_found_and_set_aside(
    desk: Desk, server: FakeKilotoken
) -> None:
    ids = desk.spool_events(9)

    def spoiled(got: Any) -> bool:
        return ids[4] in got.ids

    take = server._take
    server._take = lambda events: (  # type: ignore[method-assign]
        (400, {"code": "duplicate_key", "detail": "twice"}) if spoiled(server.got[-1])
        else take(events)
    )  # fmt: skip
    desk.drain()
    assert server.ids == ids[:4] + ids[5:]
    assert [letter["event"]["id"] for letter in desk.letters()] == [ids[4]]


def test_a_body_too_large_for_a_proxy_is_halved_and_a_single_one_is_kept(
    desk: Desk, server: FakeKilotoken
) -> None:
    desk.spool_events(4)
    server.next_answers.append(Say(413, ""))
    desk.drain()
    assert [len(got.ids) for got in server.got] == [4, 2, 2]
    desk.spool_events(1)
    server.always = Say(413, "")
    assert desk.sender.step(NOW_S) == HELD_S
    assert desk.spool.count() == 1
    assert not desk.letters()


def test_gzip_is_given_up_for_good_when_the_server_cannot_read_it(
    make_desk: Callable[..., Desk], server: FakeKilotoken
) -> None:
    desk = make_desk(compress=True)
    ids = desk.spool_events(2)
    desk.drain()
    ids += desk.spool_events(1)
    desk.drain()
    assert [got.headers.get("Content-Encoding") for got in server.got] == ["gzip", None, None]
    assert server.ids == ids


def test_gzip_begins_when_the_server_says_that_it_reads_it(
    desk: Desk, server: FakeKilotoken
) -> None:
    server.reads_gzip = server.offers_gzip = True
    for _ in range(2):
        desk.spool_events(200)
        desk.drain()
    assert [got.headers.get("Content-Encoding") for got in server.got] == [None, "gzip"]
    assert len(server.got[1].raw) < len(server.got[0].raw) / 3
    assert len(json.loads(gzip.decompress(server.got[1].raw))) == 200
    assert len(server.stored) == 400


def test_a_connection_that_went_stale_is_opened_again_at_once(
    desk: Desk, server: FakeKilotoken
) -> None:
    desk.spool_events(1)
    desk.drain()
    server.next_answers.append(Say(cut=True))  # what an idle keep-alive timeout looks like
    ids = desk.spool_events(1)
    assert desk.sender.step(NOW_S) == 0.0
    assert server.ids[-1:] == ids
    assert desk.counts.retries == 0


def test_the_key_travels_in_its_header_and_only_errors_are_asked_for(
    desk: Desk, server: FakeKilotoken
) -> None:
    desk.spool_events(1)
    desk.drain()
    assert server.got[0].headers["Authorization"] == f"Bearer {KEY}"
    assert server.got[0].path == "/api/v1/events?only=errors"


def test_sending_keeps_up(desk: Desk, server: FakeKilotoken) -> None:
    desk.spool_events(10_000)
    start = time.perf_counter()
    desk.drain()
    assert time.perf_counter() - start < 10  # a floor against accidents of complexity, no figure
