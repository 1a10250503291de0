"""Which fault comes next, from a seed; what was done is counted by its name."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from stack.home import Home
from tests.chaos import processes
from tests.chaos.processes import Process
from tests.chaos.wire import Wire

FROZEN_S = 1.0
CUTTING_S = 2.0


@dataclass(slots=True)
class Faults:
    """Everything that can be done to a running Kilotoken, one at a time."""

    home: Home
    running: dict[str, Process]
    wire: Wire
    database_url: str
    ring: Callable[[], Any]
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed}/faults")

    def strike(self) -> str:
        """Do the next one; its name. Whatever it killed is up again, or on its way, afterwards."""
        name = self._chance.choice(list(KINDS))
        KINDS[name](self)
        self.done[name] += 1
        for process in self.running.values():
            process.ensure()
        return name

    def kill_ingestion(self) -> None:
        self._door().kill()

    def freeze_ingestion(self) -> None:
        door = self._door()
        for pid in (*door.children(), door.pid):
            processes.signal_one(pid, signal.SIGSTOP)
        time.sleep(FROZEN_S)
        for pid in (*door.children(), door.pid):
            processes.signal_one(pid, signal.SIGCONT)

    def kill_worker(self) -> None:
        self.running["worker"].kill()

    def kill_worker_child(self) -> None:
        for pid in self.running["worker"].children()[:1]:
            processes.signal_one(pid, signal.SIGKILL)

    def kill_beat(self) -> None:
        self.running["beat"].kill()

    def stop_postgres_at_once(self) -> None:
        self._signal_postgres(signal.SIGQUIT)

    def kill_postgres(self) -> None:
        self._signal_postgres(signal.SIGKILL)

    def kill_backend(self) -> None:
        """One of its sessions, which makes all others start anew."""
        try:
            with psycopg.connect(self.database_url, autocommit=True, connect_timeout=5) as own:
                pids = own.execute(
                    "SELECT pid FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                ).fetchall()
        except psycopg.Error:
            return
        if pids:
            processes.signal_one(self._chance.choice(pids)[0], signal.SIGKILL)

    def wipe_broker(self) -> None:
        """Kill it; it keeps nothing on disk, so every message in it is gone."""
        for pid in _children_named(self._keeper(), b"valkey-server"):
            processes.signal_one(pid, signal.SIGKILL)

    def cut_connections(self) -> None:
        before = self.wire.cut
        self.wire.cutting = True
        time.sleep(CUTTING_S)
        self.wire.cutting = False
        self.done["connections cut"] += self.wire.cut - before

    def ring_too_often(self) -> None:
        """The same doorbell several times, whether or not there is anything to do."""
        for _ in range(self._chance.randint(2, 9)):
            self.ring()

    def _door(self) -> Process:
        doors = [one for name, one in self.running.items() if name.startswith("ingestion")]
        return self._chance.choice(doors)

    def _signal_postgres(self, number: int) -> None:
        try:
            first = (self.home.postgres / "postmaster.pid").read_text().split()[0]
        except (FileNotFoundError, IndexError):
            return
        processes.signal_one(int(first), number)

    def _keeper(self) -> int:
        """The parent of PostgreSQL, and so of the broker."""
        try:
            first = (self.home.postgres / "postmaster.pid").read_text().split()[0]
            stat = open(f"/proc/{first}/stat").read()  # noqa: SIM115
        except (OSError, IndexError):
            return 0
        return int(stat.rpartition(")")[2].split()[1])


def _children_named(parent: int, name: bytes) -> list[int]:
    found = []
    try:
        listed = open(f"/proc/{parent}/task/{parent}/children").read()  # noqa: SIM115
    except OSError:
        return []
    for pid in listed.split():
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            if name in line.read():
                found.append(int(pid))
    return found


KINDS: dict[str, Callable[[Faults], None]] = {
    "ingestion killed": Faults.kill_ingestion,
    "ingestion frozen": Faults.freeze_ingestion,
    "worker killed": Faults.kill_worker,
    "worker child killed": Faults.kill_worker_child,
    "beat killed": Faults.kill_beat,
    "PostgreSQL stopped at once": Faults.stop_postgres_at_once,
    "PostgreSQL killed": Faults.kill_postgres,
    "PostgreSQL session killed": Faults.kill_backend,
    "broker wiped": Faults.wipe_broker,
    "connections being cut": Faults.cut_connections,
    "doorbell rung again": Faults.ring_too_often,
}
