"""From any thread to the disk: events that arrive together are committed together.

A caller hands its event over and gets a future that is done when the event is on disk. One commit
serves everyone who came while the last one was running, so a hundred threads cost a few fsyncs.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Impatient
from itertools import islice

from kilotoken.counting import Complaints, Counts
from kilotoken.spool import Spool, SpoolFull

COMMIT_EVENTS_MAX = 1_000
DISK_RETRY_S = 1.0

Kept = Future[bool]  # True: on disk; False: dropped


def kept_within(kept: Kept, wait_s: float) -> bool:
    """Wait for the disk, but no longer. False: the event was dropped."""
    try:
        return kept.result(wait_s) if wait_s > 0 or kept.done() else True
    except Impatient:
        return True  # still in the writer's hands


async def kept_soon(kept: Kept, wait_s: float) -> bool:
    """The same for a coroutine."""
    if wait_s > 0 and not kept.done():
        await asyncio.wait([asyncio.wrap_future(kept)], timeout=wait_s)
    return kept_within(kept, 0)


class Writer:
    """Owns the queue before the spool and the thread that empties it."""

    def __init__(
        self,
        spool: Spool,
        counts: Counts,
        complaints: Complaints,
        *,
        queue_max: int,
        written: Callable[[int], None],
    ) -> None:
        self._spool = spool
        self._counts = counts
        self._complaints = complaints
        self._queue_max = queue_max
        self._written = written
        self._queue: deque[tuple[bytes, Kept]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="kilotoken-writer", daemon=True)
        self._thread.start()

    def submit(self, body: bytes) -> Kept:
        """Queue an event. Never waits for the disk."""
        kept: Kept = Future()
        kept.set_running_or_notify_cancel()  # a caller that loses patience must not cancel it
        with self._changed:
            if self._closing or len(self._queue) >= self._queue_max:
                self._drop(1, "the queue before the spool is full, or the meter is closed")
                kept.set_result(False)
                return kept
            self._queue.append((body, kept))
            self._changed.notify_all()
        return kept

    def drain(self, timeout_s: float) -> bool:
        """Wait until what was submitted is on disk, or dropped."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Write what is queued and end the thread. False: it had to be left running."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                entries = list(islice(self._queue, COMMIT_EVENTS_MAX))
            if not entries:
                return
            if self._write(entries):
                with self._changed:
                    for _ in entries:
                        self._queue.popleft()
                    self._changed.notify_all()
            else:
                with self._changed:  # woken early by close, which then gets one more attempt
                    if self._closing:
                        self._give_up()
                        return
                    self._changed.wait_for(lambda: self._closing, DISK_RETRY_S)

    def _write(self, entries: list[tuple[bytes, Kept]]) -> bool:
        """One commit. False: the disk failed and may do better later."""
        kept = True
        try:
            self._spool.add(body for body, _ in entries)
            self._counts.add(spooled=len(entries))
        except SpoolFull as full:
            kept = False
            self._drop(len(entries), str(full))
        except sqlite3.Error as error:
            self._complaints.say("spool", f"the spool cannot be written: {error}; trying again")
            return False
        for _, future in entries:
            future.set_result(kept)
        self._written(len(entries))
        return True

    def _give_up(self) -> None:
        self._drop(len(self._queue), "the spool could not be written before closing")
        for _, future in self._queue:
            future.set_result(False)
        self._queue.clear()
        self._changed.notify_all()

    def _drop(self, number: int, why: str) -> None:
        self._counts.add(dropped=number)
        self._complaints.say("dropped", f"usage events were dropped: {why}")
