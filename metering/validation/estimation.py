"""Estimation: what stands in for intervals that are missing, and how it is marked.

A gap of two hours or less is filled in a straight line between its neighbours, a longer one with
the mean of like days. Where the register says how much was used in the gap, the shape is scaled to
that, to the last token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from metering.validation.quality import Quality

LINEAR_INTERVALS_MAX = 8  # two hours of quarter-hours


@dataclass(frozen=True, slots=True)
class Estimated:
    """A value with its quality."""

    quantity: int
    quality: Quality


def interpolated(before: int, after: int, intervals: int) -> list[int]:
    """Return the straight line between two neighbours of a gap, halves up."""
    step = Fraction(after - before, intervals + 1)
    return [_half_up(before + step * place) for place in range(1, intervals + 1)]


def filled(
    values: Sequence[int | None], like_days: Sequence[Sequence[int]] = ()
) -> list[Estimated]:
    """Fill the gaps of a profile. ValueError for a gap that nothing can be estimated from."""
    found: list[Estimated] = []
    place = 0
    while place < len(values):
        value = values[place]
        if value is not None:
            found.append(Estimated(value, Quality.VALID))
            place += 1
            continue
        end = next((i for i in range(place, len(values)) if values[i] is not None), len(values))
        found += _gap(values, place, end, like_days)
        place = end
    return found


def scaled(shape: Sequence[int], advance: int) -> list[int]:
    """Return whole numbers in proportion to a shape that add up to a known advance exactly."""
    if not shape:
        raise ValueError("a shape needs at least one interval")
    weights = list(shape) if sum(shape) else [1] * len(shape)
    reached = [0]
    for weight in weights:
        reached.append(reached[-1] + weight)
    marks = [_half_up(Fraction(advance * mark, reached[-1])) for mark in reached]
    return [after - before for before, after in pairwise(marks)]


def _gap(
    values: Sequence[int | None], start: int, end: int, like_days: Sequence[Sequence[int]]
) -> list[Estimated]:
    before = values[start - 1] if start else None
    after = values[end] if end < len(values) else None
    if end - start <= LINEAR_INTERVALS_MAX and before is not None and after is not None:
        line = interpolated(before, after, end - start)
        return [Estimated(quantity, Quality.ESTIMATED_LINEAR) for quantity in line]
    if not like_days:
        raise ValueError("a long or open gap needs like days to be estimated from")
    means = [Fraction(sum(day[place] for day in like_days), len(like_days)) for place in
             range(start, end)]  # fmt: skip
    return [Estimated(_half_up(mean), Quality.ESTIMATED_LIKE_DAY) for mean in means]


def _half_up(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)
