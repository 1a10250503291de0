"""A database of one's own on the server of DATABASE_URL, and what its sessions cost that server."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

DROP_WITHIN_S = 120


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
            _drop(own, name)


def _drop(own: psycopg.Connection[Any], name: str) -> None:
    """Autovacuum may be at work there, and only a superuser may stop it: it is waited for."""
    for _ in range(DROP_WITHIN_S):
        try:
            own.execute(f"DROP DATABASE {name} WITH (FORCE)")
        except psycopg.errors.InsufficientPrivilege:
            time.sleep(1)
        else:
            return
    raise RuntimeError(f"the scratch database {name} is still in use; drop it by hand")


def disconnect() -> None:
    """End the application's own sessions, those its pool keeps as well."""
    from django.db import connections
    from django.db.backends.postgresql.base import DatabaseWrapper

    for connection in connections.all(initialized_only=True):
        connection.close()
        if isinstance(connection, DatabaseWrapper):
            connection.close_pool()


class CoreClock:
    """Processor seconds spent on this database: by its sessions, and by the application."""

    def __init__(self, own: psycopg.Connection[Any], door_pid: int) -> None:
        self.own = own
        self.door_pid = door_pid

    def database_s(self) -> float:
        """By the sessions that are open now; zero where the server is on another machine."""
        pids = self.own.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchall()
        return sum(spent_s(pid) for (pid,) in pids)

    def door_s(self) -> float:
        """By granian and its worker."""
        children = Path(f"/proc/{self.door_pid}/task/{self.door_pid}/children")
        pids = [self.door_pid]
        if children.exists():
            pids += [int(pid) for pid in children.read_text().split()]
        return sum(spent_s(pid) for pid in pids)


def spent_s(pid: int) -> float:
    """Processor seconds of a process; zero where it is not there, or not on this machine."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
