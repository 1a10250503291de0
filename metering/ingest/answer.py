"""What the ingestion door answers: what became of each event, by its place in the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from msgspec import UNSET, UnsetType

from metering.ingest.decode import Sent, id_of
from metering.ingest.flagging import Verdict
from metering.ingest.take import Taken
from metering.store import Outcome, Status
from metering.usage.event import Rejected
from metering.usage.flags import Flag

JSON_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A response on its way out."""

    status: HTTPStatus
    body: bytes
    headers: Sequence[tuple[str, str]] = JSON_HEADERS


class EventAnswer(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of one event."""

    index: int
    id: str | None
    status: str
    flags: Sequence[str] = ()
    code: str | None = None
    pointer: str | None = None
    detail: str | None = None
    retryable: bool | None = None


class BatchAnswer(msgspec.Struct):
    """What became of a request."""

    request_id: str
    batch_id: int | None
    submitted: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    events: list[EventAnswer]
    flags: dict[str, int] | UnsetType = UNSET


ACCEPTED = Status.ACCEPTED.value
_encode = msgspec.json.Encoder().encode


def of(sent: Sent, taken: Taken, *, request_id: str, only_errors: bool) -> Answer:
    """The answer to a request: 202 when all went well, 422 when nothing did, else 207."""
    counts = dict.fromkeys(("accepted", "duplicate", "conflict", "rejected"), 0)
    for verdict in taken.verdicts:
        counts[_status(verdict)] += 1
    bad = counts["conflict"] + counts["rejected"]
    events = [
        _event(sent, index, verdict)
        for index, verdict in enumerate(taken.verdicts if bad or not only_errors else ())
        if not only_errors or _status(verdict) in ("conflict", "rejected")
    ]
    body = BatchAnswer(
        request_id, taken.batch_id, len(sent.events), **counts, events=events,
        flags=_flags(taken.verdicts) or UNSET,
    )  # fmt: skip
    status = HTTPStatus.ACCEPTED
    if bad:
        nothing = bad == len(sent.events)
        status = HTTPStatus.UNPROCESSABLE_ENTITY if nothing else HTTPStatus.MULTI_STATUS
    return Answer(status, _encode(body))


def all_new(count: int, shown: Sequence[str], batch_id: int | None, *, request_id: str) -> Answer:
    """The answer where every event is accepted, with the ids of those that are to be shown."""
    events = [EventAnswer(index, event_id, ACCEPTED) for index, event_id in enumerate(shown)]
    return Answer(
        HTTPStatus.ACCEPTED,
        _encode(BatchAnswer(request_id, batch_id, count, count, 0, 0, 0, events)),
    )


def _status(verdict: Verdict) -> str:
    return "rejected" if isinstance(verdict, Rejected) else verdict.status


def _flags(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many events have each flag; without those that none has."""
    told = [flag for one in verdicts if isinstance(one, Outcome) for flag in one.flags]
    return {flag.value: told.count(flag) for flag in Flag if flag in told}


def _event(sent: Sent, index: int, verdict: Verdict) -> EventAnswer:
    event_id = id_of(sent.events[index])
    if isinstance(verdict, Rejected):
        return EventAnswer(index, event_id, "rejected", code=verdict.code, pointer=verdict.pointer,
                           detail=verdict.detail, retryable=verdict.retryable)  # fmt: skip
    if verdict.status is Status.CONFLICT:
        return EventAnswer(index, event_id, "conflict", code="event_conflict",
                           pointer=sent.pointer(index), detail=verdict.detail,
                           retryable=False)  # fmt: skip
    return EventAnswer(index, event_id, verdict.status, verdict.flags, detail=verdict.detail)
