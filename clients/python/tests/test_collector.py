"""Logs become events, once, however they are rotated and whoever dies."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kilotoken import Meter
from kilotoken.collector import Collector, main
from kilotoken.mapping import PRESETS, LineMapping, UnreadableLine, from_document
from kilotoken_fake import FakeKilotoken
from waiting import KEY, eventually, finish, start

USAGE = {"prompt_tokens": 31, "total_tokens": 51, "completion_tokens": 20,
         "prompt_tokens_details": {"cached_tokens": 16}}  # fmt: skip
NO_IDS = LineMapping(occurred_at="t", model="m", usage="usage", dialect="vllm")


def line(number: int) -> str:
    return json.dumps({"t": 1_794_996_450 + number, "m": f"m{number}", "usage": USAGE}) + "\n"


def models(server: FakeKilotoken) -> list[str]:
    return [event["model"] for event in server.events]


class Reader:
    """A collector on one log with a clock of its own."""

    def __init__(self, make_meter: Callable[..., Meter], path: Path, mapping: LineMapping) -> None:
        self.meter = make_meter()
        self.collector = Collector(self.meter, mapping, [path], grace_s=5)
        self.now_s = 0.0

    def read(self, *, pass_s: float = 1) -> None:
        self.now_s += pass_s
        while self.collector.step(self.now_s):
            pass

    def close(self) -> None:
        self.collector.close()
        assert self.meter.close(10)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "usage.log"


@pytest.fixture
def open_reader(make_meter: Callable[..., Meter], log: Path) -> Iterator[Callable[[], Reader]]:
    made: list[Reader] = []

    def open_one() -> Reader:
        made.append(Reader(make_meter, log, NO_IDS))
        return made[-1]

    yield open_one
    for reader in made:
        reader.collector.close()


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_lines_become_events_as_they_are_written(
    open_reader: Callable[[], Reader], log: Path, server: FakeKilotoken
) -> None:
    reader = open_reader()
    reader.read()  # there is no log yet
    append(log, line(0) + line(1)[:20])
    reader.read()
    append(log, line(1)[20:])
    reader.read()
    reader.close()
    assert models(server) == ["m0", "m1"]
    assert server.events[0]["usage"] == {"input": 15, "cache_read": 16, "output": 20}
    assert server.events[0]["occurred_at"] == "2026-11-18T10:07:30.000000Z"


def test_reading_goes_on_after_a_restart_where_it_stopped(
    open_reader: Callable[[], Reader], log: Path, server: FakeKilotoken
) -> None:
    append(log, line(0) + line(1))
    first = open_reader()
    first.read()
    first.close()
    append(log, line(2))
    second = open_reader()
    second.read()
    second.close()
    assert models(server) == ["m0", "m1", "m2"]
    assert second.meter.counts.duplicate == 0


def test_the_same_line_has_the_same_id_whenever_it_is_read(
    open_reader: Callable[[], Reader], log: Path, server: FakeKilotoken, tmp_path: Path
) -> None:
    append(log, line(0) + line(0))  # two equal lines are two events
    first = open_reader()
    first.read()
    first.close()
    for path in (tmp_path / "spool").iterdir():
        path.unlink()  # the place is forgotten
    second = open_reader()
    second.read()
    second.close()
    assert len(server.stored) == 2
    assert second.meter.counts.duplicate == 2


def test_a_rotated_log_is_read_to_its_end_before_the_new_one(
    open_reader: Callable[[], Reader], log: Path, server: FakeKilotoken
) -> None:
    append(log, line(0))
    reader = open_reader()
    reader.read()
    writer = log.open("a")  # keeps writing to the renamed file until it reopens
    log.rename(log.with_name("usage.log.1"))
    append(log, line(3))
    reader.read()
    writer.write(line(1) + line(2))
    writer.close()
    reader.read()
    assert reader.meter.counts.spooled == 3
    reader.read()
    reader.read(pass_s=5)
    reader.read()
    reader.close()
    assert models(server) == ["m0", "m1", "m2", "m3"]


def test_rotations_while_nobody_read_are_caught_up_with_in_order(
    open_reader: Callable[[], Reader], log: Path, server: FakeKilotoken
) -> None:
    append(log, line(0))
    first = open_reader()
    first.read()
    first.close()
    append(log, line(1))
    log.rename(log.with_name("usage.log.2"))
    append(log, line(2))
    log.rename(log.with_name("usage.log.1"))
    append(log, line(3))
    for age, name in enumerate(("usage.log", "usage.log.1", "usage.log.2")):
        os.utime(log.with_name(name), ns=(0, (10 - age) * 10**9))
    append(log.with_name("usage.log.2.gz"), "compressed and not looked at")
    append(log.with_name("usage.logic"), line(9))
    second = open_reader()
    for _ in range(6):
        second.read(pass_s=6)
    second.close()
    assert models(server) == ["m0", "m1", "m2", "m3"]


@pytest.mark.parametrize("longer", [False, True])
def test_a_log_truncated_in_place_is_read_from_its_start(
    open_reader: Callable[[], Reader], log: Path, server: FakeKilotoken, longer: bool
) -> None:
    append(log, line(0) + line(1))
    reader = open_reader()
    reader.read()
    more = [line(number) for number in range(2, 6 if longer else 3)]
    log.write_text("".join(more))
    reader.read()
    reader.read()
    reader.close()
    assert models(server) == [f"m{n}" for n in range(6 if longer else 3)]


def test_a_bad_line_is_set_aside_by_its_place_without_what_it_says(
    open_reader: Callable[[], Reader], log: Path, server: FakeKilotoken,
    letters: Callable[[], list[dict[str, Any]]],
) -> None:  # fmt: skip
    append(log, '{"secret": "hush"\n' + "INFO plain text hush\n" + '{"other": "hush"}\n' + line(0))
    append(log, json.dumps({"t": "hush", "m": "m", "usage": USAGE}) + "\n")
    append(log, json.dumps({"t": 1, "m": "m", "usage": {"prompt_tokens": -1}}) + "\n")
    reader = open_reader()
    reader.read()
    reader.close()
    assert models(server) == ["m0"]
    assert (reader.collector.skipped, reader.collector.bad) == (2, 3)
    codes = [letter["code"] for letter in letters()]
    assert codes == ["unreadable_line", "unreadable_line", "inconsistent_usage"]
    assert letters()[0]["event"]["offset"] == 0
    assert "secret" not in str(letters())


def test_a_full_spool_stops_reading_instead_of_dropping(
    make_meter: Callable[..., Meter], log: Path, server: FakeKilotoken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("kilotoken.collector.FULL_S", 0.05)
    monkeypatch.setattr("kilotoken.tailing.LINES_MAX", 100)
    meter = make_meter(spool_bytes_max=60_000)
    collector = Collector(meter, NO_IDS, [log], grace_s=5)
    append(log, "".join(line(number) for number in range(400)))
    while collector.step(0):
        pass
    collector.close()
    assert meter.flush(10)
    assert len(server.stored) == 400
    assert meter.counts.dropped == 0


def test_nginx_lines_start_when_the_request_did() -> None:
    said = {"msec": "1794996450.250", "request_time": "2.125", "request_id": "r-1", "model": "m",
            "status": "200", "usage": json.dumps(USAGE)}  # fmt: skip
    facts = PRESETS["nginx"].read(json.dumps(said).encode())
    assert facts is not None
    assert facts.id == "r-1"
    assert facts.occurred_at.isoformat() == "2026-11-18T10:07:28.125000+00:00"
    assert facts.usage == {"input": 15, "cache_read": 16, "output": 20}
    for nothing in ("", "-"):
        assert PRESETS["nginx"].read(json.dumps({**said, "usage": nothing}).encode()) is None


def test_a_vllm_response_object_is_a_line() -> None:
    said = {"id": "chatcmpl-1", "created": 1_794_996_450, "model": "q", "usage": USAGE,
            "choices": [{"message": {"content": "never read"}}]}  # fmt: skip
    facts = PRESETS["vllm"].read(json.dumps(said).encode())
    assert facts is not None
    assert (facts.id, facts.model, facts.usage["input"]) == ("chatcmpl-1", "q", 15)


def test_a_mapping_file_maps_anything() -> None:
    mapping = from_document({
        "occurred_at": "at", "model": "request.model", "id": "rid",
        "registers": {"input": "n.in", "output": "n.out"}, "fields": {"session": "who.session"},
        "constants": {"region": "eu-1"}, "only": {"status": [200, 201]},
    })  # fmt: skip
    said = {"at": "2026-11-18T10:07:30.123456789+01:00", "request": {"model": "m"}, "rid": 7,
            "n": {"in": 3, "out": "4"}, "who": {"session": "s"}, "status": 200}  # fmt: skip
    facts = mapping.read(json.dumps(said).encode())
    assert facts is not None
    assert facts.occurred_at.isoformat() == "2026-11-18T10:07:30.123456+01:00"
    assert (facts.id, facts.usage, facts.fields) == (
        "7", {"input": 3, "output": 4}, {"region": "eu-1", "session": "s"},
    )  # fmt: skip
    assert mapping.read(json.dumps({**said, "status": 500}).encode()) is None
    for wrong in ({"at": "2026-11-18T10:07:30"}, {"at": None}, {"n": {"in": 1.5}}):
        with pytest.raises(UnreadableLine):
            mapping.read(json.dumps({**said, **wrong}).encode())


@pytest.mark.parametrize(
    "document", [[], {}, {"occurred_at": "t", "model": "m"}, {"colour": "red"}]
)
def test_a_mapping_that_cannot_work_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="mapping"):
        from_document(document)


def test_the_command_reads_what_is_there_sends_it_and_stops(
    log: Path, server: FakeKilotoken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("KILOTOKEN_URL", server.url)
    monkeypatch.setenv("KILOTOKEN_KEY", KEY)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    mapping = tmp_path / "map.json"
    mapping.write_text(json.dumps({"occurred_at": "t", "model": "m", "usage": "usage"}))
    append(log, "".join(line(number) for number in range(3)))
    options = ["--source", "logs", "--map", str(mapping), "--spool", str(tmp_path / "spool")]
    assert main([*options, "--once", str(log)]) == 0
    assert models(server) == ["m0", "m1", "m2"]
    assert "3 lines read" in capsys.readouterr().out
    assert main([*options, "--once", "--map", "no-such-file", str(log)]) == 2
    monkeypatch.delenv("KILOTOKEN_KEY")
    assert main([*options, "--once", str(log)]) == 2
    assert "KILOTOKEN_KEY is not set" in capsys.readouterr().err


def test_a_killed_collector_goes_on_without_a_gap_or_a_double(
    log: Path, server: FakeKilotoken, tmp_path: Path
) -> None:
    mapping = tmp_path / "map.json"
    mapping.write_text(json.dumps({"occurred_at": "t", "model": "m", "usage": "usage"}))
    follow = ["-m", "kilotoken.collector", "--source", "logs", "--map", mapping,
              "--spool", tmp_path / "spool", log]  # fmt: skip
    where = {"KILOTOKEN_KEY": KEY, "KILOTOKEN_URL": server.url}
    append(log, "".join(line(number) for number in range(50)))
    process = start(*follow, **where)
    eventually(lambda: len(server.stored) == 50)
    finish(process, kill=True)
    append(log, "".join(line(number) for number in range(50, 80)))
    process = start(*follow, **where)
    eventually(lambda: len(server.stored) == 80)
    process.send_signal(signal.SIGTERM)
    said = " ".join(finish(process))
    assert process.returncode == 0
    assert "30 lines read" in said
    assert models(server) == [f"m{number}" for number in range(80)]
