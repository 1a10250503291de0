"""How far a long command has come: a bar for a person, a line now and then for a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

BAR_WIDTH = 30
REDRAW_S = 0.1
LINE_EVERY_S = 2


class Progress:
    """One counter towards a total, on standard error so that output stays output."""

    def __init__(self, what: str, total: int, *, stream: TextIO | None = None) -> None:
        self.what = what
        self.total = total
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._began_at = time.monotonic()
        self._told_at = self._began_at
        self._done = 0
        self._told: int | None = None

    def at(self, done: int) -> None:
        """So many are done; tell it if enough time went by since the last telling."""
        self._done = done
        every_s = REDRAW_S if self._is_terminal else LINE_EVERY_S
        if time.monotonic() - self._told_at >= every_s:
            self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.total = self._done  # where it was an estimate, now we know
        if self._is_terminal or self._told != self._done:
            self._tell()
        if self._is_terminal:
            self._stream.write("\n")
            self._stream.flush()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        self._told = self._done
        line = self._bar() if self._is_terminal else f"{self._words()}\n"
        self._stream.write(line)
        self._stream.flush()

    def _bar(self) -> str:
        filled = BAR_WIDTH * self._done // max(self.total, 1)
        return f"\r\x1b[K{'█' * filled}{'·' * (BAR_WIDTH - filled)} {self._words()}"

    def _words(self) -> str:
        per_second = int(self._done / max(self._told_at - self._began_at, 0.001))
        percent = 100 * self._done // max(self.total, 1)
        return f"{self.what}: {self._done:,} of {self.total:,} ({percent} %), {per_second:,}/s"
