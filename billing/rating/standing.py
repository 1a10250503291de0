"""Standing charge: a price for each local day, or for each billing period by its days."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.charge import Basis
from billing.rating.document import Field
from billing.rating.line import RatedLine
from billing.rating.period import days_in
from billing.rating.proration import share
from billing.rating.shape import check_price

DAY, PERIOD = "day", "period"
_EACH = re.compile(f"{DAY}|{PERIOD}")


@dataclass(frozen=True, slots=True)
class Standing:
    """Local calendar days, never 24 hours: a day of 23 hours costs what one of 25 does."""

    KIND: ClassVar[str] = "standing"
    EACH_VERSION: ClassVar[bool] = True
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"each", "price"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    code: str
    price: Decimal
    each: str = DAY

    def __post_init__(self) -> None:
        check_price(self.price)
        if self.each not in (DAY, PERIOD):
            raise ValueError(f"a standing charge is for each {DAY} or each {PERIOD}")

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        each = fields["each"].text(_EACH, f'"{DAY}" or "{PERIOD}"')
        return cls(code, fields["price"].price(), each)

    def lines(self, basis: Basis) -> list[RatedLine]:
        zone = basis.facts.zone
        days, of_days = days_in(zone, basis.part), days_in(zone, basis.whole)
        standing = {"days": days, "of": of_days, "each": self.each, "price": f"{self.price:f}"}
        explained = {"shape": self.KIND, "standing": standing}
        if self.each == DAY:
            return [basis.line(self.code, "days", days, self.price, explained)] if days else []
        if days == of_days:
            return [basis.line(self.code, "periods", 1, self.price, explained)]
        part = share(self.price, basis.part, basis.whole, zone, basis.currency)
        return basis.money(self.code, part, explained)

    def as_document(self) -> dict[str, object]:
        return {"each": self.each, "price": f"{self.price:f}"}
