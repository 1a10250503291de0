"""Waiting with a deadline, and child processes that are ended by the test that began them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEY = "kt_test_0123456789"
NOBODY = "http://127.0.0.1:1"
SOURCES = Path(__file__).resolve().parent.parent / "src"


def eventually(condition: Callable[[], Any], within_s: float = 10) -> Any:
    """Wait for a condition, and return what it said."""
    pause = threading.Event()
    for _ in range(int(within_s / 0.01)):
        if said := condition():
            return said
        pause.wait(0.01)
    raise AssertionError(f"did not happen within {within_s} s")


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Another Python, with the client on its path and warnings as errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(SOURCES), **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], kill: bool = False) -> list[str]:
    """End it, by the book or not, and return what it still said, word by word."""
    if kill:
        os.kill(process.pid, signal.SIGKILL)
    with process:
        out, _ = process.communicate(timeout=20)
    return out.split()
