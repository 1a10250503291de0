"""`python -m tests.fuzz [--seconds N] [--seed N] [--target NAME]`: mutate until the time is up.

Time is the processor's, shared evenly by the targets. Each failure is printed with the bytes that
cause it; the same seed finds it again. The mutations are our own and blind: atheris,
led by coverage, has no wheels for Python 3.11 any more.

With `--door localhost:8001 --key kt_...` whole requests are sent to a door that runs instead, until
as many seconds of the clock are over.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback

from tests.fuzz.mutate import Failure, run
from tests.fuzz.requests import EVENTS, TRACES, storm
from tests.fuzz.targets import TARGETS

ROUND = 200  # requests of one kind


def main() -> int:
    """Exit code 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target")
    parser.add_argument("--door", help="where an ingestion process answers: HOST:PORT")
    parser.add_argument("--key", help="with the scope ingest, for --door")
    asked = parser.parse_args()
    if asked.door:
        return _at_the_door(asked.door, asked.key, asked.seed, asked.seconds)
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


def _at_the_door(door: str, key: str, seed: int, seconds: int) -> int:
    """Whole requests; the first wrong answer ends it with an error that holds what was sent."""
    host, _, port = door.rpartition(":")
    rng, until, sent, accepted = random.Random(seed), time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        for kind in (EVENTS, TRACES):
            first = time.time_ns()  # so that no event is one of an earlier run
            numbers = range(first, first + ROUND)
            accepted += storm(kind, (host, int(port)), key, rng, numbers)
            sent += ROUND
    print(f"{sent:,} requests, {accepted:,} events accepted, no wrong answer")
    return 0


if __name__ == "__main__":
    sys.exit(main())
