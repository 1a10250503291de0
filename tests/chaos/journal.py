"""What was acknowledged, kept outside the product: on disk before it counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Acknowledged(NamedTuple):
    """A batch the door answered for: each of its events was accepted, then or before."""

    writer: int
    number: int
    accepted: int
    duplicate: int


class Journal:
    """One file per writer, so that writers do not wait for each other."""

    def __init__(self, folder: Path, writer: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"writer-{writer}.ndjson").open("a")

    def write(self, batch: Acknowledged) -> None:
        """Return once the line is on disk."""
        self._file.write(json.dumps(batch._asdict()) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read(folder: Path) -> Iterator[Acknowledged]:
    """Everything that was acknowledged, from the files alone."""
    for path in sorted(folder.glob("writer-*.ndjson")):
        for line in path.read_text().splitlines():
            yield Acknowledged(**json.loads(line))
