"""Plausibility: does a day's profile add up to the register, is a value out of all proportion?"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

SUM_TOLERANCE = Decimal("0.005")  # of the register's advance
SPIKE_PERCENT_MAX = 180  # a preset of Californian rules; change it where another one holds
BAND_PERCENT = 50


@dataclass(frozen=True, slots=True)
class SumCheck:
    """The register's advance against its intervals."""

    difference: int
    tolerance: Decimal

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


def sum_check(advance: int, intervals: Sequence[int]) -> SumCheck:
    """Compare an advance with the sum of its intervals: half a per cent, or a unit each."""
    difference = abs(advance - sum(intervals))
    return SumCheck(difference, max(SUM_TOLERANCE * advance, Decimal(len(intervals))))


def spike_ratio(values: Sequence[int]) -> Fraction:
    """Return how far the highest stands above the third highest, as a share of that.

    0 for fewer than three values, or where the third is 0: too little to judge by.
    """
    if len(values) < 3:
        return Fraction(0)
    highest, _, third = sorted(values, reverse=True)[:3]
    return Fraction(highest - third, third) if third else Fraction(0)


def is_spike(values: Sequence[int]) -> bool:
    """Say whether the highest value is out of all proportion."""
    return spike_ratio(values) * 100 > SPIKE_PERCENT_MAX


def in_band(value: int, like_days: Sequence[int]) -> bool:
    """Say whether a value lies within half and one and a half of the mean of like days."""
    if not like_days:
        return True
    return abs(value * len(like_days) - sum(like_days)) * 100 <= BAND_PERCENT * sum(like_days)
