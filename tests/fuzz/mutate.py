"""Bytes from bytes: cut, doubled, turned, spliced, with words put in that parsers trip over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz.seeds import TOKENS
from tests.fuzz.targets import Target

BODY_MAX = 20_000
CPU_S_MAX = 1.0  # for one input; what takes longer is a way to keep a process busy
FAILURES_MAX = 5  # of one target: then it is known


@dataclass(frozen=True)
class Failure:
    """An input that did what none may do."""

    target: str
    body: bytes
    error: BaseException


def mutated(body: bytes, other: bytes, rng: random.Random) -> bytes:
    """The body after one to six changes."""
    for _ in range(rng.randint(1, 6)):
        start, end = sorted(rng.randrange(len(body) + 1) for _ in range(2))
        match rng.randrange(7):
            case 0:
                body = body[:start] + body[end:]
            case 1:
                body = body[:end] + body[start:]
            case 2:
                body = body[:start] + rng.choice(TOKENS) + body[start:]
            case 3:
                body = body[:start] + rng.choice(TOKENS) + body[end:]
            case 4:
                body = body[:start] + bytes([rng.randrange(256)]) + body[start + 1 :]
            case 5:
                body = body[:start] + other[start:]
            case _:
                body = body[:start] + rng.randbytes(rng.randint(1, 4)) + body[start:]
        body = body[:BODY_MAX]
    return body


def run(
    target: Target, rng: random.Random, *, more: Callable[[int], bool]
) -> tuple[int, list[Failure]]:
    """Feed a target until `more` says no; how many inputs there were, and which failed."""
    pool, count, failures = list(target.seeds), 0, []
    while more(count) and len(failures) < FAILURES_MAX:
        body = mutated(rng.choice(pool), rng.choice(pool), rng) if count else pool[0]
        began = time.process_time()
        try:
            target.check(body)
            assert time.process_time() - began < CPU_S_MAX, "this input takes too long"
        except Exception as error:  # whatever it is, it is a finding
            failures.append(Failure(target.name, body, error))
        if count % 50 == 0 and len(pool) < 200:  # some go on from where others were
            pool.append(body)
        count += 1
    return count, failures
