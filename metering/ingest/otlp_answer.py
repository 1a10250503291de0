"""What an OTLP exporter is told: in its own messages, protobuf or JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from accounts.problems import Problem
from metering.ingest.answer import Answer
from metering.ingest.decode import id_of
from metering.ingest.flagging import Verdict
from metering.ingest.otlp import PROTOBUF, Export
from metering.ingest.request import JSON
from metering.ingest.take import Taken
from metering.store import Outcome, Status
from metering.usage.event import Rejected

SHOWN_MAX = 3  # kinds of rejection that the message tells of
MESSAGE_MAX = 1_000
IGNORED = "X-Kilotoken-Ignored-Spans"
# google.rpc.Code, which OTLP's failures carry
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 3, 415: 3, 422: 3, 429: 8, 503: 14}
INTERNAL = 13


def of(export: Export, taken: Sequence[Taken], *, as_json: bool) -> Answer:
    """200: all was stored, or what was not is counted and the first of each kind told.

    A flag of a span that was stored is a warning: a message beside a count of zero, as OTLP has it.
    """
    faults = list(_faults(export, taken))
    told = [*faults, *_warnings(export, taken)]
    headers = _headers(as_json=as_json)
    headers.append((IGNORED, str(export.ignored)))
    if as_json:
        said = {"rejectedSpans": str(len(faults)), "errorMessage": _message(told)}
        body = json.dumps({"partialSuccess": said} if told else {}).encode()
        return Answer(HTTPStatus.OK, body, headers)
    response = ExportTraceServiceResponse()
    if told:
        response.partial_success.rejected_spans = len(faults)
        response.partial_success.error_message = _message(told)
    return Answer(HTTPStatus.OK, response.SerializeToString(), headers)


def refused(problem: Problem, headers: Iterable[tuple[str, str]], *, as_json: bool) -> Answer:
    """A failure as google.rpc.Status; 429 and 503 are the ones an exporter sends again."""
    code = CODES.get(problem.status, INTERNAL)
    message = f"{problem.code}: {problem.detail}"
    if as_json:
        body = json.dumps({"code": code, "message": message}).encode()
    else:
        text = message.encode()
        body = b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text
    kept = [(name, value) for name, value in headers if name != "Content-Type"]
    typed = ("Content-Type", JSON if as_json else PROTOBUF)
    return Answer(HTTPStatus(problem.status), body, [typed, *kept])


def _headers(*, as_json: bool) -> list[tuple[str, str]]:
    return [("Content-Type", JSON if as_json else PROTOBUF), ("Cache-Control", "no-store")]


def _faults(export: Export, taken: Sequence[Taken]) -> Iterable[tuple[str, str]]:
    """Code and sentence of every span that was not stored."""
    for event_id, verdict in _told(export, taken):
        if isinstance(verdict, Rejected):
            yield verdict.code, f"span {event_id}: {verdict.detail}"
        elif verdict.status is Status.CONFLICT:
            yield "event_conflict", f"span {event_id}: {verdict.detail}"


def _warnings(export: Export, taken: Sequence[Taken]) -> Iterable[tuple[str, str]]:
    """Flag and sentence of every span that is new and has one."""
    for event_id, verdict in _told(export, taken):
        if isinstance(verdict, Outcome) and verdict.status is Status.ACCEPTED:
            for flag in verdict.flags:
                yield flag.value, f"span {event_id}: {verdict.detail}"


def _told(export: Export, taken: Sequence[Taken]) -> Iterable[tuple[str | None, Verdict]]:
    """Each span's id and what became of it."""
    verdicts = (verdict for one in taken for verdict in one.verdicts)
    for event, verdict in zip(export.events, verdicts, strict=True):
        yield id_of(event), verdict


def _message(faults: Sequence[tuple[str, str]]) -> str:
    """How many of each kind, with one of each."""
    first = dict(reversed(faults))
    kinds = Counter(code for code, _ in faults).most_common()
    told = [f"{code} ({count}): {first[code]}" for code, count in kinds[:SHOWN_MAX]]
    more = f"; {len(kinds) - SHOWN_MAX} more kinds" if len(kinds) > SHOWN_MAX else ""
    return ("; ".join(told) + more)[:MESSAGE_MAX]


def _varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
