"""What is on disk stays there until the server has it, whoever dies meanwhile."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kilotoken.spool
from kilotoken import Meter
from kilotoken.spool import Place, Spool, SpoolFull
from kilotoken_fake import FakeKilotoken, Say
from waiting import KEY, NOBODY, eventually, finish, start

# Records forever and says each id once it is on disk.
RECORDER = """
import sys
from kilotoken import Meter
url, key, spool, number = sys.argv[1:]
meter = Meter(url, key, source="tests", spool=spool, wait_s=10)
for count in range(int(number)):
    print(meter.record(model="m", usage={"input": count}), flush=True)
sys.stdin.read()
"""


def test_events_of_a_killed_process_are_sent_by_the_next_one_and_count_once(
    server: FakeKilotoken, make_meter: Callable[..., Meter], tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    server.always = Say(cut=True, store=True)  # the server keeps them, and its answers get lost
    process = start("-c", RECORDER, server.url, KEY, spool, 40)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(40)]
    eventually(lambda: server.stored)
    finish(process, kill=True)
    stored = len(server.stored)
    server.always = None
    meter = make_meter()
    assert meter.flush(10)
    assert sorted(server.ids) == sorted(said)
    assert meter.counts.duplicate == stored > 0
    assert meter.counts.accepted == 40 - stored


def test_a_process_killed_in_the_middle_loses_nothing_that_it_was_promised(
    server: FakeKilotoken, make_meter: Callable[..., Meter], tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    process = start("-c", RECORDER, server.url, KEY, spool, 10**9)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(30)]
    said += finish(process, kill=True)
    if len(said[-1]) != 36:  # torn by the kill itself
        said.pop()
    assert make_meter().flush(10)
    assert set(said) <= set(server.ids)
    assert len(set(server.ids)) == len(server.ids) <= len(said) + 1


def test_several_processes_share_a_folder_and_one_sends_for_all(
    server: FakeKilotoken, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    processes = [start("-c", RECORDER, server.url, KEY, spool, 50) for _ in range(2)]
    said = []
    for process in processes:
        assert process.stdout is not None
        said += [process.stdout.readline().strip() for _ in range(50)]
    eventually(lambda: len(server.stored) == 100)
    assert sorted(server.ids) == sorted(said)
    assert sum(len(got.ids) for got in server.got) == 100  # nobody sent what another had sent
    for process in processes:
        finish(process)


# Opens a new folder every 25 ms, at the same instants as its siblings.
OPENER = """
import sys, time
from pathlib import Path
from kilotoken.spool import Spool
folder, begin = Path(sys.argv[1]), float(sys.argv[2])
for turn in range(40):
    while time.time() < begin + turn * 0.025:
        pass
    spool = Spool(folder / str(turn), owner="o")
    spool.add([b"{}"])
    spool.close()
print("opened")
"""


def test_processes_that_open_a_new_folder_at_the_same_instant_all_succeed(tmp_path: Path) -> None:
    begin = time.time() + 1
    processes = [start("-c", OPENER, tmp_path, begin) for _ in range(3)]
    assert [finish(process) for process in processes] == [["opened"]] * 3


def test_when_the_sending_process_dies_another_takes_over(
    server: FakeKilotoken, make_meter: Callable[..., Meter], tmp_path: Path
) -> None:
    process = start("-c", RECORDER, server.url, KEY, tmp_path / "spool", 1)
    eventually(lambda: server.stored)  # it holds the lease
    meter = make_meter()
    assert not meter._engine_now().spool.lease()
    finish(process, kill=True)
    sent = meter.record(model="m", usage={"input": 1})
    assert meter.flush(10)
    assert server.ids[-1] == sent


def test_events_of_another_key_wait_for_their_own(
    server: FakeKilotoken, make_meter: Callable[..., Meter], caplog: pytest.LogCaptureFixture
) -> None:
    server.always = Say(503)
    acme = make_meter(key="kt_acme")
    acme.record(model="m", usage={"input": 1})
    acme.close(0)
    server.always = None
    globex = make_meter(key="kt_globex")
    assert "1 usage events" in caplog.text
    globex.record(model="m", usage={"input": 2})
    assert globex.flush(10)
    assert {got.headers["Authorization"] for got in server.got if got.ids == server.ids} == {
        "Bearer kt_globex"
    }
    assert len(server.stored) == 1
    rotated = make_meter(key="kt_acme2", take_over=True)
    assert rotated.flush(10)
    assert len(server.stored) == 2


def test_a_full_spool_drops_new_events_counts_them_and_says_so(
    server: FakeKilotoken, make_meter: Callable[..., Meter], caplog: pytest.LogCaptureFixture
) -> None:
    server.always = Say(503)
    meter = make_meter(spool_bytes_max=200_000)
    kept = 0
    while meter.record(model="m" * 128, usage={"input": 1}) is not None:
        kept += 1
    assert meter.record(model="m", usage={"input": 1}) is None
    assert meter.counts.dropped == 2
    assert meter.counts.spooled == kept > 100
    assert "200,000 bytes, which is its limit" in caplog.text
    server.always = None
    assert meter.flush(10)
    assert meter.record(model="m", usage={"input": 1}) is not None  # there is room again
    assert len(set(server.ids)) == kept


def test_the_files_are_the_owners_alone_and_hold_no_key(
    server: FakeKilotoken, make_meter: Callable[..., Meter], tmp_path: Path
) -> None:
    meter = make_meter()
    meter.record(model="m", usage={"input": 1})
    meter.offer(model="", usage={})
    meter.flush(10)
    folder = tmp_path / "spool"
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        assert KEY.encode() not in path.read_bytes()
    assert KEY not in repr(meter)
    assert KEY not in repr(meter._settings)


def test_every_commit_reaches_the_disk_before_it_counts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, owner="o")
    assert spool._rows.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert spool._rows.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    spool.close()


def test_events_and_the_place_in_their_log_are_kept_together_or_not_at_all(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, owner="o", bytes_max=60_000)
    first = Place("/var/log/x", 7, "h", 100)
    spool.add([b"{}"], first)
    refused = 0
    for read_to in range(200, 1_300, 100):
        try:
            spool.add([b"x" * 1_000] * 10, Place("/var/log/x", 7, "h", read_to))
        except SpoolFull:
            refused += 1
    held = spool.place("/var/log/x")
    assert refused
    assert held == Place("/var/log/x", 7, "h", 100 + 100 * (11 - refused))
    assert spool.count() == 1 + 10 * (11 - refused)
    spool.close()


def test_a_spool_that_is_no_database_is_refused_when_the_meter_is_made(
    server: FakeKilotoken, tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "spool.sqlite3").write_bytes(b"this is no database " * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Meter(server.url, KEY, "tests", spool=tmp_path / "spool")


def test_dead_letters_are_whole_lines(tmp_path: Path) -> None:
    meter = Meter(NOBODY, KEY, "tests", spool=tmp_path)
    for number in range(3):
        meter.set_aside("a_code", "a\nsentence", {"number": number})
    meter.close(0)
    lines = (tmp_path / "dead-letters.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"]["number"] for line in lines] == [0, 1, 2]


def test_a_fork_waits_until_no_thread_is_within_sqlite(tmp_path: Path) -> None:
    """A child inherits SQLite's locks as they are; one that is taken would never be free in it."""
    spool = Spool(tmp_path / "spool", owner="somebody")
    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def bodies() -> Iterator[bytes]:
        inside.set()  # of a transaction
        go_on.wait(20)
        order.append("stored")
        yield b"{}"

    def fork() -> None:
        kilotoken.spool._hold()
        order.append("forked")
        kilotoken.spool._let_go()

    threads = [threading.Thread(target=spool.add, args=(bodies(),)), threading.Thread(target=fork)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    threads[1].join(0.2)  # a fork that does not wait is over by now
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert order == ["stored", "forked"]
    spool.add([b"{}"])  # the locks are free again
    spool.close()
