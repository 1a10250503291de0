"""Every fault of one event, in every form, in every place and in both modes of sending it.

The good neighbours of a bad event are stored, and it is kept in quarantine; in atomic mode nothing
is stored or kept. A fault of the JSON itself spoils one line of NDJSON, and all of anything else.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

import pytest

from tests.bad_input import forms
from tests.bad_input.events import EVENTS, SECRETS, TEXTS, Row, Text
from tests.bad_input.forms import BINARY, CELLS, LINES, Form
from tests.meter import Reply, make_body
from tests.web.standing import Standing, standing

__all__ = ["standing"]

pytestmark = pytest.mark.django_db  # the tables are there; what the door commits, it commits itself
_request_number = count(1)

cells = pytest.mark.parametrize(
    ("form", "place", "mode"), CELLS, ids=[forms.cell_name(*cell) for cell in CELLS]
)


def good_events(form: Form) -> list[dict[str, Any]]:
    """Three events, or one, that nothing is wrong with, under a source of their own."""
    source = f"request-{next(_request_number)}"
    return [
        make_body(id=f"evt-{index}", source=source, session=f"{source}-{index}")
        for index in range(3 if form.many else 1)
    ]


def send(standing: Standing, form: Form, texts: list[str], mode: str, **headers: Any) -> Reply:
    return standing.door.post(
        form.body(texts).encode(), query=f"mode={mode}", media_type=form.media_type, **headers
    )


@cells
@pytest.mark.parametrize("row", EVENTS, ids=[f"B-{row.number}-{row.rule}" for row in EVENTS])
def test_a_bad_event_is_told_why_and_spoils_no_other(
    standing: Standing, row: Row, form: Form, place: str, mode: str
) -> None:
    bad = forms.bad_places(place)
    events = good_events(form)
    for index in bad:
        changed = {**events[index], **row.fields}
        events[index] = {name: value for name, value in changed.items() if value is not ...}
    if form is BINARY and not forms.fits_a_header(events[0]):
        pytest.skip("every header is text")
    reply = send(
        standing, form, [form.text(one) for one in events], mode, **form.headers(events[0])
    )
    assert reply.status == (207 if mode == "partial" and len(bad) < len(events) else 422)
    for index, answer in enumerate(reply.json["events"]):
        if index in bad:
            is_told(answer, row, form, index)
        elif mode == "atomic":
            assert (answer["code"], answer["retryable"]) == ("batch_refused", True)
        else:
            assert answer["status"] == "accepted"
    for secret in SECRETS:
        assert secret not in reply.body.decode()
    is_kept_right(standing, reply, events, bad, row.code, mode)


def is_told(answer: dict[str, Any], row: Row, form: Form, index: int) -> None:
    """What, where, what is allowed and what to do next."""
    where = form.place(index) + form.pointer(row.pointer)
    assert (answer["status"], answer["code"], answer["pointer"]) == ("rejected", row.code, where)
    assert re.search(row.says, answer["detail"])
    assert answer["detail"].endswith((".", "?"))
    assert answer["detail"].isascii()
    assert len(answer["detail"]) < 450
    assert answer["detail"].startswith(f"Line {index + 1}: ") == (
        form is LINES and row.code != "unknown_project"
    )
    assert answer["retryable"] == row.retryable


def is_kept_right(
    standing: Standing,
    reply: Reply,
    events: list[dict[str, Any]],
    bad: tuple[int, ...],
    code: str,
    mode: str,
) -> None:
    """Good neighbours are stored and bad ones are in quarantine; or nothing of either."""
    batch_id = reply.json["batch_id"]
    good = [event for index, event in enumerate(events) if index not in bad]
    if mode == "atomic":
        assert batch_id is None
        assert all(standing.known(event["source"]) == set() for event in good)
        return
    assert standing.stored(batch_id) == {event["id"] for event in good}
    assert [kept for kept, _ in standing.kept(batch_id)] == [code] * len(bad)


@cells
@pytest.mark.parametrize("row", TEXTS, ids=[f"B-{row.number}-{row.rule}" for row in TEXTS])
def test_what_is_not_strict_json_spoils_its_line_or_the_whole_body(
    standing: Standing, row: Text, form: Form, place: str, mode: str
) -> None:
    bad = forms.bad_places(place)
    events = good_events(form)
    texts = [form.text(one) for one in events]
    for index in bad:
        assert row.good in texts[index]
        texts[index] = texts[index].replace(row.good, row.bad, 1)
    reply = send(standing, form, texts, mode, **form.headers(events[0]))
    if form is LINES:
        assert reply.status == (207 if mode == "partial" and len(bad) < len(events) else 422)
        told = [reply.json["events"][index] for index in bad]
        assert {(one["code"], one["pointer"]) for one in told} == {
            (row.code, f"/{index}") for index in bad
        }
        assert all(one["detail"].startswith("Line ") for one in told)
        assert all(re.search(row.says, one["detail"]) for one in told)
        is_kept_right(standing, reply, events, bad, row.code, mode)
        return
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(reply.body)
    assert (problem["status"], problem["code"]) == (400, row.code) == (reply.status, row.code)
    assert re.search(row.says, problem["detail"])
    assert standing.known(events[0]["source"]) == set()
