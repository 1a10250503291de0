"""CloudEvents at the ingestion door: structured, in batches and in binary mode."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Organization
from metering import readings
from metering.ingest import cloudevents
from metering.ingest.decode import Refusal
from tests.conftest import NOW
from tests.meter import Door, Reply, door, empty_meter, key, no_bell

__all__ = ["door", "empty_meter", "key", "no_bell"]

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json; charset=utf-8"


def cloudevent(*, time: Any = None, data: Any = None, **fields: Any) -> dict[str, Any]:
    """A CloudEvent as it is sent; a field set to ... is left out."""
    body = {
        "specversion": "1.0",
        "type": "kilotoken.usage.v1",
        "id": "evt-1",
        "source": "/gateway/1",
        "time": time or timezone.now().isoformat(),
        "data": data or {"model": "m", "usage": {"input": 1200, "output": 80}},
    }
    return {name: value for name, value in {**body, **fields}.items() if value is not ...}


def binary(door: Door, event: dict[str, Any], **environ: Any) -> Reply:
    headers = {f"HTTP_CE_{name.upper()}": quote(str(value), safe=" :/+")
               for name, value in event.items() if name != "data"}  # fmt: skip
    return door.post(event["data"], **headers, **environ)


def test_the_three_modes_are_the_same_event(door: Door, acme: Organization) -> None:
    event = cloudevent()
    assert door.post(event, media_type=STRUCTURED).json["accepted"] == 1
    assert door.post([event], media_type=BATCH).json["duplicate"] == 1
    assert binary(door, event).json["duplicate"] == 1
    native = {"id": event["id"], "source": event["source"], "occurred_at": event["time"]}
    assert door.post({**native, **event["data"]}).json["duplicate"] == 1
    (found,) = readings.find_events(acme.pk)
    assert (found.id, found.source, found.usage) == (
        "evt-1", "/gateway/1", {"input": 1200, "output": 80},
    )  # fmt: skip


def test_headers_are_percent_encoded_utf8(door: Door, acme: Organization) -> None:
    assert binary(door, cloudevent(id="évt 1", source="gäteway")).status == 202
    (found,) = readings.find_events(acme.pk)
    assert (found.id, found.source) == ("évt 1", "gäteway")


def test_attributes_that_others_add_do_no_harm(door: Door) -> None:
    event = cloudevent(subject="acme", dataschema="https://x.example/s", traceparent="00-1",
                       datacontenttype="application/vnd.usage+json")  # fmt: skip
    assert door.post(event, media_type=STRUCTURED).json["accepted"] == 1
    assert binary(door, event).json["duplicate"] == 1


def test_raw_usage_and_compression_work_here_too(door: Door) -> None:
    data = {"model": "m", "usage_format": "vllm", "usage": {"prompt_tokens": 3}}
    body = gzip.compress(json.dumps([cloudevent(data=data)]).encode())
    reply = door.post(body, media_type=BATCH, HTTP_CONTENT_ENCODING="gzip")
    assert reply.json["accepted"] == 1


BAD = [
    ({"specversion": "0.3"}, "cloudevent_invalid", "/specversion"),
    ({"specversion": ...}, "cloudevent_invalid", "/specversion"),
    ({"specversion": 1.0}, "cloudevent_invalid", "/specversion"),
    ({"type": "com.example.order"}, "cloudevent_invalid", "/type"),
    ({"type": ...}, "cloudevent_invalid", "/type"),
    ({"data_base64": "eyJ9"}, "cloudevent_invalid", "/data_base64"),
    ({"datacontenttype": "text/xml"}, "cloudevent_invalid", "/datacontenttype"),
    ({"data": "text"}, "cloudevent_invalid", "/data"),
    ({"data": ...}, "cloudevent_invalid", "/data"),
    ({"data": {"id": "x", "model": "m", "usage": {"input": 1}}}, "cloudevent_invalid", "/data/id"),
    ({"id": ...}, "id_required", "/id"),
    ({"id": 7}, "id_not_string", "/id"),
    ({"source": " x"}, "source_invalid", "/source"),
    ({"time": ...}, "time_required", "/time"),
    ({"time": "2026-11-18T10:07:30"}, "time_format", "/time"),
    ({"data": {"usage": {"input": 1}}}, "model_required", "/data/model"),
    ({"data": {"model": "m", "usage": {"input": -1}}}, "negative_quantity", "/data/usage/input"),
    ({"data": {"model": "m", "usage": {"input": 1}, "tenant": 1}}, "field_not_allowed",
     "/data/tenant"),
    ({"data": {"model": "m", "usage": {"input": 1}, "project": "x"}}, "unknown_project",
     "/project"),
]  # fmt: skip


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize(("fields", "code", "pointer"), BAD)
def test_one_bad_cloudevent_is_rejected_alone(
    door: Door, fields: dict[str, Any], code: str, pointer: str, place: str
) -> None:
    index = ["first", "middle", "last"].index(place)
    sent = [cloudevent(id=f"evt-{n}") for n in range(3)]
    sent[index] = cloudevent(**fields)
    reply = door.post(sent, media_type=BATCH)
    assert (reply.status, reply.json["accepted"]) == (207, 2)
    verdict = reply.json["events"][index]
    assert verdict["code"] == code
    assert verdict["pointer"].endswith(pointer)
    reply = door.post(sent, media_type=BATCH, query="mode=atomic")
    assert reply.status == 422
    assert reply.codes[index] == code


@pytest.mark.parametrize(("fields", "code", "pointer"), BAD)
def test_a_bad_binary_cloudevent_is_rejected(
    door: Door, fields: dict[str, Any], code: str, pointer: str
) -> None:
    event = cloudevent(**fields)
    if "specversion" not in event or event.get("id") == 7 or "data" not in event:
        return  # not a CloudEvent; every header is text; no body
    if event["specversion"] == 1.0:
        return
    reply = binary(door, event)
    assert (reply.status, reply.codes) == (422, [code])
    assert reply.json["events"][0]["pointer"].endswith(pointer)


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        ([], BATCH, 422, "empty_batch"),
        ({}, BATCH, 400, "wrong_shape"),
        ([{}], STRUCTURED, 400, "wrong_shape"),
        (7, STRUCTURED, 400, "wrong_shape"),
        ([{}] * 1001, BATCH, 413, "too_many_events"),
        (b"{", STRUCTURED, 400, "malformed_json"),
        (b'{"id": "a", "id": "a"}', STRUCTURED, 400, "duplicate_key"),
        (b"[" * 50 + b"]" * 50, BATCH, 400, "too_deep"),
        (b"\xff", BATCH, 400, "not_utf8"),
    ],
)
def test_a_bad_body_is_refused_whole(
    door: Door, body: Any, media_type: str, status: int, code: str
) -> None:
    reply = door.post(body, media_type=media_type)
    assert (reply.status, reply.json["code"]) == (status, code)


@pytest.mark.parametrize("media_type", ["application/x-ndjson", BATCH, STRUCTURED])
def test_binary_mode_is_one_event_in_json(door: Door, media_type: str) -> None:
    reply = binary(door, cloudevent(), CONTENT_TYPE=media_type)
    assert (reply.status, reply.json["code"]) == (415, "unsupported_media_type")


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["id", "data", "specversion", "type", "time"]), inner), max_leaves=6,
).map(lambda value: json.dumps(value).encode()), st.booleans())  # fmt: skip
def test_any_body_is_judged_or_refused(body: bytes, batch: bool) -> None:
    try:
        cloudevents.decode_structured(body, batch=batch, now=NOW)
    except Refusal:
        return
    try:
        cloudevents.decode_binary({"HTTP_CE_SPECVERSION": "1.0"}, body, now=NOW)
    except Refusal:
        return
