"""The ingestion door over RSGI, granian's own interface: for the process made for ingestion.

One event loop waits for every body, so a sender that is slow or silent holds its own connection and
nothing else. What takes more than a moment, and whatever waits for the database, is done by a few
threads, which serve the organizations in turn.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from accounts.problems import Problem
from metering.ingest import door, pool, request, units
from metering.ingest.answer import Answer
from metering.ingest.deadlines import Deadlines
from metering.ingest.decode import Refusal, Sent
from metering.ingest.door import Admitted
from metering.ingest.gather import Gatherer
from metering.ingest.request import BODY_BYTES_PER_S, BODY_WAIT_S, Intake, Request
from metering.ingest.turns import Turns
from metering.ingest.units import Unit

THREADS = 4  # that decode and store
LOOKUP_THREADS = 2  # that look up who signs; apart, so that nobody is refused late
WAITING_MAX = 256  # requests that wait for a thread; beyond, senders are told to come back
EACH_MAX = 64  # of one organization
LOOKUPS_MAX = 4_096  # keys that wait to be looked up, whose organization nobody knows yet
WHOLE_BYTES_MAX = 1 << 14  # a body that is read in one piece
BODIES_BYTES_MAX = 256 << 20  # of all larger ones that are read, wait or are being stored
GARBAGE_MAX = 50_000  # objects between two looks; Python's own is 700
SWITCH_S = (
    0.0005  # the loop waits no longer for a thread that computes; Python's own is ten times it
)

# A server starts this module by itself; the settings it reads lazily need their name.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

T = TypeVar("T")


class Scope(Protocol):
    """The head of a request, as granian hands it over."""

    method: str
    path: str
    query_string: str
    headers: Any


class Exchange(Protocol):
    """The body of a request, and the way back."""

    def __call__(self) -> Awaitable[bytes]:
        """The whole body; an error where it was cut short."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body piece by piece."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer."""


class Threads:
    """A few threads, for which organizations queue in turn. Used from one event loop alone."""

    def __init__(
        self, count: int, name: str, *, waiting_max: int = WAITING_MAX, each_max: int = EACH_MAX
    ) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._free = count
        self._waiting: Turns[asyncio.Future[None]] = Turns(
            waiting_max=waiting_max, each_max=each_max
        )

    async def run(self, organization_id: int, work: Callable[[], T]) -> T:
        """Do it on a thread when its turn comes; 503 where too many wait already."""
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            turn = loop.create_future()
            if not self._waiting.put(organization_id, turn):
                raise busy()
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # it was ours already, so it is handed on
                    self._next()
                raise
        try:
            return await loop.run_in_executor(self._pool, work)
        finally:
            self._next()

    def _next(self) -> None:
        """Hand the thread on, past those who gave up waiting."""
        while (turn := self._waiting.take()) is not None:
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Finish what was begun."""
        self._pool.shutdown(wait=True)


def busy() -> Refusal:
    """More waits than can be done soon."""
    detail = "More requests wait than can be served soon, so this one was not begun."
    return Refusal(Problem("temporarily_unavailable", detail))


class Application:
    """What granian calls for each request."""

    def __init__(self) -> None:
        self._bodies_bytes = 0
        self._asking: dict[str, asyncio.Future[None]] = {}  # by what a request is signed with

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        _allow_open_files()
        sys.setswitchinterval(SWITCH_S)
        self._deadlines = Deadlines(loop, BODY_WAIT_S)
        self._gatherer = Gatherer(lambda units: _call(loop, units))
        self._threads = Threads(THREADS, "store")
        self._lookups = Threads(
            LOOKUP_THREADS, "lookup", waiting_max=LOOKUPS_MAX, each_max=LOOKUPS_MAX
        )

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        for served in (self._lookups, self._threads, self._gatherer):
            served.close()
        pool.close()

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        request_id = door.new_request_id()
        sent = request.joined(scope.headers.items())
        asked = Request(scope.method, scope.path, scope.query_string, sent)
        admitted: Admitted | Answer | None = None
        try:
            admitted = await self._admit(asked)
            if isinstance(admitted, Answer):
                reply = admitted
            else:
                reply = await self._answer(admitted, exchange, request_id)
        except Exception as error:
            reply = door.failed(error, asked, request_id=request_id)
        headers = door.headers_of(reply, admitted, request_id=request_id)
        exchange.response_bytes(reply.status.value, headers, reply.body)

    async def _admit(self, asked: Request) -> Admitted | Answer:
        """Here where memory knows who signs, on a thread where the database is to be asked."""
        signed = asked.headers.get("authorization") or ""
        if (asking := self._asking.get(signed)) is not None and not door.knows(asked):
            await asyncio.wait([asking])  # one lookup does for all who sign alike
        if door.knows(asked):
            return door.admit(asked)
        done = self._asking[signed] = asyncio.get_running_loop().create_future()
        try:
            return await self._lookups.run(0, lambda: door.admit(asked, renew=True))
        finally:
            done.set_result(None)
            if self._asking.get(signed) is done:
                del self._asking[signed]

    async def _answer(self, admitted: Admitted, exchange: Exchange, request_id: str) -> Answer:
        length = admitted.length
        if length is not None and length <= WHOLE_BYTES_MAX:
            body = await self._whole(admitted, exchange)
            if door.may_share(admitted):
                return await self._share(admitted, body, request_id)
            return await self._store(admitted, body, request_id)
        intake = Intake(length)
        try:
            await self._read(admitted, intake, exchange)
            return await self._store(admitted, intake.whole(), request_id)
        finally:
            self._bodies_bytes -= intake.received

    async def _store(self, admitted: Admitted, body: bytes, request_id: str) -> Answer:
        return await self._threads.run(
            admitted.caller.organization_id,
            lambda: door.answer(admitted, door.understand(admitted, body), request_id=request_id),
        )

    async def _share(self, admitted: Admitted, body: bytes, request_id: str) -> Answer:
        """Store a small request together with those that wait at the same time."""
        arrived = units.arrived(admitted, body)
        sent = None if arrived else door.understand(admitted, body)
        if sent is not None and not (isinstance(sent, Sent) and units.is_small(sent)):
            return await self._threads.run(
                admitted.caller.organization_id,
                lambda: door.answer(admitted, sent, request_id=request_id),
            )
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        unit = Unit(admitted.caller, sent, woken, arrived)
        self._gatherer.put(unit)
        await woken
        if unit.error is not None:
            raise unit.error
        assert unit.taken is not None
        if unit.sent is None:  # nobody had to look at an event by itself
            assert arrived is not None
            ids = [wire.id for wire in arrived.wires]
            return door.told_new(admitted, ids, unit.taken, request_id=request_id)
        return door.told(admitted, unit.sent, [unit.taken], request_id=request_id)

    async def _whole(self, admitted: Admitted, exchange: Exchange) -> bytes:
        """A small body with a declared length."""
        try:
            return await self._deadlines.within(exchange())
        except TimeoutError:
            raise request.too_slow(0, admitted.length) from None
        except RuntimeError:  # granian's, where the sender went away
            raise request.cut_short(0, admitted.length) from None

    async def _read(self, admitted: Admitted, intake: Intake, exchange: Exchange) -> None:
        """All of a body, as long as it comes fast enough and there is room for it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + BODY_WAIT_S
        ends = 0
        try:
            async with asyncio.timeout_at(until) as limit:
                async for chunk in exchange:
                    # A body ends with one empty piece. Where it was cut, or trailers follow, there
                    # is one more: neither can be told from the other, and neither is taken.
                    ends += not chunk
                    self._bodies_bytes += len(chunk)
                    admitted.add(intake, chunk)
                    if self._bodies_bytes > BODIES_BYTES_MAX:
                        raise busy()
                    limit.reschedule(until + intake.received / BODY_BYTES_PER_S)
        except TimeoutError:
            raise request.too_slow(intake.received, admitted.length) from None
        if ends > 1:
            raise request.cut_short(intake.received, admitted.length)


def _call(loop: asyncio.AbstractEventLoop, units: Sequence[Unit]) -> None:
    loop.call_soon_threadsafe(_wake, units)  # once for all of them


def _wake(units: Sequence[Unit]) -> None:
    """Let the requests go on whose outcome is known."""
    for unit in units:
        if not unit.waiter.done():
            unit.waiter.set_result(None)


def _allow_open_files() -> None:
    """As many as this process may have: a sender that falls silent keeps one open for a while."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


application = Application()

# What is loaded by now stays, and the collector looks for circles among what is new less often:
# events by the thousand are made and let go, and none of them is in a circle.
gc.freeze()
gc.set_threshold(GARBAGE_MAX)
