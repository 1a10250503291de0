"""The keeper: parent of the two servers, one per home, for as long as anybody uses them.

Whoever uses the servers holds a share of the lock `users`; the kernel takes it back when they
end, however they end. Once nobody holds one, the keeper stops the servers and ends.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import FrameType

from stack import postgres, processes, valkey
from stack.home import Home
from stack.locks import FileLock
from stack.refusal import Refusal

POLL_S = 0.25
READY_WITHIN_S = 120.0  # recovery after a crash replays up to max_wal_size
RESTARTS_MAX = 5  # in a row, none of which got as far as being ready
LEFT_BEHIND = "pre-existing shared memory block"
FREE_BYTES_MIN = 200_000_000  # an empty database and its first log segments
LOG_BYTES_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class Server:
    """One server, seen as three verbs."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    is_ready: Callable[[subprocess.Popen[bytes]], bool]
    stop: Callable[[subprocess.Popen[bytes]], None]


def keep(home: Home, folder: Path) -> None:
    """Start both servers, restart the one that dies, stop both when the last user is gone."""
    users = FileLock(home.locks / "users")
    servers = _servers(home, folder)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for server in servers:
            running[server.name] = server.start()
        for server in servers:
            _see_ready(home, server, running)
        write_status(home, "ready")
        while not users.try_own():
            time.sleep(POLL_S)
            for server in servers:
                if running[server.name].poll() is not None:
                    _log(f"{server.name} stopped unexpectedly; starting it again")
                    processes.kill_group(running[server.name].pid)
                    running[server.name] = server.start()
                    _see_ready(home, server, running)
    finally:
        for server in reversed(servers):
            if server.name in running:
                server.stop(running[server.name])
    (home.locks / "status").unlink(missing_ok=True)


def _leave(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; stopping is under way
    raise SystemExit(0)


def _servers(home: Home, folder: Path) -> list[Server]:
    return [
        Server(
            "postgres",
            lambda: postgres.start(home, folder),
            lambda child: postgres.is_ready(home, child),
            postgres.stop,
        ),
        Server(
            "valkey",
            lambda: valkey.start(home),
            lambda child: valkey.is_ready(home),
            valkey.stop,
        ),
    ]


def _see_ready(home: Home, server: Server, running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Wait until it answers. One that ends at once may have met its predecessor's lock: retry."""
    deadline = time.monotonic() + READY_WITHIN_S
    for attempt in count():
        child = running[server.name]
        while child.poll() is None and time.monotonic() < deadline:
            if server.is_ready(child):
                return
            time.sleep(0.02)
        server.stop(child)
        _log(f"{server.name} ended with {child.returncode} before it was ready")
        lines = (home.logs / f"{server.name}.log").read_text(errors="replace").splitlines()[-3:]
        last = " ".join(lines)
        # The sessions of a killed server live on until their statement ends, and keep its memory.
        haunted = LEFT_BEHIND in last and time.monotonic() < deadline
        if attempt + 1 >= RESTARTS_MAX and not haunted:
            raise Refusal(f"{server.name} does not start: {last}")
        time.sleep(min(0.2 * 2**attempt, 2.0))
        running[server.name] = server.start()


def write_status(home: Home, state: str) -> None:
    """Tell those who wait; in one step, so that nobody reads half of it."""
    draft = home.locks / ".status"
    draft.write_text(json.dumps({"pid": os.getpid(), "state": state}))
    draft.replace(home.locks / "status")


def _log(words: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), words, flush=True)


def rotate_logs(home: Home) -> None:
    """Keep one older piece of each log that has grown large."""
    for log in home.logs.glob("*.log"):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))


def main(home: Home) -> int:
    """Run as `python -m stack keep`, started by `stack.servers` with the keeper's lock in hand."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_status(home, "starting")
    try:
        rotate_logs(home)
        if shutil.disk_usage(home.path).free < FREE_BYTES_MIN:
            raise Refusal(f"less than 200 MB of disk space is left at {home.path}; free some first")
        folder = postgres.binaries(home)
        postgres.make_data(home, folder)
        keep(home, folder)
    except (Refusal, OSError) as error:
        write_status(home, f"failed: {error}")
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
