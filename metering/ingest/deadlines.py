"""How long a small body is waited for: one timer for all of them instead of one for each.

Every body has the same time, so the one that began first runs out first, and one timer, set to
that moment, serves them all. A timer for each was most of what reading a small body cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlines:
    """Waits on one event loop that may each last so many seconds, to the moment."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wait_s: float) -> None:
        self._loop = loop
        self._wait_s = wait_s
        self._until: dict[asyncio.Task[Any], float] = {}  # in the order in which they run out
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, awaitable: Awaitable[T]) -> T:
        """What is awaited; TimeoutError where it takes too long. One wait of a task at a time."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        until = self._until[task] = self._loop.time() + self._wait_s
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._look)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if task in self._late and task.cancelling() == 1:  # by nobody but us
                raise TimeoutError from None
            raise
        finally:
            del self._until[task]
            if task in self._late:
                self._late.remove(task)
                task.uncancel()

    def _look(self) -> None:
        """Wake those whose time has run out, and look again when the next one's does."""
        now = self._loop.time()
        for task, until in self._until.items():
            if until > now:
                self._timer = self._loop.call_at(until, self._look)
                return
            if task not in self._late:
                self._late.add(task)
                task.cancel()
        self._timer = None
