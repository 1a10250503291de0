"""How far an interrupted replay got. Only a shortcut: without it everything is sent again, and
what is stored already is recognised as a duplicate."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

WRITE_EVERY_S = 1


class Journal:
    """One number in one file: so many rows from the front are answered for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written_at = 0.0

    def rows_answered(self, *, at_most: int) -> int:
        """The rows that need not be sent; none if fewer are stored, for then it is not of here."""
        try:
            rows = json.loads(self._path.read_text())["rows_answered"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return rows if type(rows) is int and 0 <= rows <= at_most else 0

    def reached(self, rows: int) -> None:
        """Note it, but no more often than is useful."""
        if time.monotonic() - self._written_at < WRITE_EVERY_S:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"rows_answered": rows}))
        draft.replace(self._path)
        self._written_at = time.monotonic()

    def forget(self) -> None:
        """The run is complete: the next one sends everything, and finds only duplicates."""
        self._path.unlink(missing_ok=True)
