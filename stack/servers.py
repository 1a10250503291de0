"""Using the servers of a home: start them if nobody did, share them, let go of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from stack import postgres, processes
from stack.home import ROOT, Home
from stack.keeper import READY_WITHIN_S
from stack.locks import FileLock
from stack.refusal import Refusal, say


@contextmanager
def in_use(home: Home, heed: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the servers up while the block runs; the last one out stops them and waits for it.

    `heed` is asked while we wait for them; it raises if somebody wants us to stop.
    """
    users = FileLock(home.locks / "users")
    users.share()  # waits here while a keeper is shutting its servers down
    try:
        ensure(home, heed)
        yield
    finally:
        if users.try_own():  # nobody else uses them, and nobody can begin to until we close
            _stop_keeper(home)
        users.close()


def ensure(home: Home, heed: Callable[[], None] = lambda: None) -> None:
    """Return once both servers answer; start a keeper if there is none. Hold a share before."""
    started_at = time.monotonic()
    keeper: subprocess.Popen[bytes] | None = None
    told = False
    while time.monotonic() < started_at + READY_WITHIN_S:
        if _is_ready(home):
            return
        with closing(FileLock(home.locks / "keeper")) as lock:
            if lock.try_own():
                if keeper:
                    raise Refusal(_why_it_failed(home))
                keeper = _start_keeper(home, lock)
        if not told and time.monotonic() > started_at + 2:
            say("waiting for PostgreSQL and Valkey")
            told = True
        time.sleep(0.02)
        heed()
    raise Refusal(f"PostgreSQL did not get ready in time; see {home.logs}/postgres.log")


def _start_keeper(home: Home, lock: FileLock) -> subprocess.Popen[bytes]:
    """Start the keeper with the lock we hold: it lives on in the descriptor the keeper inherits."""
    (home.locks / "status").unlink(missing_ok=True)
    with (home.logs / "keeper.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stack", "keep"],
            cwd=ROOT,
            env=_keeper_environment(home, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock.fd],
        )


def _keeper_environment(home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    passed_on = {name: environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in environ}
    return passed_on | {"KILOTOKEN_HOME": str(home.path), "PYTHONDONTWRITEBYTECODE": "1"}


def _status(home: Home) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads((home.locks / "status").read_text())
    except FileNotFoundError:
        return {}
    return status


def _is_ready(home: Home) -> bool:
    status = _status(home)
    return status.get("state") == "ready" and processes.alive(status["pid"])


def _why_it_failed(home: Home) -> str:
    state = str(_status(home).get("state", ""))
    if state.startswith("failed: "):
        return state.removeprefix("failed: ")
    return f"the servers stopped while starting; see {home.logs}/keeper.log"


def _stop_keeper(home: Home) -> None:
    """Ask the keeper to stop its servers and wait until its lock is free."""
    with closing(FileLock(home.locks / "keeper")) as lock:
        if not lock.try_own() and (pid := _status(home).get("pid")):
            processes.send(pid, signal.SIGTERM)
            processes.until(lock.try_own, within_s=postgres.STOP_WITHIN_S + 10)
