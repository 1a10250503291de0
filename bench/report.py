"""Results as a table for people and JSON for machines, with where and when they were measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Result:
    """One figure, and what it is compared with."""

    name: str
    value: float
    unit: str
    baseline: str | None = None
    ratio: float | None = None


def circumstances(server: str) -> dict[str, str]:
    """When and where it is measured."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "load_average_before": _load(),
        "python": platform.python_version(),
        "postgresql": server,
    }


def write(results: Sequence[Result], *, server: str) -> str:
    """Write both files; the page as text."""
    where = circumstances(server)
    document = {"where": where, "results": [asdict(result) for result in results]}
    (FOLDER / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    page = _page(where, results)
    (FOLDER / "RESULTS.md").write_text(page)
    return page


def _page(where: dict[str, str], results: Sequence[Result]) -> str:
    lines = ["# Results", "", "Written by `make bench`; every ratio was measured in one run.", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in where.items()]
    lines += ["", "| what | value | unit | compared with | ratio |", "|---|---:|---|---|---:|"]
    for result in results:
        ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
        lines.append(
            f"| {result.name} | {result.value:,.0f} | {result.unit} |"
            f" {result.baseline or ''} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def _commit() -> str:
    git = ["git", "-C", str(FOLDER), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"
