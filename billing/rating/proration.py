"""Proration: part of a billing period is so many of its local days."""

from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from billing.rating.money import minor_digits, round_half_up
from billing.rating.period import Period, days_in


def share(amount: Decimal, part: Period, whole: Period, zone: ZoneInfo, currency: str) -> int:
    """Return a part's share of an amount by local days, rounded once to minor units."""
    minor = Fraction(amount) * 10 ** minor_digits(currency)
    return round_half_up(minor * days_in(zone, part) / days_in(zone, whole))


def tokens_share(tokens: int, part: Period, whole: Period, zone: ZoneInfo) -> int:
    """Return a part's share of free tokens, rounded down: what is not whole is not free."""
    return tokens * days_in(zone, part) // days_in(zone, whole)
