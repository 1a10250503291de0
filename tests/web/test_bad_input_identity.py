"""What came before: the same again is a success, something else under the same id a conflict."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from metering import readings
from metering.ingest import door as the_door
from metering.readings import Slice
from tests.bad_input import forms
from tests.bad_input.forms import CELLS, FORMS, Form, cell_name
from tests.meter import Reply, make_body
from tests.web.standing import Standing, standing

__all__ = ["standing"]

pytestmark = pytest.mark.django_db
_request_number = count(1)
cells = pytest.mark.parametrize(
    ("form", "place", "mode"), CELLS, ids=[cell_name(*cell) for cell in CELLS]
)
each_form = pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
batches = pytest.mark.parametrize(
    ("form", "mode"),
    [(form, mode) for form in FORMS if form.many for mode in ("partial", "atomic")],
)


def new_source() -> str:
    return f"again-{next(_request_number)}"


def good_events(form: Form, source: str) -> list[dict[str, Any]]:
    return [make_body(id=f"evt-{n}", source=source) for n in range(3 if form.many else 1)]


def send(standing: Standing, form: Form, events: list[dict[str, Any]], mode: str) -> Reply:
    body = form.body([form.text(event) for event in events]).encode()
    return standing.door.post(
        body, query=f"mode={mode}", media_type=form.media_type, **form.headers(events[0])
    )


@cells
def test_what_was_accepted_before_is_a_duplicate_and_a_success(
    standing: Standing, form: Form, place: str, mode: str
) -> None:
    """B-29."""
    events, again = good_events(form, new_source()), forms.bad_places(place)
    for index in again:
        assert standing.door.post(events[index]).status == 202
    reply = send(standing, form, events, mode)
    assert (reply.status, reply.json["duplicate"]) == (202, len(again))
    for index, answer in enumerate(reply.json["events"]):
        assert answer["status"] == ("duplicate" if index in again else "accepted")
        if index in again:
            assert re.search(r"was accepted at \d{4}-.*nothing was counted twice", answer["detail"])
    assert standing.kept(reply.json["batch_id"]) == []


@cells
def test_another_content_under_a_known_id_is_a_conflict_with_both_values(
    standing: Standing, form: Form, place: str, mode: str
) -> None:
    """B-30."""
    source = new_source()
    events = good_events(form, source)
    changed = forms.bad_places(place)
    for index in changed:
        assert standing.door.post(events[index]).status == 202
        events[index] = {**events[index], "usage": {"input": 1300, "output": 80}}
    reply = send(standing, form, events, mode)
    some = mode == "partial" and len(changed) < len(events)
    assert reply.status == (207 if some else 422)
    for index in changed:
        answer = reply.json["events"][index]
        assert (answer["status"], answer["code"]) == ("conflict", "event_conflict")
        assert (answer["pointer"], answer["retryable"]) == (form.place(index), False)
        assert "usage.input 1200, now 1300" in answer["detail"]
        assert "Send this one with a new id" in answer["detail"]
    stored = range(len(events)) if mode == "partial" else changed
    assert standing.known(source) == {f"evt-{index}" for index in stored}
    kept = standing.kept(reply.json["batch_id"]) if mode == "partial" else []
    assert [code for code, _ in kept] == ["event_conflict"] * len(kept)
    assert len(kept) == (len(changed) if mode == "partial" else 0)


@batches
@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 2)])
def test_the_same_event_twice_in_a_batch_counts_once(
    standing: Standing, form: Form, mode: str, first: int, second: int
) -> None:
    """B-27."""
    events = good_events(form, new_source())
    events[second] = dict(events[first])
    reply = send(standing, form, events, mode)
    assert (reply.status, reply.json["accepted"], reply.json["duplicate"]) == (202, 2, 1)
    answer = reply.json["events"][second]
    assert answer["status"] == "duplicate"
    assert f"stands at index {first} of this batch" in answer["detail"]


@batches
@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 2)])
def test_another_event_under_the_same_id_in_a_batch_is_a_conflict(
    standing: Standing, form: Form, mode: str, first: int, second: int
) -> None:
    """B-28."""
    events = good_events(form, new_source())
    events[second] = {**events[first], "usage": {"input": 1300, "output": 80}}
    reply = send(standing, form, events, mode)
    assert reply.status == (207 if mode == "partial" else 422)
    answer = reply.json["events"][second]
    assert answer["code"] == "event_conflict"
    assert f"stands at index {first} of this batch" in answer["detail"]
    assert "usage.input 1200, now 1300" in answer["detail"]
    assert len(standing.known(events[0]["source"])) == (2 if mode == "partial" else 0)


@each_form
def test_an_id_that_was_rejected_is_free(standing: Standing, form: Form) -> None:
    """B-31."""
    event = make_body(source=new_source())
    assert send(standing, form, [{**event, "usage": {"input": -1}}], "partial").status == 422
    assert send(standing, form, [event], "partial").json["accepted"] == 1


ACCEPTED = [
    (36, "no subscription is active at the event's time", {}),
    (37, "a model that no price names", {"model": "nobody/has-a-price-for-me"}),
    (33, "a register of the sender's own", {"usage": {"somebodys_own": 3}}),
]


@cells
@pytest.mark.parametrize(
    ("number", "rule", "fields"), ACCEPTED, ids=[f"B-{one[0]}-{one[1]}" for one in ACCEPTED]
)
def test_what_is_odd_and_true_is_accepted(
    standing: Standing, number: int, rule: str, fields: dict[str, Any], form: Form, place: str,
    mode: str,
) -> None:  # fmt: skip
    """Usage is a fact. What it costs, and on which invoice it stands, is billing's to say."""
    events = good_events(form, new_source())
    for index in forms.bad_places(place):
        events[index] |= fields
    reply = send(standing, form, events, mode)
    assert (reply.status, reply.json["accepted"]) == (202, len(events)), (number, rule)


CLOSED = Slice(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
FLAGGED = [
    (44, "it happened in a closed period", {"occurred_at": "2026-10-20T10:07:30Z"}, ["late"],
     "closed before it came .*2026-11-01T00:00:00Z.*will appear as an adjustment on the next"),
    (44, "it happened at the last moment of a closed period",
     {"occurred_at": "2026-10-31T23:59:59.999999Z"}, ["late"], "will appear as an adjustment"),
    (55, "nothing was used", {"usage": {"input": 0, "output": 0}}, ["zero"],
     "Every quantity is zero.*send an amendment"),
    (55, "nothing was used in a closed period",
     {"occurred_at": "2026-10-20T10:07:30Z", "usage": {"input": 0}}, ["late", "zero"],
     "will appear as an adjustment.*Every quantity is zero"),
]  # fmt: skip


@pytest.fixture(scope="module")
def october_is_closed(standing: Standing, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        readings.close(standing.organization.pk, *CLOSED)
        the_door.callers.forget()
        yield
        readings.open_again(standing.organization.pk, *CLOSED)
        the_door.callers.forget()


@cells
@pytest.mark.parametrize(
    ("number", "rule", "fields", "flags", "says"),
    FLAGGED,
    ids=[f"B-{one[0]}-{one[1]}" for one in FLAGGED],
)
def test_what_is_accepted_and_worth_knowing_has_flags_now_and_when_it_is_repeated(
    standing: Standing, october_is_closed: None, number: int, rule: str, fields: dict[str, Any],
    flags: list[str], says: str, form: Form, place: str, mode: str,
) -> None:  # fmt: skip
    events, odd = good_events(form, new_source()), forms.bad_places(place)
    for index in odd:
        events[index] |= fields
    for status in ("accepted", "duplicate"):
        reply = send(standing, form, events, mode)
        assert (reply.status, reply.json[status]) == (202, len(events)), (number, rule)
        assert reply.json["flags"] == {flag: len(odd) for flag in flags}
        for index, answer in enumerate(reply.json["events"]):
            assert answer.get("flags") == (flags if index in odd else None)
            if index in odd and status == "accepted":
                assert re.search(says, answer["detail"])
    assert standing.kept(reply.json["batch_id"]) == []


@batches
def test_nothing_is_flagged_in_an_open_period(
    standing: Standing, october_is_closed: None, form: Form, mode: str
) -> None:
    """B-44, its other side."""
    events = good_events(form, new_source())
    for event in events:
        event["occurred_at"] = "2026-11-01T00:00:00Z"
    reply = send(standing, form, events, mode)
    assert reply.json["accepted"] == len(events)
    assert "flags" not in reply.json
    assert all("flags" not in one for one in reply.json["events"])
