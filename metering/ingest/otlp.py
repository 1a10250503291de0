"""OTLP/HTTP traces: spans of model calls become events, every other span is counted and let go.

Only spans that say `gen_ai.usage.*` and are themselves a call to a model are usage. A span of an
agent or a workflow repeats what its calls used, and would double it. Nothing of a span is kept but
what an event holds: prompts and answers in attributes are never looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from accounts.problems import Problem
from metering.ingest import decode as door
from metering.ingest import otlp_json
from metering.ingest.decode import EVENTS_MAX, Refusal, Sent
from metering.ingest.otlp_json import Span
from metering.ingest.request import JSON, Request, media_type_of
from metering.usage.correction import Reported
from metering.usage.event import PATTERNS, OddNumber, Rejected

PROTOBUF = "application/x-protobuf"
USAGE = "gen_ai.usage."
OPERATION = "gen_ai.operation.name"
CALLS = frozenset({"chat", "text_completion", "generate_content", "embeddings"})
REPEATS = frozenset({"invoke_agent", "create_agent", "execute_tool", "invoke_workflow", "plan"})
# The first of these that fits names the agent or the session of an event.
LABELS = {
    "agent": ("gen_ai.agent.name", "gen_ai.agent.id"),
    "session": ("gen_ai.conversation.id", "session.id"),
}
OURS = ("project", "api_key", "region", "service_class")  # attributes `kilotoken.project`, ...
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Export:
    """What an exporter sent: events and rejections in their order, and how many spans are none."""

    events: list[Reported | Rejected] = field(default_factory=list)
    natives: list[object] = field(default_factory=list)  # what each was read from
    ignored: int = 0

    def batches(self) -> Iterator[Sent]:
        """As many events at a time as one batch holds; an exporter cannot split its spans."""
        for start in range(0, len(self.events), EVENTS_MAX):
            natives = self.natives[start : start + EVENTS_MAX]
            events = self.events[start : start + EVENTS_MAX]
            yield Sent(events, single=False, raws=partial(_raws, natives))


def _raws(natives: Sequence[object]) -> list[str]:
    return [json.dumps(native) for native in natives]


def is_json(request: Request) -> bool:
    """Whether the exporter speaks JSON; for answers to what it may have said wrongly."""
    return request.headers.get("content-type", "").lower().startswith(JSON)


def media_type_is_json(request: Request) -> bool:
    """The same, or a refusal where it speaks neither."""
    media_type = media_type_of(request)
    if media_type not in (JSON, PROTOBUF):
        detail = f"Content-Type is {media_type[:60]!a}; it can be {PROTOBUF} or {JSON}."
        raise Refusal(Problem("unsupported_media_type", detail))
    return media_type == JSON


def decode(body: bytes, *, as_json: bool, now: datetime) -> Export:
    """The events in an export; or a Refusal of the whole body."""
    export = Export()
    for span in otlp_json.spans(body) if as_json else _spans(body):
        usage = {
            name.removeprefix(USAGE): value
            for name, value in span.attributes.items()
            if name.startswith(USAGE)
        }
        if not usage or _operation(span) in REPEATS:
            export.ignored += 1
        else:
            export.natives.append(_native(span, usage))
            export.events.append(_judged(span, export.natives[-1], now))
    return export


def _spans(body: bytes) -> Iterator[Span]:
    """The spans of a protobuf message."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError:
        detail = "The body is not an OTLP ExportTraceServiceRequest in protobuf."
        raise Refusal(Problem("malformed_protobuf", detail)) from None
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes).get("service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.end_time_unix_nano,
                    service,
                    _attributes(span.attributes),
                )


def _attributes(pairs: Iterable[Any]) -> dict[str, object]:
    """Those we know what to do with, as JSON would have them."""
    found: dict[str, object] = {}
    for pair in pairs:
        if otlp_json.is_wanted(pair.key):
            kind = pair.value.WhichOneof("value")
            value = getattr(pair.value, kind) if kind else None
            if kind == "double_value":
                value = OddNumber(value)
            elif kind not in ("string_value", "int_value", "bool_value"):
                value = None if kind is None else []
            found[pair.key] = value
    return found


def _judged(span: Span, native: object, now: datetime) -> Reported | Rejected:
    """The event of one span, or why it is none."""
    try:
        _is_a_call(span)
    except Rejected as rejected:
        rejected.event_id = _id_of(span)
        return rejected
    return door.judged(native, now, "", "")


def _id_of(span: Span) -> str:
    return f"{span.trace_id[:64]}-{span.span_id[:32]}"


def _operation(span: Span) -> str | None:
    """What the span says it did, as text, whatever kind of value that is said in."""
    operation = span.attributes.get(OPERATION)
    return None if operation is None else str(operation)


def _is_a_call(span: Span) -> None:
    """Refuse what may repeat the usage of others, and what has no identity."""
    operation = _operation(span)
    if operation is not None and operation not in CALLS:
        raise Rejected(
            "span_invalid",
            f"/{OPERATION}",
            f"{OPERATION} {operation[:40]!a} with usage is none we know, so it may repeat "
            f"what other spans report; known are {', '.join(sorted(CALLS))}.",
        )
    if not (_is_id(span.trace_id, 32) and _is_id(span.span_id, 16)):
        raise Rejected(
            "span_invalid",
            "/trace_id",
            "A span needs a trace_id of 16 bytes and a span_id of 8, neither of them zero: they "
            "are the identity of its event.",
        )


def _native(span: Span, usage: Mapping[str, object]) -> dict[str, object]:
    """The native event that a span comes to."""
    attributes = span.attributes
    body: dict[str, object] = {
        "id": _id_of(span),
        "source": "otlp" if span.service is None else span.service,
        "model": attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model"),
        "usage_format": "opentelemetry",
        "usage": dict(usage),
    }
    if span.end_ns:
        body["occurred_at"] = _moment(span.end_ns)
    for name, places in LABELS.items():
        told = [attributes[place] for place in places if attributes.get(place) is not None]
        body[name] = next((one for one in told if _fits(name, one)), told[0] if told else None)
    for name in OURS:
        body[name] = attributes.get(f"kilotoken.{name}")
    return body


def _is_id(text: str, digits: int) -> bool:
    return len(text) == digits and text.strip("0") != ""


def _fits(name: str, value: object) -> bool:
    return isinstance(value, str) and PATTERNS[name].fullmatch(value) is not None


def _moment(nanoseconds: int) -> str:
    return (EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat()
