"""Feed-in: an edge owner sells idle capacity back; the same meter under three contracts."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, localcontext

from billing.rating.money import EXACT


@dataclass(frozen=True, slots=True)
class Interval:
    """What an interval took from us and gave to us, in the same unit."""

    taken: int
    given: int


@dataclass(frozen=True, slots=True)
class Netted:
    """What is owed, and what is banked for later periods."""

    due: Decimal
    banked: int


def net_metering(intervals: Iterable[Interval], *, buy: Decimal, banked: int = 0) -> Netted:
    """Net the whole period; what was given beyond it is banked, never paid."""
    net = sum(one.taken - one.given for one in intervals) - banked
    with localcontext(EXACT):
        return Netted(buy * max(0, net), max(0, -net))


def net_billing(intervals: Iterable[Interval], *, buy: Decimal, sell: Decimal) -> Decimal:
    """Net each interval: pay for what it lacked, be paid less for what it had too much."""
    with localcontext(EXACT):
        nets = [one.taken - one.given for one in intervals]
        return sum((net * (buy if net > 0 else sell) for net in nets), Decimal(0))


def buy_all_sell_all(intervals: Iterable[Interval], *, buy: Decimal, sell: Decimal) -> Decimal:
    """Use two gross meters: nothing is netted before it is priced."""
    with localcontext(EXACT):
        return sum((one.taken * buy - one.given * sell for one in intervals), Decimal(0))
