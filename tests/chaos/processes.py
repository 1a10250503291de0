"""Ingestion, worker and beat as `make run` starts them, each known by its pid and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from stack import run
from stack.home import ROOT, Home

READY_S = 60.0


class Process:
    """One program and whatever it started, restarted whenever it is gone."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.name, self._argv, self._env, self._log = name, argv, env, log
        self.starts = 0
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def ensure(self) -> None:
        """Start it if it does not run; what a dead one left behind is killed first."""
        if self._child is not None and self._child.poll() is None:
            return
        if self._child is not None:
            _signal_group(self.pid, signal.SIGKILL)
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                self._argv, cwd=ROOT, env=dict(self._env), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.starts += 1

    def kill(self) -> None:
        """Kill -9 of all of it at once."""
        _signal_group(self.pid, signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def children(self) -> list[int]:
        """The processes it forked."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in found.read_text().split()] if found.exists() else []

    def stop(self) -> None:
        """End it as an operator would."""
        if self._child is None:
            return
        _signal_group(self.pid, signal.SIGCONT)
        _signal_group(self.pid, signal.SIGTERM)
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()


def _signal_group(leader: int, number: int) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def signal_one(pid: int, number: int) -> None:
    """Signal one process, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def over(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The same environment, with PostgreSQL behind the socket in a folder."""
    url = urlsplit(env["DATABASE_URL"])
    user, _, _ = url.netloc.rpartition("@")
    netloc = f"{user}@{quote(str(folder), safe='')}"
    return {**env, "DATABASE_URL": urlunsplit(url._replace(netloc=netloc))}


def programs(home: Home, env: Mapping[str, str], doors: int) -> list[Process]:
    """Some ingestion processes, a worker and beat, exactly as `make run` would start them."""
    found = []
    for number in range(doors):
        own = {**env, "INGEST_PORT": str(free_port()), "PORT": "1"}
        argv = run.programs(home, own)["ingestion"]
        found.append(Process(f"ingestion {number}", argv, own, home.logs / f"door{number}.log"))
    argv_of = run.programs(home, {**env, "PORT": "1", "INGEST_PORT": "1"})
    others = ("worker", "beat")
    return found + [Process(n, argv_of[n], env, home.logs / f"chaos-{n}.log") for n in others]


def port_of(door: Process) -> int:
    """The port an ingestion process answers on."""
    return int(door._env["INGEST_PORT"])


def await_answer(port: int) -> None:
    """Return once a door answers."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing answers at port {port}")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
