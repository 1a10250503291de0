"""Events on disk until the server has them: SQLite in WAL mode, every commit fsynced.

Any number of processes may share a folder. Each adds to the same file; one of them, the holder of
the lease, sends for all that use the same address and key. A killed process frees the lease
because its file locks die with it.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

BYTES_MAX = 1 << 30
BUSY_S = 5.0
BUSY_RETRY_S = 0.02
PAIR_LENGTH = 16
# Events for another address or key, but for the same backfill, or like ours for none.
_OF_OTHERS = f"owner <> ? AND substr(owner, {PAIR_LENGTH + 1}) = ?"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,                -- which address and key it is for
    body BLOB NOT NULL,                 -- JSON as it goes over the wire
    due_at REAL NOT NULL DEFAULT 0,     -- seconds since 1970; 0: at once
    refusals INTEGER NOT NULL DEFAULT 0 -- how often the server said "not now"
);
CREATE INDEX IF NOT EXISTS event_by_owner ON event (owner, seq);
CREATE TABLE IF NOT EXISTS place (
    path TEXT PRIMARY KEY,
    inode INTEGER NOT NULL,
    head TEXT NOT NULL,                 -- digest of the first line: inodes are used again
    read_to INTEGER NOT NULL
);
"""


class SpoolFull(Exception):
    """The spool has reached its size; new events are dropped, and counted, until it drains."""


@dataclass(frozen=True)
class Row:
    """An event that waits to be sent."""

    seq: int
    body: bytes
    refusals: int


@dataclass(frozen=True)
class Place:
    """How far a log file has been read."""

    path: str
    inode: int
    head: str
    read_to: int


def owner_of(url: str, key: str, backfill: int | None = None) -> str:
    """Names the pair of address and key without revealing either, and after it the backfill."""
    pair = hashlib.sha256(f"{url}\n{key}".encode()).hexdigest()[:PAIR_LENGTH]
    return pair if backfill is None else f"{pair}+{backfill}"


_opening = threading.Lock()
_spools: weakref.WeakSet[Spool] = weakref.WeakSet()
_held: list[threading.Lock] = []


class Spool:
    """One process's door to a spool folder. Safe to use from several threads."""

    def __init__(self, folder: Path, *, owner: str, bytes_max: int = BYTES_MAX) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.owner = owner
        self.bytes_max = bytes_max
        self._lock = threading.Lock()
        self._lease: sqlite3.Connection | None = None
        with _opening:
            self._rows = _connect(folder / "spool.sqlite3")
            _spools.add(self)
        self._page_bytes: int = self._rows.execute("PRAGMA page_size").fetchone()[0]

    def add(self, bodies: Iterable[bytes], place: Place | None = None) -> None:
        """Keep events, durably, and how far their log was read, in one transaction."""
        with self._lock, self._rows:
            self._rows.execute("BEGIN IMMEDIATE")
            if self._bytes() >= self.bytes_max:
                raise SpoolFull(f"{self.folder} holds {self.bytes_max:,} bytes, which is its limit")
            self._rows.executemany(
                "INSERT INTO event (owner, body) VALUES (?, ?)",
                ((self.owner, body) for body in bodies),
            )
            if place is not None:
                self._rows.execute(
                    "INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?)",
                    (place.path, place.inode, place.head, place.read_to),
                )

    def due(self, now_s: float, *, events_max: int, bytes_max: int) -> list[Row]:
        """The oldest events that may be sent now, no more than fit a batch, but at least one."""
        rows: list[Row] = []
        size = 2  # the brackets
        with self._lock:
            found = self._rows.execute(
                "SELECT seq, body, refusals FROM event WHERE owner = ? AND due_at <= ?"
                " ORDER BY seq LIMIT ?",
                (self.owner, now_s, events_max),
            )
            for seq, body, refusals in found:
                size += len(body) + 1
                if rows and size > bytes_max:
                    break
                rows.append(Row(seq, body, refusals))
            found.close()
        return rows

    def settle(self, done: Sequence[int], later: Iterable[tuple[float, int]] = ()) -> None:
        """Forget what is done; put off the rest: pairs of a due time and a sequence number."""
        with self._lock, self._rows:
            self._rows.execute("BEGIN IMMEDIATE")
            self._rows.executemany("DELETE FROM event WHERE seq = ?", ((seq,) for seq in done))
            self._rows.executemany(
                "UPDATE event SET due_at = ?, refusals = refusals + 1 WHERE seq = ?", later
            )

    def waits(self, up_to: int, due_by_s: float = math.inf) -> bool:
        """Whether any event up to a sequence number is still here, and due by a time."""
        with self._lock:
            row = self._rows.execute(
                "SELECT EXISTS (SELECT 1 FROM event WHERE owner = ? AND seq <= ? AND due_at <= ?)",
                (self.owner, up_to, due_by_s),
            ).fetchone()
        return bool(row[0])

    def count(self) -> int:
        """How many events wait here for this address and key."""
        with self._lock:
            row = self._rows.execute("SELECT count(*) FROM event WHERE owner = ?", (self.owner,))
            return int(row.fetchone()[0])

    def last(self) -> int:
        """The highest sequence number ever given."""
        with self._lock:
            row = self._rows.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'")
            return int((row.fetchone() or (0,))[0])

    def of_others(self) -> int:
        """How many events wait here for another address or key."""
        with self._lock:
            row = self._rows.execute(
                f"SELECT count(*) FROM event WHERE {_OF_OTHERS}",  # noqa: S608 - our own text
                (self.owner, self.owner[PAIR_LENGTH:]),
            )
            return int(row.fetchone()[0])

    def take_over(self) -> None:
        """Send what waits for another address or key with this one's."""
        with self._lock, self._rows:
            self._rows.execute(
                f"UPDATE event SET owner = ? WHERE {_OF_OTHERS}",  # noqa: S608 - our own text
                (self.owner, self.owner, self.owner[PAIR_LENGTH:]),
            )

    def place(self, path: str) -> Place | None:
        """How far a log file was read."""
        with self._lock:
            row = self._rows.execute("SELECT * FROM place WHERE path = ?", (path,)).fetchone()
        return Place(*row) if row else None

    def lease(self) -> bool:
        """Become, or stay, the one process that sends for this address and key."""
        with self._lock:
            if self._lease is None:
                self._lease = self._leased()
            return self._lease is not None

    def _leased(self) -> sqlite3.Connection | None:
        # An SQLite lock rather than flock: it works on every system and dies with the process.
        connection = sqlite3.connect(
            self.folder / f"sender-{self.owner}.lock",
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:  # another process holds it
            connection.close()
            return None
        return connection

    def close(self) -> None:
        """Give back the lease and the files. What waits stays on disk."""
        with self._lock:
            if self._lease is not None:
                self._lease.close()
                self._lease = None
            self._rows.close()

    def _bytes(self) -> int:
        pages = self._rows.execute("PRAGMA page_count").fetchone()[0]
        free = self._rows.execute("PRAGMA freelist_count").fetchone()[0]
        return int(pages - free) * self._page_bytes


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file. SQLite does not wait for its lock while a file turns to WAL, so we do."""
    deadline = time.monotonic() + BUSY_S
    while (connection := _opened(path, patient=time.monotonic() < deadline)) is None:
        threading.Event().wait(BUSY_RETRY_S)
    return connection


def _opened(path: Path, *, patient: bool) -> sqlite3.Connection | None:
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk, power cut or not
        connection.executescript(_SCHEMA)
    except sqlite3.Error as error:
        connection.close()
        if patient and isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return None
        raise
    return connection


def _hold() -> None:
    """Before a fork: wait until no thread is within SQLite.

    A child inherits SQLite's own locks as they are, and one that a thread of the parent had would
    never be free in it: the child would hang where it opens its spool.
    """
    _opening.acquire()
    _held.append(_opening)
    for spool in list(_spools):
        spool._lock.acquire()
        _held.append(spool._lock)


def _let_go() -> None:
    """After a fork, in the parent and in the child."""
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go)
