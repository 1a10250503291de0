"""The caller's door: it keeps what it promised and never gets in the way."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from kilotoken import AsyncMeter, Meter, labels
from kilotoken_fake import FakeKilotoken, Say
from waiting import KEY, NOBODY, eventually, finish, start


def test_an_event_is_recorded_sent_and_counted(meter: Meter, server: FakeKilotoken) -> None:
    at = datetime(2026, 11, 18, 10, 7, 30, tzinfo=timezone.utc)
    made = meter.record(model="qwen-plus", usage={"input": 3, "output": 1}, occurred_at=at,
                        session="s-1")  # fmt: skip
    assert meter.flush(10)
    assert server.events == [
        {"id": made, "source": "tests", "occurred_at": "2026-11-18T10:07:30.000000Z",
         "model": "qwen-plus", "project": "default", "session": "s-1",
         "usage": {"input": 3, "output": 1}}
    ]  # fmt: skip
    assert (meter.counts.spooled, meter.counts.accepted) == (1, 1)


def test_events_go_out_by_themselves(meter: Meter, server: FakeKilotoken) -> None:
    meter.record(model="m", usage={"input": 3})
    eventually(lambda: server.stored)


def test_an_id_of_the_callers_own_is_kept(meter: Meter, server: FakeKilotoken) -> None:
    for _ in range(2):
        assert (
            meter.record(
                model="m",
                usage={"input": 1},
                id="mine",
                source="other",
                occurred_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
            )
            == "mine"
        )
    assert meter.flush(10)
    assert list(server.stored) == [("other", "mine")]
    assert (meter.counts.accepted, meter.counts.duplicate) == (1, 1)  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [{"usage": {"input": -1}}, {"usage": None}, {"model": 7}, {"colour": "red"},
     {"occurred_at": "yesterday"}, {"occurred_at": datetime(2026, 1, 1)}, {"id": "x" * 200}],
)  # fmt: skip
def test_recording_never_raises_and_a_wrong_event_is_not_silently_gone(
    meter: Meter, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert meter.record(**{"model": "m", "usage": {"input": 1}, **wrong}) is None
    assert meter.counts.invalid + meter.counts.dropped == 1
    assert caplog.records


def test_usage_that_cannot_be_read_is_set_aside_with_its_numbers(
    meter: Meter, letters: Callable[[], list[dict[str, Any]]]
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99}
    assert meter.record_usage(usage, model="m") is None
    (letter,) = letters()
    assert letter["code"] == "inconsistent_usage"
    assert "15 != 99" in letter["detail"]
    assert letter["event"]["reported"] == usage
    assert meter.counts.unmeasured == 1


def test_an_unknown_class_of_tokens_is_recorded_and_said(
    meter: Meter, server: FakeKilotoken, caplog: pytest.LogCaptureFixture
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 0,
             "prompt_tokens_details": {"smell_tokens": 4}}  # fmt: skip
    meter.record_usage(usage, model="m")
    assert meter.flush(10)
    assert server.events[0]["usage"] == {"input": 6, "input_smell": 4, "output": 0}
    assert "input_smell" in caplog.text


def test_a_disk_that_hangs_keeps_nobody_longer_than_was_allowed(
    make_meter: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = make_meter(wait_s=0.05)
    spool, disk_is_back = meter._engine_now().spool, threading.Event()
    add = spool.add
    monkeypatch.setattr(spool, "add", lambda *a: (disk_is_back.wait(10), add(*a)))
    start_s = time.perf_counter()
    assert meter.record(model="m", usage={"input": 1}) is not None
    assert 0.04 < time.perf_counter() - start_s < 5
    disk_is_back.set()
    assert meter.flush(10)
    assert meter.counts.accepted == 1


def test_a_disk_that_fails_is_tried_again_and_the_event_kept_meanwhile(
    make_meter: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch, server: FakeKilotoken,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr("kilotoken.writing.DISK_RETRY_S", 0.01)
    meter = make_meter()
    spool = meter._engine_now().spool
    add, failures = spool.add, iter([True, True])

    def failing(*arguments: Any) -> None:
        if next(failures, False):
            raise sqlite3.OperationalError("database or disk is full")
        add(*arguments)

    monkeypatch.setattr(spool, "add", failing)
    made = meter.record(model="m", usage={"input": 1})
    assert meter.flush(10)
    assert server.ids == [made]
    assert "disk is full" in caplog.text


def test_a_full_queue_drops_and_counts(
    make_meter: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = make_meter(wait_s=0, queue_max=3)
    spool, disk_is_back = meter._engine_now().spool, threading.Event()
    add = spool.add
    monkeypatch.setattr(spool, "add", lambda *a: (disk_is_back.wait(10), add(*a)))
    said = [meter.record(model="m", usage={"input": n}) for n in range(5)]
    assert said[3:] == [None, None]
    assert meter.counts.dropped == 2
    disk_is_back.set()
    assert meter.flush(10)
    assert meter.counts.accepted == 3


def test_many_threads_share_a_commit(meter: Meter, server: FakeKilotoken) -> None:
    def many() -> None:
        for _ in range(25):
            assert meter.record(model="m", usage={"input": 1})

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.flush(10)
    assert len(server.stored) == meter.counts.spooled == 200


def test_labels_reach_every_event_recorded_within(meter: Meter, server: FakeKilotoken) -> None:
    with labels(session="s", agent="outer"), labels(agent="inner"):
        meter.record(model="m", usage={"input": 1})
        meter.record(model="m", usage={"input": 2}, agent="own")
    meter.record(model="m", usage={"input": 3})
    assert meter.flush(10)
    seen = [(event.get("session"), event.get("agent")) for event in server.events]
    assert seen == [("s", "inner"), ("s", "own"), (None, None)]


def test_flush_says_when_something_still_waits(
    make_meter: Callable[..., Meter], server: FakeKilotoken
) -> None:
    server.always = Say(503)
    meter = make_meter()
    meter.record(model="m", usage={"input": 1})
    assert not meter.flush(0.2)
    server.always = Say(401, "invalid_api_key")
    meter._engine_now().sender._asked_until_s = 0.0
    start_s = time.perf_counter()
    assert not meter.flush(60)  # waiting cannot help
    assert time.perf_counter() - start_s < 30
    server.always = None
    assert meter.flush(10)
    meter.close()
    assert not meter.flush(1)
    assert meter.close()
    assert meter.record(model="m", usage={"input": 1}) is None  # closed, and says so


def test_what_is_recorded_at_the_very_end_is_sent_at_exit(
    server: FakeKilotoken, tmp_path: Path
) -> None:
    script = """
import sys
from kilotoken import Meter
url, key, spool = sys.argv[1:]
meter = Meter(url, key, source="tests", spool=spool, wait_s=0)
for count in range(20):
    meter.record(model="m", usage={"input": count})
"""
    finish(start("-c", script, server.url, KEY, tmp_path / "spool"))
    assert len(server.stored) == 20


def test_a_forked_worker_meters_on_its_own(server: FakeKilotoken, tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    script = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: what preforking servers do
from kilotoken import Meter
url, key, spool = sys.argv[1:]
meter = Meter(url, key, source="tests", spool=spool, wait_s=10)
print(meter.record(model="parent", usage={"input": 1}), flush=True)
children = []
for _ in range(3):
    if not (child := os.fork()):
        # One write, so that no sibling's line gets in between.
        os.write(1, (meter.record(model="child", usage={"input": 2}) + "\\n").encode())
        meter.close(10)
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
print(meter.record(model="parent", usage={"input": 3}), flush=True)
"""
    said = finish(start("-c", script, server.url, KEY, tmp_path / "spool"))
    assert len(said) == 5
    assert sorted(server.ids) == sorted(said)


def test_the_async_door_does_the_same(server: FakeKilotoken, tmp_path: Path) -> None:
    async def work() -> list[str | None]:
        async with AsyncMeter(
            server.url, KEY, "tests", spool=tmp_path / "spool", wait_s=10
        ) as meter:
            said = await asyncio.gather(
                *(meter.record(model="m", usage={"input": n}) for n in range(50))
            )
            usage = {"prompt_tokens": 3, "completion_tokens": 1}
            said.append(await meter.record_usage(usage, model="m"))
            assert await meter.record(model="m", usage={}) is None
            assert await meter.flush(10)
            return said

    said = asyncio.run(work())
    assert sorted(map(str, said)) == sorted(server.ids)
    assert len(said) == 51


def test_the_event_loop_turns_while_the_disk_hangs(
    make_meter: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = make_meter(wait_s=10)
    spool, disk_is_back = meter._engine_now().spool, threading.Event()
    add = spool.add
    monkeypatch.setattr(spool, "add", lambda *a: (disk_is_back.wait(10), add(*a)))

    async def work() -> str | None:
        recording = asyncio.ensure_future(
            AsyncMeter(meter=meter).record(model="m", usage={"input": 1})
        )
        for _ in range(20):
            await asyncio.sleep(0)
        assert not recording.done()
        disk_is_back.set()  # the loop got here although the record is waiting
        return await recording

    assert asyncio.run(work()) is not None


def test_a_request_abandoned_while_the_disk_hangs_is_recorded_all_the_same(
    make_meter: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch, server: FakeKilotoken
) -> None:
    meter = make_meter(wait_s=10)
    spool, disk_is_back = meter._engine_now().spool, threading.Event()
    add = spool.add
    monkeypatch.setattr(spool, "add", lambda *a: (disk_is_back.wait(10), add(*a)))

    async def work() -> None:
        record = AsyncMeter(meter=meter).record(model="m", usage={"input": 1})
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(record, 0.05)
        disk_is_back.set()

    asyncio.run(work())
    assert meter.flush(10)
    assert len(server.stored) == 1


def test_nobody_can_take_an_offered_event_back(meter: Meter, server: FakeKilotoken) -> None:
    offer = meter.offer(model="m", usage={"input": 1})
    assert offer is not None
    assert not offer.kept.cancel()
    assert meter.flush(10)
    assert server.ids == [offer.id]


def test_the_clock_of_the_meter_is_its_own(
    make_meter: Callable[..., Meter], server: FakeKilotoken
) -> None:
    meter = make_meter(clock=lambda: 1_794_996_450.0)
    meter.record(model="m", usage={"input": 1})
    assert meter.flush(10)
    assert server.events[0]["occurred_at"] == "2026-11-18T10:07:30.000000Z"
    assert meter.now() - timedelta(seconds=1) < meter.now()


def test_a_meter_can_come_from_the_environment(
    server: FakeKilotoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"URL": server.url, "KEY": KEY, "PROJECT": "p", "SPOOL": tmp_path}.items():
        monkeypatch.setenv(f"KILOTOKEN_{name}", str(value))
    with Meter.from_environment("tests") as meter:
        meter.record(model="m", usage={"input": 1})
    assert server.events[0]["project"] == "p"


def test_an_unreachable_server_is_no_trouble_for_the_caller(tmp_path: Path) -> None:
    with Meter(NOBODY, KEY, "tests", spool=tmp_path / "spool", wait_s=10) as meter:
        assert meter.record(model="m", usage={"input": 1})
        assert not meter.flush(0.1)
        meter.close(0.1)
