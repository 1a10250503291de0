"""This process's connections for the ingestion door, opened when first needed."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.conf import settings
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from accounts.problems import Problem
from metering.ingest.decode import Refusal

Pool = ConnectionPool[Connection[TupleRow]]

SIZE_MAX = 8
WAIT_S = 3.0  # for a free connection; then the sender is told to come back
OPTIONS = (
    "-c synchronous_commit=on -c timezone=UTC -c client_encoding=UTF8 -c statement_timeout=15s "
    "-c lock_timeout=5s -c idle_in_transaction_session_timeout=15s -c application_name=ingest"
)

logger = logging.getLogger(__name__)
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # says every failed attempt otherwise

_lock = threading.Lock()
_pool: Pool | None = None
_owner = 0


OUTAGES = (
    PoolTimeout,
    PoolClosed,
    TooManyRequests,
    psycopg.OperationalError,  # down, restarting, locked, cancelled, full
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,  # demoted: the new primary is somewhere else
)


@contextmanager
def connected() -> Iterator[Connection[TupleRow]]:
    """A connection for one step; a database that cannot be had becomes a 503."""
    try:
        with pool().connection() as connection:
            yield connection
    except OUTAGES as error:
        logger.error("the database cannot be had: %s", error)
        detail = "The database did not answer in time, so nothing is acknowledged."
        raise Refusal(Problem("temporarily_unavailable", detail)) from error


def pool() -> Pool:
    """The pool of this process. One made before a fork belongs to the parent and is left alone."""
    global _pool, _owner
    if _pool is None or _owner != os.getpid():
        with _lock:
            if _pool is None or _owner != os.getpid():
                _pool, _owner = _opened(), os.getpid()
    return _pool


def close() -> None:
    """Let every connection go; the next request opens new ones."""
    global _pool
    with _lock:
        if _pool is not None and _owner == os.getpid():
            _pool.close()
        _pool = None


def _opened() -> Pool:
    return ConnectionPool(
        conninfo(),
        min_size=0,
        max_size=SIZE_MAX,
        timeout=WAIT_S,
        reconnect_timeout=WAIT_S,
        kwargs={"autocommit": True, "connect_timeout": 3},
        check=_still_there,
        name="ingest",
        open=True,
    )


def _still_there(connection: Connection[TupleRow]) -> None:
    """Ask the server only if it said something while nobody listened, such as good-bye."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)


def conninfo() -> str:
    """The database Django uses, at the moment of asking: tests have one of their own."""
    database = settings.DATABASES["default"]
    named = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    return make_conninfo(
        **{key: str(value) for key, value in named.items() if value}, options=OPTIONS
    )
