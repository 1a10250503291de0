"""The ingestion door, `POST /api/v1/events` and OTLP's `/v1/traces`: plain WSGI, without Django.

Checks come in the order of what they cost: method, size, who signs, type, bytes, JSON, each event.
What is acknowledged was committed before.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime
from http import HTTPStatus
from typing import Any

from accounts.problems import Problem
from metering.ingest import (
    answer,
    boxes,
    cloudevents,
    decode,
    doorbell,
    otlp,
    otlp_answer,
    request,
)
from metering.ingest.answer import Answer
from metering.ingest.callers import Callers, may_report
from metering.ingest.decode import Refusal, Sent
from metering.ingest.inflate import inflate
from metering.ingest.request import Form
from metering.ingest.take import take
from metering.usage.correction import Span

EVENTS_PATH = "/api/v1/events"
TRACES_PATH = "/v1/traces"  # where OpenTelemetry's exporters look
PATHS = frozenset({EVENTS_PATH, TRACES_PATH})
HEALTH_PATH = "/healthz"

# A server starts this module by itself; the settings it reads lazily need their name.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

logger = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]

_known = Callers()


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request; whatever happens, in JSON and with a request id."""
    request_id = f"req_{secrets.token_hex(16)}"
    try:
        reply = _route(environ, request_id)
    except Refusal as refusal:
        reply = _refused(refusal.problem, environ, request_id)
    except Exception:
        logger.exception("request %s failed", request_id)
        problem = Problem("internal_error", "The request failed; we logged why.")
        reply = _refused(problem, environ, request_id)
    headers = [
        *reply.headers,
        ("Content-Length", str(len(reply.body))),
        ("X-Request-Id", request_id),
    ]
    start_response(f"{reply.status.value} {reply.status.phrase}", headers)
    return [reply.body]


def _refused(problem: Problem, environ: Environ, request_id: str) -> Answer:
    headers = problem.headers()
    for name, header in (("allow", "Allow"), ("accept_encoding", "Accept-Encoding")):
        if value := problem.extra.get(name):
            headers.append((header, str(value)))
    if environ.get("PATH_INFO") == TRACES_PATH:
        return otlp_answer.refused(problem, headers, as_json=otlp.is_json(environ))
    body = problem.body(instance=str(environ.get("PATH_INFO", ""))[:200], request_id=request_id)
    return Answer(HTTPStatus(problem.status), body, headers)


def _route(environ: Environ, request_id: str) -> Answer:
    path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
    if path == HEALTH_PATH:
        _only(method, "GET", "HEAD")
        return Answer(HTTPStatus.OK, b"" if method == "HEAD" else b'{"status": "alive"}')
    if path == EVENTS_PATH:
        _only(method, "POST")
        return _events(environ, request_id)
    if path == TRACES_PATH:
        _only(method, "POST")
        return _traces(environ)
    raise Refusal(Problem("not_found", f"There is nothing here; send events to {EVENTS_PATH}."))


def _only(method: str, *allowed: str) -> None:
    if method not in allowed:
        listed = ", ".join(allowed)
        detail = f"This address takes {listed} only."
        raise Refusal(Problem("method_not_allowed", detail, {"allow": listed}))


def _events(environ: Environ, request_id: str) -> Answer:
    """One request with events, from its headers to its answer."""
    length = request.declared_length(environ)
    caller = may_report(_known.find(request.bearer(environ)))
    parameters = request.parameters(environ.get("QUERY_STRING", ""))
    form = request.form(environ)
    request.refuse_unmeasured(length, lines=form is Form.LINES, atomic=parameters.atomic)
    body = _body(environ, length)
    span = boxes.span_of(caller, parameters.backfill)
    sent = _sent(environ, form, body, now=caller.now(), backfill=span)
    taken = take(caller, sent, atomic=parameters.atomic, backfill_id=parameters.backfill)
    if taken.news:
        doorbell.ring()
    return answer.of(sent, taken, request_id=request_id, only_errors=parameters.only_errors)


def _body(environ: Environ, length: int | None) -> bytes:
    """The body as it was before it was compressed."""
    encoding = request.encoding(environ)
    body = request.body(environ, length)
    return inflate(body, encoding) if encoding else body


def _sent(
    environ: Environ, form: Form, body: bytes, *, now: datetime, backfill: Span | None
) -> Sent:
    match form:
        case Form.JSON | Form.LINES:
            lines = form is Form.LINES
            return decode.decode(body, lines=lines, now=now, backfill=backfill)
        case Form.BINARY:
            return cloudevents.decode_binary(environ, body, now=now, backfill=backfill)
    batch = form is Form.CLOUDEVENTS
    return cloudevents.decode_structured(body, batch=batch, now=now, backfill=backfill)


def _traces(environ: Environ) -> Answer:
    """One OTLP export: as many batches as its spans need, each committed by itself."""
    length = request.declared_length(environ)
    caller = may_report(_known.find(request.bearer(environ)))
    request.parameters(environ.get("QUERY_STRING", ""), allowed={})
    as_json = otlp.media_type_is_json(environ)
    export = otlp.decode(_body(environ, length), as_json=as_json, now=caller.now())
    taken = [take(caller, sent, atomic=False) for sent in export.batches()]
    if any(one.news for one in taken):
        doorbell.ring()
    return otlp_answer.of(export, taken, as_json=as_json)
