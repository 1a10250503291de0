"""What pays first: free credit, then a savings plan, then promotions, then paid balance."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from enum import IntEnum

from billing.rating.money import EXACT


class Kind(IntEnum):
    """Sources of money in the order in which they are drawn."""

    FREE_QUOTA = 1
    SAVINGS_PLAN = 2
    PROMOTION = 3
    PAID = 4


@dataclass(frozen=True, slots=True)
class Source:
    """Money that can pay. Within a kind what expires first goes first."""

    code: str
    kind: Kind
    left: Decimal
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """How much a source pays."""

    source: Source
    amount: Decimal


def draw(
    amount: Decimal, sources: Iterable[Source], *, now: datetime
) -> tuple[list[Drawn], Decimal]:
    """Pay an amount from the sources in their order; return what each pays, and what is unpaid."""
    drawn = []
    with localcontext(EXACT):
        for source in sorted((one for one in sources if _holds(one, now)), key=_order):
            paid = min(amount, max(Decimal(0), source.left))
            if paid:
                drawn.append(Drawn(source, paid))
                amount -= paid
    return drawn, amount


def _holds(source: Source, now: datetime) -> bool:
    return source.expires is None or now < source.expires


def _order(source: Source) -> tuple[object, ...]:
    endless = source.expires is None
    return source.kind, endless, source.expires or 0, source.code
