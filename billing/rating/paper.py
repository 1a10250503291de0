"""What stands on a document: lines rounded once each, tax per rate, one rate of exchange.

A line on paper is a component, version, model, register, bucket and step. Rated lines that differ
in the price alone are one line on paper: a month of half-hourly prices is rounded once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from billing.rating.line import RatedLine
from billing.rating.money import minor_digits, round_half_up, to_minor, total


@dataclass(frozen=True, slots=True)
class PaperLine:
    """One or more rated lines as they are printed, and their rounded amount."""

    lines: tuple[RatedLine, ...]
    amount: Decimal  # exact
    minor: int

    @property
    def quantity(self) -> int:
        return sum(line.quantity for line in self.lines)

    @property
    def unit_price(self) -> Decimal | None:
        """Return the price, where there is one."""
        prices = {line.unit_price for line in self.lines}
        return prices.pop() if len(prices) == 1 else None


def printed(lines: Iterable[RatedLine], currency: str) -> list[PaperLine]:
    """Return lines as they are printed, in their order, each rounded once."""
    together: dict[object, list[RatedLine]] = {}
    for place, line in enumerate(lines):
        one_price = line.trace.get("shape") != "price_series"
        key = place if one_price else (*line.key[:6], line.per)
        together.setdefault(key, []).append(line)
    return [_paper(tuple(group), currency) for group in together.values()]


def printed_minor(lines: Iterable[RatedLine], currency: str) -> int:
    """Return what lines come to on paper: the sum of the rounded lines."""
    return sum(line.minor for line in printed(lines, currency))


def tax_minor(net_minor: int, percent: Decimal) -> int:
    """Return the tax on a net total: once per rate, halves away from zero."""
    return round_half_up(Fraction(net_minor) * Fraction(percent) / 100)


def exchanged(minor: int, currency: str, into: str, rate: Decimal) -> int:
    """Convert a rounded line at the invoice's one stored rate: units of `into` for one unit."""
    shift = minor_digits(into) - minor_digits(currency)
    return round_half_up(Fraction(minor) * Fraction(rate) * Fraction(10) ** shift)


def _paper(lines: Sequence[RatedLine], currency: str) -> PaperLine:
    amount = total(line.amount for line in lines)
    return PaperLine(tuple(lines), amount, to_minor(amount, currency))
