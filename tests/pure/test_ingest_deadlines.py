"""One timer for all small bodies: each has its time to the moment, and takes nobody with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from metering.ingest.deadlines import Deadlines

WAIT_S = 5.0


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time goes on by itself to the next timer, once nothing else is to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def told(story: Any) -> Any:
    loop = Clock()
    try:
        return loop.run_until_complete(story(loop))
    finally:
        loop.close()


async def ending(loop: Clock, awaited: Awaitable[str]) -> tuple[str, float]:
    """What a wait came to, and when."""
    try:
        return await awaited, loop.now
    except TimeoutError:
        return "too late", loop.now


async def after(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "read"


def test_each_body_has_its_time_to_the_moment() -> None:
    async def story(loop: Clock) -> list[tuple[str, float]]:
        deadlines = Deadlines(loop, WAIT_S)

        async def one(begins_s: float, takes_s: float) -> tuple[str, float]:
            await asyncio.sleep(begins_s)
            return await ending(loop, deadlines.within(after(takes_s)))

        return await asyncio.gather(one(0, 4.9), one(1, 9), one(1, 5.1), one(3, 4), one(20, 6))

    assert told(story) == [
        ("read", 104.9), ("too late", 106.0), ("too late", 106.0), ("read", 107.0),
        ("too late", 125.0),
    ]  # fmt: skip


def test_who_is_cancelled_by_somebody_else_is_not_told_of_time() -> None:
    async def story(loop: Clock) -> None:
        task = loop.create_task(Deadlines(loop, WAIT_S).within(after(9)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    told(story)


def test_a_task_whose_body_was_late_can_wait_for_something_else() -> None:
    async def story(loop: Clock) -> tuple[str, float]:
        assert await ending(loop, Deadlines(loop, WAIT_S).within(after(9))) == ("too late", 105.0)
        assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]
        return await ending(loop, after(2))

    assert told(story) == ("read", 107.0)
