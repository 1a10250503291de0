"""Send usage events over HTTP so that none is lost and none counts twice.

A batch keeps its events' ids through every retry: an answer that got lost costs a duplicate,
which the server recognises, and never a second charge.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx

from workloads.request import Request

EVENTS_PER_BATCH_MAX = 1_000
BODY_BYTES_MAX = 5 * 1024 * 1024
CONNECTIONS = 4
PATIENCE_S = 120  # longer than a restart of the server, shorter than a person's
PAUSE_S_FIRST = 0.1
PAUSE_S_MAX = 15
TIMEOUT = httpx.Timeout(60, connect=5)
RETRYABLE = frozenset({408, 429, 502, 503, 504})
_SEPARATORS = (",", ":")

Event = dict[str, Any]

logging.getLogger("httpx").setLevel(logging.WARNING)  # it says every request otherwise


class NotSent(Exception):
    """The server could not be reached, or refused the whole batch, for good."""


class NotAccepted(Exception):
    """The server answered event by event, and some are conflicts or rejections."""


@dataclass(slots=True)
class Tally:
    """What became of the events sent."""

    submitted: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0

    def add(self, other: Tally) -> None:
        for name in (entry.name for entry in fields(self)):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        return (
            f"{self.submitted:,} submitted: {self.accepted:,} accepted, "
            f"{self.duplicate:,} duplicates, {self.conflict:,} conflicts, "
            f"{self.rejected:,} rejected; {self.requests:,} requests, {self.retries:,} retries"
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one key, at most 1,000; `mark` comes back with the answer."""

    key: str
    events: Sequence[Event]
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to a batch, and to each event that it did not take."""

    mark: int
    tally: Tally
    errors: Sequence[Mapping[str, Any]] = field(default_factory=list)


def event(request: Request, *, source: str, start: datetime) -> Event:
    """The event as POST /api/v1/events wants it; docs/guides/send-usage.md describes it."""
    occurred_at = start.astimezone(UTC) + timedelta(microseconds=request.offset_us)
    return {
        "id": request.id,
        "source": source,
        "occurred_at": occurred_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "model": request.model,
        **request.labels,
        "usage": dict(request.quantities),
    }


class Sender:
    """Sends batches over a few kept connections, in order of asking, each until it is answered."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = CONNECTIONS,
        patience_s: int = PATIENCE_S,
        tolerant: bool = False,
        jitter: random.Random | None = None,
    ) -> None:
        self.url = url
        self.tally = Tally()
        self._connections = connections
        self._patience_s = patience_s
        self._tolerant = tolerant
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, protects nothing
        self._stopped = threading.Event()
        self._client = httpx.Client(
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=False,
        )
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="sender")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_why: object) -> None:
        self._stopped.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def send(self, batches: Iterable[Batch]) -> Iterator[Answer]:
        """Yield one answer per batch, in the order of the batches; read no further than needed.

        NotSent if a batch cannot be delivered; NotAccepted for conflicts and rejections, unless
        the sender is tolerant. What was answered until then stays counted in `tally`.
        """
        under_way: deque[Future[Answer]] = deque()
        for batch in batches:
            under_way.append(self._threads.submit(self.deliver, batch))
            # One batch waits ready behind each connection, so that none is ever idle.
            if len(under_way) >= 2 * self._connections:
                yield self._counted(under_way.popleft().result())
            while under_way and under_way[0].done():
                yield self._counted(under_way.popleft().result())
        while under_way:
            yield self._counted(under_way.popleft().result())

    def _counted(self, answer: Answer) -> Answer:
        self.tally.add(answer.tally)
        if answer.errors and not self._tolerant:
            raise NotAccepted(_first_error(answer))
        return answer

    def deliver(self, batch: Batch) -> Answer:
        """Post one batch until it is answered. The body never changes between attempts."""
        if len(batch.events) > EVENTS_PER_BATCH_MAX:
            raise ValueError(f"a batch holds at most {EVENTS_PER_BATCH_MAX} events")
        body = json.dumps(batch.events, separators=_SEPARATORS).encode()
        if len(body) > BODY_BYTES_MAX and len(batch.events) > 1:
            return self._deliver_halves(batch)
        deadline = time.monotonic() + self._patience_s
        retries = 0
        while True:
            said = self._post(batch.key, body)
            if isinstance(said, httpx.Response) and said.status_code not in RETRYABLE:
                return _answer(batch, said, retries)
            pause_s = self._pause_s(said, retries)
            if time.monotonic() + pause_s > deadline or self._stopped.wait(pause_s):
                raise NotSent(f"{self.url} {_told(said)}; gave up after {retries + 1} attempts")
            retries += 1

    def _deliver_halves(self, batch: Batch) -> Answer:
        middle = len(batch.events) // 2
        whole = Answer(batch.mark, Tally(), [])
        errors: list[Mapping[str, Any]] = []
        for events in (batch.events[:middle], batch.events[middle:]):
            half = self.deliver(Batch(batch.key, events, batch.mark))
            whole.tally.add(half.tally)
            errors += half.errors
        return Answer(batch.mark, whole.tally, errors)

    def _post(self, key: str, body: bytes) -> httpx.Response | httpx.TransportError:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            return self._client.post(
                self.url, params={"only": "errors"}, content=body, headers=headers
            )
        except httpx.TransportError as error:
            return error

    def _pause_s(self, said: httpx.Response | httpx.TransportError, retries: int) -> float:
        """Full jitter: many senders that failed together must not come back together."""
        asked = said.headers.get("Retry-After", "") if isinstance(said, httpx.Response) else ""
        least_s = min(int(asked), PAUSE_S_MAX) if asked.isdigit() else 0
        most_s = min(PAUSE_S_FIRST * 2 ** min(retries, 10), PAUSE_S_MAX)
        return least_s + self._jitter.uniform(0, most_s)


def _answer(batch: Batch, response: httpx.Response, retries: int) -> Answer:
    try:
        said = response.json()
    except ValueError:
        said = {}
    if response.status_code not in (202, 207, 422) or "submitted" not in said:
        raise NotSent(_refusal(response, said))
    tally = Tally(
        said["submitted"],
        said["accepted"],
        said["duplicate"],
        said["conflict"],
        said["rejected"],
        requests=1 + retries,
        retries=retries,
    )
    if tally.submitted != len(batch.events):
        raise NotSent(f"{len(batch.events)} events were sent and {tally.submitted} answered for")
    errors = [entry for entry in said["events"] if entry["status"] in ("conflict", "rejected")]
    return Answer(batch.mark, tally, errors)


def _refusal(response: httpx.Response, said: Mapping[str, Any]) -> str:
    detail = said.get("detail") or said.get("title") or response.text[:200]
    return f"{response.request.url} answered {response.status_code}: {detail}"


def _told(said: httpx.Response | httpx.TransportError) -> str:
    if isinstance(said, httpx.Response):
        return f"answers {said.status_code}"
    return f"cannot be reached ({said or type(said).__name__})"


def _first_error(answer: Answer) -> str:
    first = answer.errors[0]
    return (
        f"{len(answer.errors):,} of {answer.tally.submitted:,} events were not accepted; the first "
        f"is {first.get('id')!r}, {first['status']} ({first.get('code')}): {first.get('detail')}"
    )
