"""What became of the events, in numbers that only grow; and complaints, at most once a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

COMPLAIN_EVERY_S = 60.0

logger = logging.getLogger("kilotoken")


@dataclass
class Counts:
    """Counted since this meter was made, by this process."""

    spooled: int = 0  # on disk
    dropped: int = 0  # lost for want of room, on disk or in the queue
    invalid: int = 0  # could never be accepted; in the dead letters
    unmeasured: int = 0  # a call whose usage nobody reported; in the dead letters
    estimated: int = 0  # spooled with quantities that were estimated
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0  # in the dead letters
    rejected: int = 0  # in the dead letters
    put_off: int = 0  # refused for now, to be tried again later
    late: int = 0  # accepted or duplicate, of a period that was closed before they came
    zero: int = 0  # accepted or duplicate, with nothing but zeros in them
    requests: int = 0
    retries: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, **more: int) -> None:
        """Count, from whichever thread."""
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)

    def __str__(self) -> str:
        shown = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return ", ".join(f"{number:,} {name}" for name, number in shown if number) or "nothing yet"


class Complaints:
    """Logs each kind of trouble when it begins and then once a minute, with how often it came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def say(self, kind: str, text: str) -> None:
        """Log `text`, unless the same kind was logged within the last minute."""
        with self._lock:
            now = self._clock()
            if now - self._last.get(kind, -COMPLAIN_EVERY_S) < COMPLAIN_EVERY_S:
                self._held[kind] = self._held.get(kind, 0) + 1
                return
            self._last[kind] = now
            held = self._held.pop(kind, 0)
        more = f" ({held} more of this kind since the last line)" if held else ""
        logger.error("%s%s", text, more)
