"""Minimum charge: what the period's lines fall short of, as a line of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.charge import Basis
from billing.rating.document import Field
from billing.rating.line import RatedLine
from billing.rating.proration import share
from billing.rating.shape import check_price


@dataclass(frozen=True, slots=True)
class Minimum:
    """The least a billing period costs; of a part of one, that part by local days."""

    KIND: ClassVar[str] = "minimum"
    EACH_VERSION: ClassVar[bool] = False
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"amount"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    code: str
    amount: Decimal

    def __post_init__(self) -> None:
        check_price(self.amount)

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        return cls(code, fields["amount"].price())

    def lines(self, basis: Basis) -> list[RatedLine]:
        eligible = basis.minor()
        least = share(self.amount, basis.part, basis.whole, basis.facts.zone, basis.currency)
        minimum = {"minimum_minor": least, "eligible_minor": eligible}
        explained = {"shape": self.KIND, "minimum": minimum}
        return basis.money(self.code, max(0, least - eligible), explained)

    def as_document(self) -> dict[str, object]:
        return {"amount": f"{self.amount:f}"}
