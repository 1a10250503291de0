from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from kilotoken.event import Event, InvalidEvent, new_id

AT = datetime(2026, 11, 18, 11, 7, 30, 250_000, timezone(timedelta(hours=1)))
GOOD: dict[str, Any] = {
    "id": "r-1", "source": "gw", "occurred_at": AT, "model": "qwen-plus",
    "usage": {"input": 1200, "output": 80},
}  # fmt: skip


def test_an_event_goes_over_the_wire_as_the_server_wants_it() -> None:
    assert json.loads(Event(**GOOD, project="default", session="s-1").wire()) == {
        "id": "r-1", "source": "gw", "occurred_at": "2026-11-18T10:07:30.250000Z",
        "model": "qwen-plus", "project": "default", "session": "s-1",
        "usage": {"input": 1200, "output": 80},
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"usage": {}},
        {"usage": {"input": -1}},
        {"usage": {"input": 1.0}},
        {"usage": {"input": True}},
        {"usage": {"input": 10**12 + 1}},
        {"usage": {f"r{n}": 1 for n in range(17)}},
        {"occurred_at": AT.replace(tzinfo=None)},
        {"id": ""},
        {"id": "x" * 129},
        {"model": None},
        {"source": 7},
    ],
)
def test_what_can_never_be_accepted_is_no_event(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        Event(**{**GOOD, **wrong})


def test_new_ids_are_uuids_of_version_7_and_sort_by_time() -> None:
    ids = [new_id(1_790_000_000 + second) for second in range(50)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    assert {uuid.UUID(made).version for made in ids} == {7}
    assert {uuid.UUID(made).variant for made in ids} == {uuid.RFC_4122}
    assert int(ids[0].replace("-", "")[:12], 16) == 1_790_000_000_000
