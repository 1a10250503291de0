"""The long run by hand: `python -m tests.described http://localhost:8000 --key kt_...`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.described.command import DOOR, run


def main() -> int:
    """Everything at the web process, and the door once more where it runs by itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.described", description=__doc__)
    parser.add_argument("base", help="where the web process answers")
    parser.add_argument("--door", help="where the ingestion process answers")
    parser.add_argument("--key", required=True, help="with the scopes ingest, read and manage")
    parser.add_argument("--examples", type=int, default=300, help="of each operation, at most")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    runs = [(asked.base, ())] + ([(asked.door, DOOR)] if asked.door else [])
    found = 0
    with tempfile.TemporaryDirectory(prefix="kt-described-") as folder:
        for base, only in runs:
            print(f"{base}: {', '.join(only) or 'every operation'}", flush=True)
            done = run(
                f"{asked.base}/api/v1/openapi.json", base, asked.key, seed=asked.seed,
                examples_max=asked.examples, phases=("examples", "coverage", "fuzzing"),
                folder=Path(folder), only=only,
            )  # fmt: skip
            print(done.stdout, done.stderr, flush=True)
            found |= done.returncode
    return found


if __name__ == "__main__":
    sys.exit(main())
