"""The ingestion door: `POST /api/v1/events` as a plain WSGI application, without Django's requests.

Checks come in the order of what they cost: method, size, who signs, type, bytes, JSON, each event.
What is acknowledged was committed before.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from accounts.problems import Problem
from metering.ingest import answer, decode, doorbell, request
from metering.ingest.answer import Answer
from metering.ingest.callers import Callers, may_report
from metering.ingest.decode import Refusal
from metering.ingest.inflate import inflate
from metering.ingest.take import take

EVENTS_PATH = "/api/v1/events"
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
    lines = request.is_lines(environ)
    encoding = request.encoding(environ)
    body = request.body(environ, length)
    if encoding:
        body = inflate(body, encoding)
    sent = decode.decode(body, lines=lines, now=caller.now())
    taken = take(caller, sent, atomic=parameters.atomic)
    if taken.news:
        doorbell.ring()
    return answer.of(sent, taken, request_id=request_id, only_errors=parameters.only_errors)
