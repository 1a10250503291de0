"""OTLP traces at the ingestion door: spans of model calls become events, in both encodings."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from accounts.models import Organization
from metering import readings
from metering.ingest import door as the_door
from metering.ingest import otlp
from metering.ingest.decode import Refusal
from tests.conftest import NOW
from tests.meter import Door, Reply, door, empty_meter, key, no_bell

__all__ = ["door", "empty_meter", "key", "no_bell"]

PROTOBUF = "application/x-protobuf"
CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.response.model": "gpt-5-2025-08-07",
    "gen_ai.usage.input_tokens": 180,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 50,
    "gen_ai.usage.reasoning.output_tokens": 30,
    "gen_ai.agent.name": "Research Agent",
    "gen_ai.agent.id": "asst_5j66",
    "gen_ai.conversation.id": "conv_5j66",
}


def now_ns() -> int:
    return int(timezone.now().timestamp()) * 10**9 + 123_456_789


def span(number: int = 1, *, end_ns: int | None = None, **attributes: Any) -> dict[str, Any]:
    """A span in OTLP/JSON; with dots in the names of attributes written as __."""
    named = {name.replace("__", "."): value for name, value in attributes.items()}
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat gpt-5",
        "kind": 3,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": str(now_ns() if end_ns is None else end_ns),
        "attributes": [{"key": key, "value": value_of(value)} for key, value in named.items()],
    }


def value_of(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [value_of(one) for one in value]}}
    return {"stringValue": value}


def chat(number: int = 1, *, end_ns: int | None = None, **changes: Any) -> dict[str, Any]:
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    merged = {name: value for name, value in {**CHAT, **changed}.items() if value is not None}
    return span(number, end_ns=end_ns, **merged)


def export(*spans: dict[str, Any], service: str = "chat-service") -> dict[str, Any]:
    about = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [{"spans": list(spans)}]}]}


def as_protobuf(request: dict[str, Any]) -> bytes:
    message = ExportTraceServiceRequest()
    for resource in request["resourceSpans"]:
        into = message.resource_spans.add()
        _fill(into.resource.attributes, resource["resource"]["attributes"])
        for one in resource["scopeSpans"][0]["spans"]:
            span = into.scope_spans.add().spans.add()
            span.trace_id = bytes.fromhex(one["traceId"])
            span.span_id = bytes.fromhex(one["spanId"])
            span.end_time_unix_nano = int(one["endTimeUnixNano"])
            _fill(span.attributes, one["attributes"])
    return message.SerializeToString()


def _fill(into: Any, attributes: list[dict[str, Any]]) -> None:
    for one in attributes:
        pair = into.add(key=one["key"])
        ((kind, value),) = one["value"].items()
        match kind:
            case "stringValue":
                pair.value.string_value = value
            case "intValue":
                pair.value.int_value = int(value)
            case "boolValue":
                pair.value.bool_value = value
            case "doubleValue":
                pair.value.double_value = value
            case "arrayValue":
                pair.value.array_value.values.add().string_value = "x"


class Exporter:
    """Sends exports in one of the two encodings."""

    def __init__(self, door: Door, encoding: str) -> None:
        self.door, self.as_json = door, encoding == "json"

    def send(self, request: dict[str, Any], **environ: Any) -> Reply:
        body = json.dumps(request).encode() if self.as_json else as_protobuf(request)
        return self.post(body, **environ)

    def post(self, body: bytes, **environ: Any) -> Reply:
        media_type = "application/json" if self.as_json else PROTOBUF
        reply = self.door.post(
            body, media_type=media_type, PATH_INFO=the_door.TRACES_PATH, **environ
        )
        assert reply.headers["Content-Type"] == media_type
        return reply

    def rejected(self, reply: Reply) -> tuple[int, str]:
        assert reply.status == 200
        if self.as_json:
            partial = reply.json.get("partialSuccess", {})
            return int(partial.get("rejectedSpans", 0)), partial.get("errorMessage", "")
        response = ExportTraceServiceResponse.FromString(reply.body)
        return response.partial_success.rejected_spans, response.partial_success.error_message


@pytest.fixture(params=["json", "protobuf"])
def exporter(request: pytest.FixtureRequest, door: Door) -> Exporter:
    return Exporter(door, request.param)


def test_the_span_of_a_model_call_is_an_event(exporter: Exporter, acme: Organization) -> None:
    end_ns = now_ns()
    reply = exporter.send(export(chat(7, end_ns=end_ns)))
    assert exporter.rejected(reply) == (0, "")
    (event,) = readings.find_events(acme.pk)
    assert (event.id, event.source) == (f"{7:032x}-{7:016x}", "chat-service")
    assert event.model == "gpt-5-2025-08-07"
    assert (event.agent, event.session) == ("asst_5j66", "conv_5j66")
    assert event.usage == {"input": 130, "cache_read": 50, "output": 70, "reasoning": 30}
    assert event.occurred_at.timestamp() == pytest.approx(end_ns / 1e9, abs=1e-5)
    assert event.occurred_at.microsecond == 123_456  # nanoseconds are cut, never rounded up


def test_an_export_sent_twice_in_either_encoding_counts_once(
    door: Door, acme: Organization
) -> None:
    request = export(chat(1), chat(2), chat(2))
    for encoding in ("json", "protobuf", "json"):
        exporter = Exporter(door, encoding)
        assert exporter.rejected(exporter.send(request)) == (0, "")
    assert len(readings.find_events(acme.pk)) == 2


def test_a_flag_is_a_warning_beside_no_rejected_span(exporter: Exporter) -> None:
    nothing = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0,
               "gen_ai.usage.cache_read.input_tokens": 0,
               "gen_ai.usage.reasoning.output_tokens": 0}  # fmt: skip
    request = export(chat(1), chat(2, **nothing))
    rejected, message = exporter.rejected(exporter.send(request))
    assert rejected == 0
    assert message.startswith(f"zero (1): span {2:032x}-{2:016x}: Every quantity is zero")
    assert exporter.rejected(exporter.send(request)) == (0, "")  # a repetition is no news


def test_other_spans_are_let_go_and_counted(exporter: Exporter, acme: Organization) -> None:
    reply = exporter.send(export(
        span(1), span(2, http__method="GET"), chat(3),
        chat(4, gen_ai__operation__name="invoke_agent"),  # repeats what its calls used
        span(5, gen_ai__operation__name="execute_tool", gen_ai__tool__name="search"),
    ))  # fmt: skip
    assert exporter.rejected(reply) == (0, "")
    assert reply.headers["X-Kilotoken-Ignored-Spans"] == "4"
    assert len(readings.find_events(acme.pk)) == 1


def test_an_export_without_usage_is_a_success(exporter: Exporter) -> None:
    reply = exporter.send(export(span(1)))
    assert exporter.rejected(reply) == (0, "")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"gen_ai__usage__cache_read__input_tokens": 181}, "inconsistent_tokens"),
        ({"gen_ai__usage__smell__input_tokens": 3}, "unknown_usage_class"),
        ({"gen_ai__usage__input_tokens": -1}, "negative_quantity"),
        ({"gen_ai__usage__input_tokens": 1.5}, "not_an_integer"),
        ({"gen_ai__usage__input_tokens": 12.0}, "not_an_integer"),
        ({"gen_ai__usage__input_tokens": "12"}, "not_an_integer"),
        ({"gen_ai__usage__input_tokens": True}, "wrong_type"),
        ({"gen_ai__usage__input_tokens": ["x"]}, "wrong_type"),
        ({"gen_ai__usage__input_tokens": 10**13}, "quantity_too_large"),
        ({"gen_ai__response__model": "a model"}, "invalid_character"),
        ({"gen_ai__response__model": None, "gen_ai__request__model": None}, "model_required"),
        ({"gen_ai__operation__name": "dream"}, "span_invalid"),
        ({"gen_ai__operation__name": ["chat"]}, "span_invalid"),
        ({"gen_ai__operation__name": 7}, "span_invalid"),
        ({"gen_ai__conversation__id": "a b"}, "invalid_character"),
        ({"kilotoken__project": "nowhere"}, "unknown_project"),
        ({"end_ns": 0}, "time_required"),
        ({"end_ns": 10**18}, "timestamp_too_old"),
        ({"end_ns": 2**63 - 1}, "time_invalid"),
    ],
)
def test_a_bad_span_is_rejected_alone_and_told(
    exporter: Exporter, acme: Organization, changes: dict[str, Any], code: str
) -> None:
    reply = exporter.send(export(chat(1), chat(2, **changes), chat(3)))
    count, message = exporter.rejected(reply)
    assert count == 1
    assert message.startswith(f"{code} (1): span {2:032x}-{2:016x}: ")
    assert len(readings.find_events(acme.pk)) == 2


@pytest.mark.parametrize(("trace", "span_id"), [("0" * 32, "1" * 16), ("1" * 32, "0" * 16),
                                               ("", ""), ("12", "1" * 16)])  # fmt: skip
def test_a_span_without_an_identity_is_rejected(
    exporter: Exporter, trace: str, span_id: str
) -> None:
    reply = exporter.send(export({**chat(1), "traceId": trace, "spanId": span_id}))
    assert exporter.rejected(reply)[1].startswith("span_invalid (1)")


def test_a_conflict_is_told(exporter: Exporter) -> None:
    end_ns = now_ns()
    exporter.send(export(chat(1, end_ns=end_ns)))
    reply = exporter.send(export(chat(1, end_ns=end_ns, gen_ai__usage__output_tokens=31)))
    count, message = exporter.rejected(reply)
    assert (count, message.split()[0]) == (1, "event_conflict")
    assert "usage.output 70, now 1" in message


def test_more_spans_than_a_batch_holds_are_all_stored(
    exporter: Exporter, acme: Organization
) -> None:
    reply = exporter.send(export(*(chat(number) for number in range(1, 1203))))
    assert exporter.rejected(reply) == (0, "")
    assert len(readings.find_events(acme.pk, limit=1000)) == 1000
    apply = readings.freshness(acme.pk)
    assert (apply.pending_batches, apply.pending_events) == (2, 1202)


def test_an_export_may_be_compressed(exporter: Exporter) -> None:
    request = export(chat(1))
    plain = json.dumps(request).encode() if exporter.as_json else as_protobuf(request)
    reply = exporter.post(gzip.compress(plain), HTTP_CONTENT_ENCODING="gzip")
    assert exporter.rejected(reply) == (0, "")


def test_what_was_said_is_passed_over(exporter: Exporter, acme: Organization) -> None:
    deep: Any = "a secret"
    for _ in range(10):
        deep = [deep]
    reply = exporter.send(export(chat(1, gen_ai__input__messages=deep)))
    assert exporter.rejected(reply) == (0, "")
    assert "secret" not in repr(readings.find_events(acme.pk))


class TestRefusals:
    """Whole exports are refused in OTLP's own words, as google.rpc.Status."""

    def test_without_a_key(self, exporter: Exporter) -> None:
        reply = exporter.send(export(chat(1)), HTTP_AUTHORIZATION="")
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")
        said = reply.json["message"].encode() if exporter.as_json else reply.body
        assert b"missing_credentials: " in said
        if not exporter.as_json:
            assert reply.body[:2] == b"\x08\x10"  # code 16, unauthenticated

    @pytest.mark.parametrize("body", [b"\xff\xff", b"{", b"[1]", b'{"resourceSpans": 7}'])
    def test_what_is_no_export(self, exporter: Exporter, body: bytes) -> None:
        assert exporter.post(body).status == 400

    def test_other_media_types_methods_and_parameters(self, door: Door) -> None:
        path = {"PATH_INFO": the_door.TRACES_PATH}
        assert door.post(b"x", media_type="text/plain", **path).status == 415
        assert door.post(b"x", media_type=PROTOBUF, REQUEST_METHOD="GET", **path).status == 405
        assert door.post(b"x", media_type=PROTOBUF, query="mode=atomic", **path).status == 400

    @pytest.mark.parametrize(
        "change",
        [
            {"traceId": 7}, {"traceId": "xyz"}, {"endTimeUnixNano": "soon"}, {"attributes": {}},
            {"endTimeUnixNano": True}, {"endTimeUnixNano": "9" * 30}, {"attributes": [7]},
        ],
    )  # fmt: skip
    def test_json_of_another_shape(self, door: Door, change: dict[str, Any]) -> None:
        exporter = Exporter(door, "json")
        reply = exporter.send(export({**chat(1), **change}))
        assert (reply.status, reply.json["code"]) == (400, 3)
        assert reply.json["message"].startswith("wrong_shape: ")


KEYS = st.sampled_from(["resourceSpans", "scopeSpans", "spans", "attributes", "key", "value",
                        "traceId", "spanId", "endTimeUnixNano", "intValue", "stringValue",
                        "resource"])  # fmt: skip
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["gen_ai.usage.input_tokens", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSONS)
def test_any_json_is_judged_or_refused(value: Any) -> None:
    outcome(json.dumps(value).encode(), as_json=True)
    nested = {"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]}
    outcome(json.dumps(nested).encode(), as_json=True)


@given(st.binary(max_size=80), st.integers(0, 400), st.integers(0, 255))
def test_any_protobuf_is_judged_or_refused(data: bytes, place: int, byte: int) -> None:
    outcome(data, as_json=False)
    whole = bytearray(as_protobuf(export(chat(1, end_ns=10**18))))
    whole[place % len(whole)] = byte
    outcome(bytes(whole), as_json=False)


def outcome(body: bytes, *, as_json: bool) -> None:
    try:
        otlp.decode(body, as_json=as_json, now=NOW)
    except Refusal as refusal:
        assert refusal.problem.status in (400, 413, 422)  # noqa: PT017
