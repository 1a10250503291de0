"""Every fault of a whole request, in every form and mode: one problem document, nothing stored."""

from __future__ import annotations

import io
import re
from itertools import count
from typing import Any

import pytest

from tests.bad_input.forms import FORMS, Form
from tests.bad_input.requests import BODIES, ENVELOPES, ITEMS, UNKNOWN_KEY, Body, Envelope
from tests.meter import Door, Reply, make_body
from tests.web.standing import Standing, standing

__all__ = ["standing"]

pytestmark = pytest.mark.django_db
_request_number = count(1)
each_form = pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
each_mode = pytest.mark.parametrize("mode", ["partial", "atomic"])


def refused(reply: Reply, status: int, code: str, says: str) -> dict[str, Any]:
    """A problem document that says what, what is allowed, and what to do next."""
    document: dict[str, Any] = reply.json
    assert (reply.status, document["status"], document["code"]) == (status, status, code)
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["X-Request-Id"] == document["request_id"]
    assert document["type"] == f"/errors/{code}"
    assert document["title"]
    assert document["next_step"]
    assert re.search(says, document["detail"])
    return document


def post(door: Door, form: Form, *, query: str, source: str, **environ: Any) -> Reply:
    event = make_body(source=source)
    body = form.body([form.text(event)]).encode()
    return door.post(
        environ.pop("body", bytes)(body),
        query=query,
        media_type=form.media_type,
        **{"CONTENT_LENGTH": str(len(body)), **form.headers(event), **environ},
    )


@each_mode
@each_form
@pytest.mark.parametrize("row", ENVELOPES, ids=[f"B-{row.number}-{row.rule}" for row in ENVELOPES])
def test_a_bad_request_is_refused_whole(
    standing: Standing, row: Envelope, form: Form, mode: str
) -> None:
    source = f"envelope-{next(_request_number)}"
    event = make_body(source=source)
    data = row.body(form.body([form.text(event)]).encode())
    cut = row.code == "request_timeout"
    length = str(2 * len(data) if cut else len(data))
    if row.environ.get("CONTENT_LENGTH") == "" and form.name == "lines" and mode == "atomic":
        row = row._replace(status=400, code="invalid_parameter", says="only with a Content-Length")
    reply = standing.door.post(
        data,
        query=row.query or f"mode={mode}",
        media_type=form.media_type,
        **{"CONTENT_LENGTH": length, **form.headers(event), **row.environ},
    )
    document = refused(reply, row.status, row.code, row.says)
    assert row.headers.items() <= reply.headers.items()
    assert "zzzzzzzzzzzz" not in str(document)
    if "limit" in document:
        assert document["received"] > 0
    assert standing.known(source) == set()


@each_mode
@pytest.mark.parametrize("row", BODIES, ids=[f"B-{row.number}-{row.rule}" for row in BODIES])
def test_a_body_of_the_wrong_shape_is_refused_whole(
    standing: Standing, row: Body, mode: str
) -> None:
    form = next(form for form in FORMS if form.name == row.form)
    reply = standing.door.post(row.text.encode(), query=f"mode={mode}", media_type=form.media_type)
    refused(reply, row.status, row.code, row.says)


@each_mode
@pytest.mark.parametrize("item", ITEMS.values(), ids=list(ITEMS))
@pytest.mark.parametrize("form", [form for form in FORMS if form.many], ids=lambda form: form.name)
def test_what_is_no_object_among_events_is_rejected_alone(
    standing: Standing, form: Form, item: str, mode: str
) -> None:
    """B-20 within a batch, and B-23: the line is told."""
    source = f"item-{next(_request_number)}"
    good = [form.text(make_body(id=f"evt-{n}", source=source)) for n in range(2)]
    body = form.body([good[0], item, good[1]]).encode()
    reply = standing.door.post(body, query=f"mode={mode}", media_type=form.media_type)
    answer = reply.json["events"][1]
    assert (answer["code"], answer["pointer"]) == ("not_an_object", "/1")
    assert answer["detail"].startswith("Line 2: ") == (form.name == "lines")
    assert "Send one object each" in answer["detail"]
    assert standing.known(source) == ({"evt-0", "evt-1"} if mode == "partial" else set())


@each_form
def test_keys_that_are_no_more_good_are_told_what_unknown_ones_are(
    standing: Standing, form: Form
) -> None:
    """B-02: unknown, wrong, revoked and expired; B-03: a key of another installation is unknown."""
    good = standing.door.key
    other = good[:-1] + ("a" if good[-1] != "a" else "b")  # as if digested with another pepper
    told = set()
    for key in (other, standing.revoked, standing.expired, UNKNOWN_KEY):
        reply = post(Door(key), form, query="", source="nobody")
        document = refused(reply, 401, "invalid_api_key", "No valid API key")
        told.add((document["title"], document["detail"], document["next_step"]))
    assert len(told) == 1
    assert standing.known("nobody") == set()


@each_mode
@each_form
def test_a_key_without_the_scope_is_told_which(standing: Standing, form: Form, mode: str) -> None:
    """B-04."""
    reply = post(Door(standing.reader), form, query=f"mode={mode}", source="reader")
    refused(reply, 403, "scope_missing", "scope 'ingest'")


def test_a_body_in_chunks_that_is_too_large_is_read_no_further(standing: Standing) -> None:
    """B-10: without a length the limit is found by reading, and reading ends there."""
    stream = io.BytesIO(b" " * 6_000_000)
    reply = standing.door.post(b"", CONTENT_LENGTH="", **{"wsgi.input": stream})
    refused(reply, 413, "body_too_large", "at most 5242880")
    assert stream.tell() <= 5_242_881


@each_form
def test_an_idempotency_key_changes_nothing(standing: Standing, form: Form) -> None:
    """B-69: the identity of each event is finer; the header is for requests that lack one."""
    source = f"idempotent-{next(_request_number)}"
    for expected in ("accepted", "duplicate"):
        reply = post(standing.door, form, query="", source=source, HTTP_IDEMPOTENCY_KEY="x" * 999)
        assert (reply.status, reply.json["events"][0]["status"]) == (202, expected)
