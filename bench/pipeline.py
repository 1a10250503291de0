"""Broker, worker and beat as `make run` starts them, apart from any that run already."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stack import run, valkey
from stack.home import Home, open_home

READY_WITHIN_S = 30.0


@contextmanager
def at_work() -> Iterator[None]:
    """They run, and doors that are opened meanwhile ring for them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kt-bench-")))
        home = Home(folder, open_home(os.environ).server, folder)
        for used in (home.logs, folder / "beat"):
            used.mkdir()
        broker = valkey.start(home)
        stack.callback(valkey.stop, broker)
        _await(home)
        before = os.environ["CELERY_BROKER_URL"]
        stack.callback(os.environ.update, CELERY_BROKER_URL=before)
        os.environ["CELERY_BROKER_URL"] = valkey.url(home)
        programs = run.programs(home, {**os.environ, "PORT": "1", "INGEST_PORT": "1"})
        for name in ("worker", "beat"):
            stack.enter_context(_running(programs[name], home.logs / f"{name}.log"))
        yield


def _await(home: Home) -> None:
    ends_at = time.monotonic() + READY_WITHIN_S
    while not valkey.is_ready(home):
        if time.monotonic() > ends_at:
            raise RuntimeError("the broker does not answer")
        time.sleep(0.05)


@contextmanager
def _running(argv: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("wb") as lines:
        process = subprocess.Popen(argv, stdout=lines, stderr=lines, env=os.environ.copy())
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)
