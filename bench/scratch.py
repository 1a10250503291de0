"""A database of one's own on the server of DATABASE_URL, and what its sessions cost that server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg


@contextmanager
def database() -> Iterator[None]:
    """Create it, point DATABASE_URL at it for everything that follows, drop it at the end."""
    address = os.environ["DATABASE_URL"]
    name = f"bench_{secrets.token_hex(6)}"
    with psycopg.connect(address, autocommit=True) as own:
        own.execute(f"CREATE DATABASE {name}")
    os.environ["DATABASE_URL"] = urlsplit(address)._replace(path=f"/{name}").geturl()
    try:
        yield
    finally:
        with psycopg.connect(address, autocommit=True) as own:
            own.execute(f"DROP DATABASE {name} WITH (FORCE)")


class ServerClock:
    """Processor seconds that the server spent on this database, where it runs on this machine."""

    def __init__(self, own: psycopg.Connection[Any]) -> None:
        self.own = own
        self.ticks_per_s = os.sysconf("SC_CLK_TCK")

    def seconds(self) -> float | None:
        """So far, over the sessions that are open now."""
        pids = self.own.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        ).fetchall()
        try:
            return sum(self._of(pid) for (pid,) in pids)
        except FileNotFoundError:
            return None

    def _of(self, pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / self.ticks_per_s
