"""One rated line: so many units at one price, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import NamedTuple

from billing.rating.money import EXACT

ALLOWANCE = "allowance:"  # a component of this prefix was drained from an allowance
UNPRICED = "unpriced"  # no component of the tariff prices this usage


class LineKey(NamedTuple):
    """What makes two lines the same line: everything but how many, and the trace."""

    version: str
    component: str
    model: str
    register: str
    bucket: str
    step: int
    unit_price: Decimal
    per: int


@dataclass(frozen=True, slots=True)
class RatedLine:
    """A quantity and its exact price. The quantity of a correction may be negative.

    bucket is "" where the price does not depend on the time of use; step counts from 0.
    Two lines are equal if key and quantity are: the trace explains, it does not distinguish.
    """

    version: str
    component: str
    model: str
    register: str
    bucket: str
    step: int
    quantity: int
    unit_price: Decimal
    per: int
    trace: Mapping[str, object] = field(compare=False)

    @property
    def key(self) -> LineKey:
        return LineKey(
            self.version,
            self.component,
            self.model,
            self.register,
            self.bucket,
            self.step,
            self.unit_price,
            self.per,
        )

    @property
    def amount(self) -> Decimal:
        """Return quantity x unit_price / per, exact, in the tariff's currency.

        decimal.Inexact if `per` is no power of ten; parse lets no such tariff in.
        """
        with localcontext(EXACT):
            return self.unit_price * self.quantity / self.per
