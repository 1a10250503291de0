"""`python -m tests.fuzz [--seconds N] [--seed N] [--target NAME]`: mutate until the time is up.

Time is the processor's, shared evenly by the targets. Each failure is printed with the bytes that
cause it; the same seed finds it again. The mutations are our own and blind: atheris, led by
coverage and has wheels for Linux, could drive the same targets and does not yet.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback

from tests.fuzz.mutate import Failure, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Exit code 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target")
    asked = parser.parse_args()
    targets = [one for one in TARGETS if asked.target in (None, one.name)]
    failures: list[Failure] = []
    for target in targets:
        until = time.process_time() + asked.seconds / len(targets)
        count, found = run(
            target, random.Random(f"{asked.seed} {target.name}"),
            more=lambda _, until=until: time.process_time() < until,
        )  # fmt: skip
        failures += found
        print(f"{target.name:28} {count:>10,} inputs  {len(found)} failures", flush=True)
    for failure in failures:
        print(f"\n{failure.target}: {failure.body!r}")
        traceback.print_exception(failure.error)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
