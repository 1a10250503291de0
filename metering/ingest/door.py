"""The ingestion door, `POST /api/v1/events` and OTLP's `/v1/traces`, whichever server runs it.

A request passes in steps, so that no body is read for nothing and no thread waits for one: `admit`
looks at its head, the server's side reads the body, `understand` decodes it, `answer` stores it and
says what became of each event. Checks come in the order of what they cost: method, size, who signs,
how much, type, bytes, JSON, each event. What is acknowledged was committed before.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from django.conf import settings

from accounts.problems import Problem
from metering.ingest import answer as answers
from metering.ingest import (
    boxes,
    cloudevents,
    decode,
    doorbell,
    otlp,
    otlp_answer,
    quarantine,
    request,
)
from metering.ingest.answer import Answer
from metering.ingest.callers import Caller, Callers, may_report
from metering.ingest.decode import Refusal, Sent
from metering.ingest.inflate import STEPS, inflate
from metering.ingest.limits import Allowance, Allowances
from metering.ingest.otlp import Export
from metering.ingest.pool import connected
from metering.ingest.request import Form, Intake, Parameters, Request
from metering.ingest.take import Taken, take
from metering.usage.event import Rejected

EVENTS_PATH = "/api/v1/events"
TRACES_PATH = "/v1/traces"  # where OpenTelemetry's exporters look
PATHS = frozenset({EVENTS_PATH, TRACES_PATH})
HEALTH_PATH = "/healthz"
ACCEPT_ENCODING = ("Accept-Encoding", ", ".join(STEPS))  # RFC 7694: how a body may be packed

logger = logging.getLogger(__name__)

callers = Callers()
allowances = Allowances()

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Events:
    """What the head says of a body of events."""

    form: Form
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Traces:
    """What the head says of an OpenTelemetry export."""

    as_json: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose body may be read: who sends, how much, and what it is made of."""

    request: Request
    caller: Caller
    allowance: Allowance
    length: int | None
    encoding: str | None
    kind: Events | Traces

    def add(self, intake: Intake, chunk: bytes) -> None:
        """One more piece of the body. What was not declared is counted when it comes."""
        intake.add(chunk)
        if self.length is None:
            self.allowance.take("bytes", len(chunk), time.monotonic_ns(), is_piece=True)

    def count(self, events: int) -> None:
        """Count what was sent against the key's limit."""
        self.allowance.take("events", events, time.monotonic_ns())


def new_request_id() -> str:
    """A name for one request, in its answer and in our log. It is no secret: asking the system
    for each would let go of the interpreter, and cost a tenth of a millisecond under load.
    """
    return f"req_{random.getrandbits(128):032x}"


def knows(asked: Request) -> bool:
    """Whether `admit` will ask nobody but memory."""
    if asked.path not in PATHS:
        return True
    _, _, text = (asked.headers.get("authorization") or "").partition(" ")
    return callers.remembers(text.strip())


def admit(asked: Request, *, renew: bool = False) -> Admitted | Answer:
    """All that a request's head can tell; the answer already where it has no body to read.

    With `renew` whom `knows` does not know is looked up, and known from then on.
    """
    if asked.path in PATHS:
        _only(asked.method, "POST")
        return _admit(asked, renew=renew)
    if asked.path == HEALTH_PATH:
        _only(asked.method, "GET", "HEAD")
        return Answer(HTTPStatus.OK, b"" if asked.method == "HEAD" else b'{"status": "alive"}')
    raise Refusal(Problem("not_found", f"There is nothing here; send events to {EVENTS_PATH}."))


def _only(method: str, *allowed: str) -> None:
    if method not in allowed:
        listed = ", ".join(allowed)
        detail = f"This address takes {listed} only."
        raise Refusal(Problem("method_not_allowed", detail), [("Allow", listed)])


def _admit(asked: Request, *, renew: bool) -> Admitted:
    length = request.declared_length(asked)
    caller = may_report(callers.find(request.bearer(asked), renew=renew))
    now_ns = time.monotonic_ns()
    allowance = allowances.of(
        caller.api_key_id, caller.allowed, processes=settings.INGEST_PROCESSES, now_ns=now_ns
    )
    if length:
        allowance.take("bytes", length, now_ns)
    try:
        kind = _traces(asked) if asked.path == TRACES_PATH else _events(asked, length)
        encoding = request.encoding(asked)
    except Refusal as refusal:
        raise _or_suspended(refusal, caller) from None
    return Admitted(asked, caller, allowance, length, encoding, kind)


def _events(asked: Request, length: int | None) -> Events:
    parameters = request.parameters(asked.query)
    form = request.form(asked)
    request.refuse_unmeasured(length, lines=form is Form.LINES, atomic=parameters.atomic)
    return Events(form, parameters)


def _traces(asked: Request) -> Traces:
    request.parameters(asked.query, allowed={})
    return Traces(otlp.media_type_is_json(asked))


def understand(admitted: Admitted, body: bytes) -> Sent | Export:
    """The events in a body, unpacked, decoded and counted against the key's limit."""
    try:
        plain = inflate(body, admitted.encoding) if admitted.encoding else body
        sent = _decoded(admitted, plain)
    except Refusal as refusal:
        raise _or_suspended(refusal, admitted.caller) from None
    admitted.count(len(sent.events))
    return sent


def _decoded(admitted: Admitted, body: bytes) -> Sent | Export:
    kind, now = admitted.kind, admitted.caller.now()
    if isinstance(kind, Traces):
        return otlp.decode(body, as_json=kind.as_json, now=now)
    span = boxes.span_of(admitted.caller, kind.parameters.backfill)
    match kind.form:
        case Form.JSON | Form.LINES:
            lines = kind.form is Form.LINES
            return decode.decode(body, lines=lines, now=now, backfill=span)
        case Form.BINARY:
            headers = admitted.request.headers
            return cloudevents.decode_binary(headers, body, now=now, backfill=span)
    batch = kind.form is Form.CLOUDEVENTS
    return cloudevents.decode_structured(body, batch=batch, now=now, backfill=span)


def may_share(admitted: Admitted) -> bool:
    """Whether a request's events may be stored together with others'."""
    kind = admitted.kind
    if not (isinstance(kind, Events) and admitted.caller.active and admitted.encoding is None):
        return False
    asked = kind.parameters
    return kind.form is Form.JSON and not asked.atomic and asked.backfill is None


def answer(admitted: Admitted, sent: Sent | Export, *, request_id: str) -> Answer:
    """Store what was sent; the answer to it. An export is stored batch by batch."""
    if not admitted.caller.active:
        raise _kept(admitted, sent)
    kind = admitted.kind
    if isinstance(sent, Export):
        taken = [take(admitted.caller, one, atomic=False) for one in sent.batches()]
    else:
        assert isinstance(kind, Events)
        asked = kind.parameters
        taken = [take(admitted.caller, sent, atomic=asked.atomic, backfill_id=asked.backfill)]
    return told(admitted, sent, taken, request_id=request_id)


def told(
    admitted: Admitted, sent: Sent | Export, taken: Sequence[Taken], *, request_id: str
) -> Answer:
    """Ring for what is new, and say what became of everything."""
    if any(one.news for one in taken):
        doorbell.ring()
    kind = admitted.kind
    if isinstance(sent, Export):
        assert isinstance(kind, Traces)
        return otlp_answer.of(sent, taken, as_json=kind.as_json)
    assert isinstance(kind, Events)
    only_errors = kind.parameters.only_errors
    return answers.of(sent, taken[0], request_id=request_id, only_errors=only_errors)


def told_new(admitted: Admitted, ids: Sequence[str], taken: Taken, *, request_id: str) -> Answer:
    """Say that every event is new."""
    kind = admitted.kind
    assert isinstance(kind, Events)
    shown = () if kind.parameters.only_errors else ids
    return answers.all_new(len(ids), shown, taken.batch_id, request_id=request_id)


def failed(error: Exception, asked: Request, *, request_id: str) -> Answer:
    """The answer to a request that was refused, or that failed in a way nobody foresaw."""
    if isinstance(error, Refusal):
        return _refused(error.problem, error.headers, asked, request_id)
    logger.error("request %s failed", request_id, exc_info=error)
    problem = Problem("internal_error", "The request failed; we logged why.")
    return _refused(problem, (), asked, request_id)


def _refused(problem: Problem, more: Headers, asked: Request, request_id: str) -> Answer:
    headers = [*problem.headers(), *more]
    if asked.path == TRACES_PATH:
        return otlp_answer.refused(problem, headers, as_json=otlp.is_json(asked))
    body = problem.body(instance=asked.path[:200], request_id=request_id)
    return Answer(HTTPStatus(problem.status), body, headers)


def headers_of(
    reply: Answer, admitted: Admitted | Answer | None, *, request_id: str
) -> list[tuple[str, str]]:
    """All headers of an answer; who was admitted is told what may still be sent, and how."""
    headers = [*reply.headers, ("X-Request-Id", request_id)]
    if isinstance(admitted, Admitted):
        headers.append(ACCEPT_ENCODING)
        if reply.status != HTTPStatus.TOO_MANY_REQUESTS:
            headers += admitted.allowance.headers()
    return headers


def _or_suspended(refusal: Refusal, caller: Caller) -> Refusal:
    """Who is suspended is told so, whatever else is wrong with what was sent."""
    return refusal if caller.active else _suspended("Nothing in this request could be kept.")


def _suspended(more: str) -> Refusal:
    return Refusal(Problem("organization_suspended", f"The organization is suspended. {more}"))


def _kept(admitted: Admitted, sent: Sent | Export) -> Refusal:
    """Keep all of it among the rejections, to be replayed when the suspension ends."""
    caller, kind = admitted.caller, admitted.kind
    backfill_id = kind.parameters.backfill if isinstance(kind, Events) else None
    for one in [sent] if isinstance(sent, Sent) else sent.batches():
        verdicts = [
            event if isinstance(event, Rejected) else _while_suspended(one.pointer(index))
            for index, event in enumerate(one.events)
        ]
        with connected() as connection:
            quarantine.keep(
                connection, caller.organization_id, caller.api_key_id,
                quarantine.faults(one, verdicts), form=one.form, batch_id=None,
                backfill_id=backfill_id,
            )  # fmt: skip
    return _suspended(
        f"Of this request {len(sent.events)} events were kept among the rejections, uncounted; "
        "they can be replayed there once the organization is active again."
    )


def _while_suspended(pointer: str) -> Rejected:
    return Rejected(
        "organization_suspended",
        pointer,
        "The organization was suspended when this event came. Replay it once it is active again.",
        retryable=True,
    )
