"""Calls that run at the same time, for races."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from django.db import connections


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Run each call on a thread and a connection of its own, all starting together."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        try:
            ready.wait(timeout=10)
            return call()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))
