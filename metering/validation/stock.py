"""Stocks: what is held is paid by quantity and time, as cached tokens are by the hour."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

_HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Holding:
    """So many tokens, held from one instant until another."""

    tokens: int
    start: datetime
    end: datetime


def token_hours(holdings: Iterable[Holding]) -> int:
    """Return the token-hours of some holdings together, rounded once to whole ones, halves up."""
    exact = sum(
        (
            Fraction(one.tokens * ((one.end - one.start) // _MICROSECOND), _HOUR // _MICROSECOND)
            for one in holdings
        ),
        Fraction(0),
    )
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
