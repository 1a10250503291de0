"""Reading a log like `tail -F`: on through rotation and truncation, and on from where it stopped.

A file is known by its inode and the digest of its first line, because inodes are used again and
`copytruncate` keeps one for different contents.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kilotoken.spool import Place

CHUNK_BYTES = 1 << 20
LINE_BYTES_MAX = 4 << 20
LINES_MAX = 1_000
# A writer goes on with the renamed file until it is told to reopen.
GRACE_S = 5.0
_ROTATED = re.compile(r"[.\-_]?[0-9][0-9T.\-_]*")

logger = logging.getLogger("kilotoken")


@dataclass(frozen=True)
class Line:
    """A whole line and where it stands; `torn` if it is not whole after all."""

    data: bytes
    inode: int
    head: str
    offset: int
    torn: bool = False

    @property
    def id(self) -> str:
        """The same for the same line, whenever it is read."""
        return f"line-{self.head[:12]}-{self.inode:x}-{self.offset:x}"


class Tail:
    """One path. Reads the file that is there, and before it the one that was, to its end."""

    def __init__(self, path: Path, place: Place | None, *, grace_s: float = GRACE_S) -> None:
        self.path = path
        self._grace_s = grace_s
        self._file: BinaryIO | None = None
        self._inode = 0
        self._head = ""
        self._at = 0
        self._idle_since: float | None = None
        if place is not None:
            self._resume(place)

    @property
    def place(self) -> Place:
        """Up to where lines were handed out."""
        return Place(str(self.path), self._inode, self._head, self._at)

    def lines(self, now_s: float) -> list[Line]:
        """Whole lines that were not handed out yet, at most a thousand."""
        if self._file is None and not self._open(self.path, 0):
            return []
        found = self._read()
        if found:
            self._idle_since = None
            return found
        return self._at_end(now_s)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> list[Line]:
        assert self._file is not None
        if self._at and _head(self._file) != self._head:
            logger.error("%s was truncated; what was not read is lost", self.path)
            self._at = 0
        self._file.seek(self._at)
        data = self._file.read(CHUNK_BYTES)
        while data and b"\n" not in data and len(data) <= LINE_BYTES_MAX:
            more = self._file.read(CHUNK_BYTES)
            if not more:
                return []
            data += more
        if b"\n" not in data:
            return [self._line(data, torn=True)] if data else []
        if self._at == 0:
            self._head = _head(self._file)
        whole = data[: data.rindex(b"\n")].split(b"\n")[:LINES_MAX]
        return [self._line(line) for line in whole]

    def _line(self, data: bytes, *, torn: bool = False) -> Line:
        line = Line(data, self._inode, self._head, self._at, torn)
        self._at += len(data) + (0 if torn else 1)
        return line

    def _at_end(self, now_s: float) -> list[Line]:
        """Nothing more for now: see whether the path leads to another file meanwhile."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return []
        assert self._file is not None
        if there.st_ino == self._inode:
            if there.st_size < self._at:
                logger.warning("%s was truncated; reading it from its start", self.path)
                self._at = 0
            return []
        if self._idle_since is None:
            self._idle_since = now_s
        if now_s - self._idle_since < self._grace_s:
            return []
        self._idle_since = None
        return self._turn_over()

    def _turn_over(self) -> list[Line]:
        """Leave a file that was rotated away for the one written next."""
        assert self._file is not None
        self._file.seek(self._at)
        rest = self._file.read(LINE_BYTES_MAX)
        last = [self._line(rest, torn=True)] if rest else []
        written_ns, inode = os.fstat(self._file.fileno()).st_mtime_ns, self._inode
        later = [
            (status.st_mtime_ns, path != self.path, path)
            for path, status in self._siblings()
            if status.st_ino != inode and (path == self.path or status.st_mtime_ns > written_ns)
        ]
        self.close()
        self._open(min(later)[2] if later else self.path, 0)
        return last

    def _resume(self, place: Place) -> None:
        """Find the file that was being read, under its own name or the one it was rotated to."""
        for path, status in self._siblings():
            if status.st_ino == place.inode and self._open(path, place.read_to):
                assert self._file is not None
                known = place.read_to == 0 or _head(self._file) == place.head
                if known and place.read_to <= status.st_size:
                    self._head = place.head
                    return
                self.close()
        if place.read_to:
            logger.error("the file read last as %s is gone; lines may be missing", self.path)

    def _siblings(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The path itself and what it was rotated to, not compressed."""
        name = self.path.name
        for path in sorted(self.path.parent.glob(f"{_literal(name)}*")):
            if path.name == name or _ROTATED.fullmatch(path.name[len(name) :]):
                try:
                    yield path, path.stat()
                except FileNotFoundError:
                    continue

    def _open(self, path: Path, offset: int) -> bool:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        self._file, self._at, self._head = file, offset, ""
        self._inode = os.fstat(file.fileno()).st_ino
        return True


def _head(file: BinaryIO) -> str:
    """The digest of the first line."""
    file.seek(0)
    return hashlib.sha256(file.readline(CHUNK_BYTES)).hexdigest()[:32]


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
