"""Proration: part of a billing period is so many of its local days."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from billing.rating.money import minor_digits, round_half_up
from billing.rating.period import Period, days_in
from billing.rating.tariff import Terms


def prorated(terms: Terms, part: Period, whole: Period, zone: ZoneInfo) -> Terms:
    """Return the terms for a part of a billing period: allowances that say so shrink by days.

    Rounded down: a token that is not whole is not free. Steps are never prorated.
    """
    allowances = tuple(
        replace(one, tokens=one.tokens * days_in(zone, part) // days_in(zone, whole))
        if one.prorate
        else one
        for one in terms.allowances
    )
    return replace(terms, allowances=allowances)


def share(amount: Decimal, part: Period, whole: Period, zone: ZoneInfo, currency: str) -> int:
    """Return a part's share of an amount by local days, rounded once to minor units."""
    minor = Fraction(amount) * 10 ** minor_digits(currency)
    return round_half_up(minor * days_in(zone, part) / days_in(zone, whole))
