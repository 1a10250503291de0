"""What cannot be delivered is kept beside the spool with the reason, one JSON line each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NAME = "dead-letters.jsonl"

Letter = Mapping[str, Any]


class DeadLetters:
    """A file that is only appended to. Several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def add(self, letters: Iterable[Letter]) -> None:
        """Append durably: an event leaves the spool only when this has returned."""
        lines = [json.dumps(letter, default=repr, separators=(",", ":")) for letter in letters]
        if not lines:
            return
        # One write with O_APPEND, so that lines of several processes do not mix.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_all(descriptor, ("\n".join(lines) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
