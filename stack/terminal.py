"""What the person at `make run` sees: lines with a name in front."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

NAME_WIDTH = 9
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)  # ANSI foregrounds


class Terminal:
    """Lines with a name in front, coloured where somebody looks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.colours = sys.stdout.isatty() and not environ.get("NO_COLOR")
        self.names: dict[str, int] = {}

    def line(self, name: str, words: str) -> None:
        """Show one line of somebody."""
        number = self.names.setdefault(name, len(self.names))
        label = f"{name:<{NAME_WIDTH}}|"
        if self.colours:
            label = f"\033[{COLOURS[number % len(COLOURS)]}m{label}\033[0m"
        sys.stdout.write(f"{label} {words}\n")
        sys.stdout.flush()

    def own(self, words: str) -> None:
        """Show a line of ours."""
        self.line("kilotoken", words)


class LogFile:
    """The end of a file that another process writes."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.offset = path.stat().st_size if path.exists() else 0

    def new_lines(self) -> list[str]:
        """The whole lines since the last time."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self.offset:
                    self.offset = 0  # it was put aside and begun anew
                file.seek(self.offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole, newline, _ = content.rpartition(b"\n")
        self.offset += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()
