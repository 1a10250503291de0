"""Where a replay is placed in time, how it is cut into batches, and where it goes on."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.core.management.base import CommandError

from console import replaying, sending
from console.journal import Journal
from console.progress import Progress
from console.replaying import Trace
from workloads.request import Request
from workloads.traces import Format, Summary

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000


def summary(last_offset_us: int) -> Summary:
    return Summary(1, last_offset_us, 0, Counter(), Counter(), Counter())


def trace(last_offset_us: int) -> Trace:
    return Trace(Path("t.csv"), Format.CSV, "m", None, summary(last_offset_us), "replay:t")


# now (UTC) | zone | the trace's last offset | where offset 0 is placed
PLACES = [
    ("2026-11-18T10:07", "UTC", HOUR_US, "2026-10-31T00:00"),
    ("2026-11-18T10:07", "UTC", DAY_US - 1, "2026-10-31T00:00"),
    ("2026-11-18T10:07", "UTC", DAY_US, "2026-10-30T00:00"),  # it would end in November
    ("2026-11-18T10:07", "Asia/Shanghai", HOUR_US, "2026-10-30T16:00"),
    ("2026-11-01T00:30", "UTC", HOUR_US, "2026-10-31T00:00"),
    ("2026-11-01T00:30", "America/New_York", HOUR_US, "2026-09-30T04:00"),  # October there
    ("2024-04-10T00:00", "Europe/Berlin", DAY_US - 1, "2024-03-29T23:00"),  # the 31st had 23 h
    ("2024-04-10T00:00", "Europe/Berlin", 23 * HOUR_US - 1, "2024-03-30T23:00"),
    ("2026-12-31T23:00", "UTC", HOUR_US, "2026-11-30T00:00"),
    ("2026-12-31T23:00", "UTC", 5 * DAY_US, "2026-12-30T00:00"),  # else 36 days ago: yesterday
]


@pytest.mark.parametrize(("now", "zone", "last_offset_us", "placed"), PLACES)
def test_a_trace_falls_into_last_month_where_that_can_still_be_sent(
    now, zone, last_offset_us, placed
):
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    start, _ = replaying.default_start(summary(last_offset_us), ZoneInfo(zone), moment)
    assert start == datetime.fromisoformat(placed).replace(tzinfo=UTC)


def test_what_the_door_would_refuse_is_refused_before_it_is_sent(now: datetime):
    too_old = now - timedelta(days=34, hours=23, minutes=1)
    with pytest.raises(CommandError, match="older than 35 days"):
        replaying.check_window(trace(HOUR_US), too_old, now, None)
    replaying.check_window(trace(HOUR_US), too_old + timedelta(minutes=2), now, None)
    with pytest.raises(CommandError, match="still to come"):
        replaying.check_window(trace(HOUR_US), now, now, None)
    with pytest.raises(CommandError, match="still to come"):
        replaying.check_window(trace(HOUR_US), now, now, 2)


def test_in_real_time_a_trace_may_run_on_into_the_future(now: datetime):
    replaying.check_window(trace(DAY_US), now, now, 1)


def requests(clients: str) -> list[Request]:
    return [
        Request(str(row), row, "m", {"input": row}, client) for row, client in enumerate(clients, 1)
    ]


def test_a_mark_says_how_many_rows_from_the_front_are_in_this_batch_or_earlier(
    monkeypatch, now: datetime
):
    monkeypatch.setattr(sending, "EVENTS_PER_BATCH_MAX", 2)
    ready = list(
        sending.batches(requests("abbaab"), key_of=lambda one: one.client, source="s", start=now)
    )
    held = [(batch.key, [event["id"] for event in batch.events], batch.mark) for batch in ready]
    assert held == [
        ("b", ["2", "3"], 0),  # row 1 still waits for company
        ("a", ["1", "4"], 4),
        ("a", ["5"], 5),
        ("b", ["6"], 6),
    ]


def test_rows_that_were_answered_are_read_and_not_sent(now: datetime):
    (batch,) = sending.batches(
        requests("aaaa"), key_of=lambda one: one.client, source="s", start=now, skip=3
    )
    assert [event["id"] for event in batch.events] == ["4"]


def test_a_paced_event_does_not_wait_for_a_full_batch(now: datetime):
    ready = sending.batches(
        requests("ab"), key_of=lambda one: one.client, source="s", start=now, linger_s=-1
    )
    assert [len(batch.events) for batch in ready] == [1, 1]


def test_pacing_keeps_the_gaps_of_what_is_still_to_be_sent(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(replaying.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(replaying.time, "sleep", slept.append)
    rows = [Request(str(s), s * 1_000_000, "m", {"input": 1}) for s in (0, 600, 1200, 1800)]
    assert list(replaying.paced(rows, 60, skip=1)) == rows
    assert slept == [0, 10, 20]


def test_a_replay_goes_on_where_it_was_unless_the_rows_are_not_there(tmp_path: Path):
    path = tmp_path / "replays" / "one.json"
    assert Journal(path).rows_answered(at_most=10) == 0
    Journal(path).reached(7)
    assert Journal(path).rows_answered(at_most=10) == 7
    assert Journal(path).rows_answered(at_most=6) == 0  # another database: send everything
    path.write_text("{half")
    assert Journal(path).rows_answered(at_most=10) == 0
    Journal(path).forget()
    assert not path.exists()


def test_a_log_gets_lines_and_no_control_characters():
    log = io.StringIO()
    with Progress("events sent", 1_000, stream=log) as progress:
        progress.at(10)
        progress.at(990)
    assert log.getvalue().startswith("events sent: 990 of 990 (100 %)")
    assert log.getvalue().count("\n") == 1


def test_a_person_gets_a_bar_on_one_line():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    with Progress("events sent", 4, stream=terminal) as progress:
        progress.at(4)
    assert terminal.getvalue().startswith("\r")
    assert "█" * 30 in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 1
