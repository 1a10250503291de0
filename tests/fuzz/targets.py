"""What is fuzzed: each decoder with the only ways in which it may refuse, and what must hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from accounts.keys import holds_secret
from billing.rating.tariff import TariffInvalid
from billing.rating.tariff import parse as parse_tariff
from metering.ingest import cloudevents, decode, otlp, request
from metering.ingest.decode import Refusal, Sent
from metering.ingest.inflate import inflate
from metering.ingest.request import Request
from metering.usage import event as usage_event
from metering.usage.dialects import DIALECTS
from metering.usage.event import Rejected
from tests.fuzz import seeds

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """One decoder: what it is given, and what it is given at first."""

    name: str
    check: Callable[[bytes], None]
    seeds: Sequence[bytes]


def _sound(sent: Sent) -> None:
    """Every event is whole, or rejected with a code, a sentence and a pointer that show no key."""
    assert sent.events
    for event in sent.events:
        if isinstance(event, Rejected):
            assert event.detail.endswith((".", "?"))
            assert not holds_secret(event.detail + event.pointer)
    raws = sent.raws()
    assert len(raws) == len(sent.events)


def _native(body: bytes, *, lines: bool) -> None:
    try:
        sent = decode.decode(body, lines=lines, now=NOW)
    except Refusal:
        return
    _sound(sent)
    text = body.decode()
    careful = decode._careful_lines(text, NOW) if lines else decode._careful(text, NOW)
    told = [(one.code, one.pointer) if isinstance(one, Rejected) else one for one in sent.events]
    assert told == [(one.code, one.pointer) if isinstance(one, Rejected) else one
                    for one in careful]  # fmt: skip


def _cloudevents(body: bytes, *, batch: bool) -> None:
    with suppress(Refusal):
        _sound(cloudevents.decode_structured(body, batch=batch, now=NOW))


def _binary(body: bytes) -> None:
    head, _, data = body.partition(b"\n\n")
    headers = {"ce-specversion": "1.0", "ce-type": cloudevents.TYPE}
    for line in head.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers[f"ce-{name.lower()[:40]}"] = value.strip()
    with suppress(Refusal):
        _sound(cloudevents.decode_binary(headers, data, now=NOW))


def _otlp(body: bytes, *, as_json: bool) -> None:
    with suppress(Refusal):
        export = otlp.decode(body, as_json=as_json, now=NOW)
        for sent in export.batches():
            _sound(sent)


def _inflate(body: bytes, encoding: str) -> None:
    with suppress(Refusal):
        assert len(inflate(body, encoding)) <= decode.BODY_BYTES_MAX


def _time(body: bytes) -> None:
    text = body.decode("latin-1")
    fields = {"id": "a", "source": "s", "model": "m", "usage": {"input": 1}, "occurred_at": text}
    with suppress(Rejected):
        found = usage_event.read(fields, now=NOW).occurred_at
        assert found.utcoffset() == timedelta(0)
        assert abs(found - NOW) <= usage_event.AGE_MAX


def _header(body: bytes) -> None:
    with suppress(Refusal):
        headers = {"authorization": body.decode("latin-1")}
        assert request.bearer(Request("POST", "/api/v1/events", "", headers))


def _query(body: bytes) -> None:
    with suppress(Refusal):
        request.parameters(body.decode("latin-1"))


def _dialect(body: bytes, name: str) -> None:
    """Any JSON object as a provider's usage: registers that are whole numbers, or a refusal."""
    try:
        usage = decode.parse(decode.text_of(body))
    except Refusal:
        return
    fields = {"id": "a", "source": "s", "model": "m", "occurred_at": "2026-11-18T10:07:30Z"}
    with suppress(Rejected):
        found = usage_event.read({**fields, "usage_format": name, "usage": usage}, now=NOW).usage
        assert all(type(one) is int and one >= 0 for one in found.values())


def _tariff(body: bytes) -> None:
    """What `manage.py rate` reads: a document, or the sentence why it is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    with suppress(TariffInvalid):
        parse_tariff(document)


def _usages(name: str) -> list[bytes]:
    """A provider's usage with a number in every row, nested as it nests."""
    usage: dict[str, object] = {}
    for row in DIALECTS[name].rows:
        *path, last = row.path.split(".")
        place = usage
        for part in path:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                break
            place = inner
        else:
            place.setdefault(last, 7)
    small = dict.fromkeys(DIALECTS[name].required, 5)
    return [json.dumps(usage).encode(), json.dumps(small).encode()]


def _protobuf() -> bytes:
    """The spans of the JSON seed as protobuf, whose ids are bytes and not hexadecimal text."""
    message: Mapping[str, object] = json.loads(seeds.OTLP)
    found = ParseDict(message, ExportTraceServiceRequest())
    span = found.resource_spans[0].scope_spans[0].spans[0]
    span.trace_id, span.span_id = bytes(range(1, 17)), bytes(range(1, 9))
    return found.SerializeToString()


PROTOBUF = _protobuf()
_BINARY = (
    b"id: evt-1\nsource: gw\ntime: 2026-11-18T10:07:30Z\n\n" + b'{"model":"m","usage":{"input":1}}'
)
_FLAT = {"code": "all", "models": ["*"], "registers": ["input"], "shape": "flat",
         "per": 1_000_000, "price": "1.00"}  # fmt: skip
_TARIFF = {"currency": "USD", "components": [_FLAT]}

TARGETS: tuple[Target, ...] = (
    Target("native", lambda body: _native(body, lines=False),
           [*seeds.BODIES["array"], *seeds.BODIES["object"]]),
    Target("lines", lambda body: _native(body, lines=True), seeds.BODIES["lines"]),
    Target("cloudevents", lambda body: _cloudevents(body, batch=True), seeds.BODIES["cloudevents"]),
    Target("cloudevent", lambda body: _cloudevents(body, batch=False), seeds.BODIES["cloudevent"]),
    Target("binary", _binary, [_BINARY]),
    Target("otlp-json", lambda body: _otlp(body, as_json=True), [seeds.OTLP]),
    Target("otlp-protobuf", lambda body: _otlp(body, as_json=False), [PROTOBUF]),
    Target("gzip", lambda body: _inflate(body, "gzip"), seeds.PACKED["gzip"]),
    Target("zstd", lambda body: _inflate(body, "zstd"), seeds.PACKED["zstd"]),
    Target("time", _time, seeds.TIMES),
    Target("authorization", _header, seeds.HEADERS),
    Target("query", _query, seeds.QUERIES),
    Target("tariff", _tariff, [json.dumps(_TARIFF).encode()]),
    *(Target(f"dialect-{name}", lambda body, name=name: _dialect(body, name), _usages(name))
      for name in DIALECTS),
)  # fmt: skip
