"""The door's few threads: whoever gives up waiting takes none with him; nobody asks them twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from metering.ingest import rsgi
from metering.ingest.request import Request
from metering.ingest.rsgi import Threads

WITHIN_S = 20


def ran(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, WITHIN_S))


async def busy_with(
    threads: Threads, then: Callable[[], object] = bool
) -> tuple[asyncio.Task[None], threading.Event]:
    """The one thread at work until the event is set; what follows in the same breath."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(WITHIN_S)

    async def run() -> None:
        await threads.run(1, work)
        then()

    task = asyncio.create_task(run())
    await begun.wait()
    return task, go_on


async def waiting(threads: Threads) -> asyncio.Task[str]:
    """A request that has joined the queue."""
    task = asyncio.create_task(threads.run(2, lambda: "done"))
    await asyncio.sleep(0)
    return task


def test_a_request_that_gave_up_waiting_is_passed_over() -> None:
    async def story() -> None:
        threads = Threads(1, "test")
        first, go_on = await busy_with(threads)
        gone, stays = await waiting(threads), await waiting(threads)
        gone.cancel()
        go_on.set()
        await first
        assert await stays == "done"
        assert await threads.run(3, lambda: "again") == "again"
        with pytest.raises(asyncio.CancelledError):
            await gone
        threads.close()

    ran(story())


def test_a_request_that_gives_up_when_its_turn_has_come_hands_the_thread_on() -> None:
    async def story() -> None:
        threads = Threads(1, "test")
        requests: list[asyncio.Task[str]] = []

        def give_up() -> None:  # its turn was given, and it did not run yet
            requests[0].cancel()

        _, go_on = await busy_with(threads, then=give_up)
        requests += [await waiting(threads), await waiting(threads)]
        gone, stays = requests
        go_on.set()
        await asyncio.wait({gone})
        assert gone.cancelled()
        assert await stays == "done"
        assert await threads.run(3, lambda: "again") == "again"
        threads.close()

    ran(story())


def test_who_signs_alike_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that come while one lookup takes its time would queue up for more of the same."""
    known: set[str] = set()
    looked_up: list[str] = []
    held = threading.Event()

    def admit(asked: Request, *, renew: bool = False) -> str:
        signed = asked.headers["authorization"]
        if signed not in known:
            looked_up.append(signed)
            held.wait(20)
            known.add(signed)
        return signed

    monkeypatch.setattr(rsgi.door, "knows", lambda asked: asked.headers["authorization"] in known)
    monkeypatch.setattr(rsgi.door, "admit", admit)

    async def all_at_once() -> list[object]:
        application = rsgi.Application()
        application._lookups = Threads(2, "lookup")
        asked = [Request("POST", "/", "", {"authorization": f"Bearer {n % 2}"}) for n in range(400)]
        going = [asyncio.ensure_future(application._admit(one)) for one in asked]
        await asyncio.sleep(0)
        held.set()
        try:
            return list(await asyncio.gather(*going))
        finally:
            application._lookups.close()

    assert asyncio.run(all_at_once()) == [f"Bearer {n % 2}" for n in range(400)]
    assert sorted(looked_up) == ["Bearer 0", "Bearer 1"]
