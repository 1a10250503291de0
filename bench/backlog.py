"""A backlog that drains while usage comes in: what it costs the senders, and how fast it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def draining() -> Iterator[Callable[[], bool]]:
    """A process of its own that applies whatever is open; whether it still finds something."""
    process = subprocess.Popen([sys.executable, "-m", "bench.backlog"], env=os.environ.copy())
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        process.wait(timeout=60)


def drain() -> float:
    """Apply everything that is open; the seconds it took."""
    from metering import rollup

    started_at = time.perf_counter()
    while rollup.apply_pending():
        pass
    return time.perf_counter() - started_at


def sent_while(
    going: Callable[[], bool], prepare: Callable[[], Callable[[], Any]]
) -> tuple[int, float]:
    """Send as long as something goes on, a whole number of times; how often, and the seconds."""
    times, took_s = 0, 0.0
    while going():
        send = prepare()
        started_at = time.perf_counter()
        send()
        took_s += time.perf_counter() - started_at
        times += 1
    return times, took_s


if __name__ == "__main__":
    import django

    django.setup()
    drain()
