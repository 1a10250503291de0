"""Cumulative registers: use is the difference of two readings, unless the counter began anew."""

from collections.abc import Sequence
from dataclasses import dataclass


class NegativeAdvance(ValueError):
    """A register ran backwards, and nobody said why: not to be billed before somebody looks."""


@dataclass(frozen=True, slots=True)
class RegisterReading:
    """A counter at an instant. The epoch changes whenever the meter started from zero."""

    cumulative: int
    epoch: int = 0


def advance(
    previous: RegisterReading, now: RegisterReading, *, roll_over_at: int | None = None
) -> int:
    """Return what was used between two readings. NegativeAdvance if the register ran backwards.

    roll_over_at: where the counter, as its meter declares, starts again from zero.
    """
    if now.epoch != previous.epoch:
        return now.cumulative
    if now.cumulative >= previous.cumulative:
        return now.cumulative - previous.cumulative
    if roll_over_at is None:
        detail = f"from {previous.cumulative:,} to {now.cumulative:,} within one epoch"
        raise NegativeAdvance(f"the register ran backwards: {detail}; check the meter")
    return roll_over_at - previous.cumulative + now.cumulative


def of_stream(interim: Sequence[int]) -> int:
    """Return what a stream used: its interim reads are cumulative, so it is the last, not the sum.

    NegativeAdvance if they fell.
    """
    if list(interim) != sorted(interim):
        raise NegativeAdvance("the interim reads of a stream fell; check the sender")
    return interim[-1] if interim else 0
