"""Voids and amendments go the way of events; a backfill is closed when all of it was taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from kilotoken import AsyncMeter, BackfillError, Backfills, Meter, backfill
from kilotoken.event import Event, InvalidEvent, Void
from kilotoken.posting import Answer
from kilotoken.verdicts import Held, verdict
from kilotoken_fake import FakeKilotoken
from waiting import KEY

AT = datetime(2026, 7, 4, 12, tzinfo=timezone.utc)
JULY = {"reason": "the collector was down", "start": AT - timedelta(days=3),
        "end": AT + timedelta(days=28)}  # fmt: skip


def test_a_void_goes_over_the_wire_as_the_server_wants_it(
    meter: Meter, server: FakeKilotoken
) -> None:
    made = meter.void("evt-7", reason="sent twice")
    assert meter.flush(10)
    assert server.events == [
        {"id": made, "source": "tests", "voids": "evt-7", "reason": "sent twice"}
    ]


def test_an_amendment_is_a_whole_event(meter: Meter, server: FakeKilotoken) -> None:
    made = meter.amend("evt-7", model="m", usage={"input": 3}, occurred_at=AT, reason="wrong model",
                       id="evt-8", source="other")  # fmt: skip
    assert meter.flush(10)
    assert made == "evt-8"
    assert server.events == [
        {"id": "evt-8", "source": "other", "occurred_at": "2026-07-04T12:00:00.000000Z",
         "model": "m", "project": "default", "amends": "evt-7", "reason": "wrong model",
         "usage": {"input": 3}}
    ]  # fmt: skip


def test_corrections_can_be_awaited(meter: Meter, server: FakeKilotoken) -> None:
    async def correct() -> list[str | None]:
        twin = AsyncMeter(meter=meter)
        amended = await twin.amend("b", model="m", usage={"input": 1}, occurred_at=AT)
        return [await twin.void("a", id="v-1"), amended]

    assert asyncio.run(correct())[0] == "v-1"
    assert meter.flush(10)
    named = {event.get("voids", event.get("amends")) for event in server.events}
    assert named == {"a", "b"}


def test_a_correction_sent_twice_is_taken_once(meter: Meter, server: FakeKilotoken) -> None:
    for _ in range(2):
        assert meter.void("evt-7", id="v-1") == "v-1"
    assert meter.flush(10)
    assert len(server.stored) == 1
    assert (meter.counts.accepted, meter.counts.duplicate) == (1, 1)


@pytest.mark.parametrize("wrong", [{"event_id": ""}, {"event_id": 7}, {"reason": "r" * 201},
                                   {"reason": ""}, {"id": "x" * 129}])  # fmt: skip
def test_a_wrong_void_is_set_aside_and_never_raises(
    meter: Meter, wrong: dict[str, Any], letters: Callable[[], list[dict[str, Any]]]
) -> None:
    given = {"event_id": "evt-7", **wrong}
    assert meter.void(given.pop("event_id"), **given) is None
    assert meter.counts.invalid == 1
    assert [letter["code"] for letter in letters()] == ["invalid_event"]


def test_a_reason_belongs_to_a_correction() -> None:
    whole = {"id": "a", "source": "s", "occurred_at": AT, "model": "m", "usage": {"input": 1}}
    with pytest.raises(InvalidEvent):
        Event(**whole, reason="why")  # type: ignore[arg-type]
    assert b"reason" not in Void("v", "s", "a").wire()


def fill(server: FakeKilotoken, spool: Path, **more: Any) -> Any:
    return backfill(server.url, KEY, "tests", spool=spool, wait_s=10, drain_s=10, **more)


def test_a_backfill_is_closed_when_all_of_it_was_taken(
    server: FakeKilotoken, tmp_path: Path
) -> None:
    with fill(server, tmp_path, **JULY) as meter:
        ids = [meter.record(model="m", usage={"input": n}, occurred_at=AT) for n in (1, 2)]
    assert server.backfills[1] == {
        "id": 1, "state": "closed", "reason": "the collector was down",
        "start": "2026-07-01T12:00:00.000000Z", "end": "2026-08-01T12:00:00.000000Z",
    }  # fmt: skip
    assert server.in_backfill == {1: ids}
    assert all(got.path.endswith("?only=errors&backfill=1") for got in server.got)


def test_a_backfill_stays_open_where_something_was_not_taken(
    server: FakeKilotoken, tmp_path: Path
) -> None:
    server.reject = lambda event: ("outside_backfill", False) if event["id"] == "b" else None

    def send(*names: str, **more: Any) -> None:
        with fill(server, tmp_path, **more) as meter:
            for name in names:
                meter.record(model="m", usage={"input": 1}, occurred_at=AT, id=name)

    with pytest.raises(BackfillError, match=r"1 rejected.*number=1"):
        send("a", "b", **JULY)
    assert server.backfills[1]["state"] == "open"
    send("c", number=1)
    assert server.backfills[1]["state"] == "closed"
    assert server.in_backfill[1] == ["a", "b", "c"]


def test_a_backfill_stays_open_where_the_block_raises(
    server: FakeKilotoken, tmp_path: Path
) -> None:
    with pytest.raises(KeyError), fill(server, tmp_path, **JULY):
        raise KeyError("a fault of the caller's")
    assert server.backfills[1]["state"] == "open"


def test_what_waits_for_a_backfill_never_goes_elsewhere(
    server: FakeKilotoken, tmp_path: Path, make_meter: Callable[..., Meter]
) -> None:
    """Not even with `take_over`: outside its backfill an event counts at once, or never."""
    server.backfills[1] = {"id": 1, "state": "closed"}
    with Meter(server.url, KEY, "tests", spool=tmp_path / "spool", backfill=1) as late:
        late.record(model="m", usage={"input": 1}, occurred_at=AT, id="late")
        assert not late.flush(0.2)
    ordinary = make_meter(take_over=True)
    ordinary.record(model="m", usage={"input": 1}, id="now")
    assert ordinary.flush(10)
    assert server.ids == ["now"]
    server.backfills[1]["state"] = "open"
    again = make_meter(key="kt_another_key", take_over=True, backfill=1)
    assert again.flush(10)
    assert server.in_backfill == {1: ["late"]}


def test_a_backfill_that_is_not_open_holds_what_was_meant_for_it() -> None:
    body = json.dumps({"code": "backfill_not_open", "detail": "It was closed."}).encode()
    said = verdict(Answer(409, {}, body), 3, now_s=0.0)
    assert isinstance(said, Held)
    assert "closed" in said.why


def test_a_refusal_of_the_server_is_said(server: FakeKilotoken) -> None:
    with pytest.raises(BackfillError, match="There is none") as caught:
        Backfills(server.url, KEY).close(7)
    assert caught.value.code == "unknown_backfill"
    opened = Backfills(f"{server.url}/api/v1/events", KEY).open(**JULY)
    assert Backfills(server.url, KEY).get(opened["id"])["state"] == "open"
    assert Backfills(server.url, KEY).revert(opened["id"])["state"] == "reverted"


@pytest.mark.parametrize("change", [{"start": None}, {"start": datetime(2026, 7, 1)}])
def test_a_backfill_without_a_time_is_none(
    server: FakeKilotoken, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="start"), fill(server, tmp_path, **{**JULY, **change}):
        pass
    assert server.backfills == {}
