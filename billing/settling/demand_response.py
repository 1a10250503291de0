"""Demand response: being paid for using less than usual when it matters."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

from billing.rating.money import EXACT


@dataclass(frozen=True, slots=True)
class Response:
    """What an event brought: never negative, and what is missing to the commitment."""

    baseline: Fraction
    curtailed: Fraction
    shortfall: Fraction


def baseline(like_days: Sequence[int]) -> Fraction:
    """Return what would have been used: the mean of like days. ValueError without one."""
    if not like_days:
        raise ValueError("a baseline needs at least one like day")
    return Fraction(sum(like_days), len(like_days))


def responded(like_days: Sequence[int], used: int, committed: int) -> Response:
    """Measure an event's mean use, in kTPM, against the baseline and the commitment."""
    usual = baseline(like_days)
    curtailed = max(Fraction(0), usual - used)
    return Response(usual, curtailed, max(Fraction(0), committed - curtailed))


def payment(response: Response, *, hours: int, price_per_ktpm_hour: Decimal) -> Decimal:
    """Return what is paid for whole kTPM curtailed: a rebate, never a charge."""
    with localcontext(EXACT):
        return price_per_ktpm_hour * (response.curtailed.__floor__() * hours)
