"""Flat: each unit costs the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.document import Field
from billing.rating.shape import Portion, Position, check_per, check_price


@dataclass(frozen=True, slots=True)
class Flat:
    """Each unit pays the one price."""

    NAME: ClassVar[str] = "flat"
    FIELDS: ClassVar[frozenset[str]] = frozenset({"price"})

    price: Decimal
    per: int = 1_000_000

    def __post_init__(self) -> None:
        check_price(self.price)
        check_per(self.per)

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        return cls(fields["price"].price(), per)

    def pour(self, quantity: int, at: Position) -> list[Portion]:
        return [Portion(quantity, self.price)]

    def explain(self, portion: Portion) -> dict[str, object]:
        return {}

    def as_document(self) -> dict[str, object]:
        return {"price": f"{self.price:f}"}
