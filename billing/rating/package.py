"""Package: units are sold in packs, and a pack that is opened is paid whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.document import Field
from billing.rating.shape import Portion, Position, check_price

PACKAGES = "packages"  # the register that counts packs; what is in them is a line at no price
SIZE_MAX = 10**18


@dataclass(frozen=True, slots=True)
class Package:
    """Every `size` units of a billing period, or part of them, cost one price."""

    NAME: ClassVar[str] = "package"
    FIELDS: ClassVar[frozenset[str]] = frozenset({"size", "price"})

    size: int
    price: Decimal
    per: int = 1

    def __post_init__(self) -> None:
        check_price(self.price)
        if self.size < 1:
            raise ValueError("a package must hold at least one unit")
        if self.per != 1:
            raise ValueError("per must be 1: the price is for one package")

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        if per != 1:
            raise fields["per"].refuse("1: the price is for one package", "write 1")
        return cls(fields["size"].whole(1, SIZE_MAX), fields["price"].price(), per)

    def pour(self, quantity: int, at: Position) -> list[Portion]:
        """Fill what the last pack has left, then open as many as it takes."""
        opened = self._packs(at.used + quantity) - self._packs(at.used)
        portions = [Portion(quantity, Decimal(0))]
        if opened:
            portions.append(Portion(opened, self.price, register=PACKAGES))
        return portions

    def explain(self, portion: Portion) -> dict[str, object]:
        return {"package": {"size": self.size}}

    def as_document(self) -> dict[str, object]:
        return {"size": self.size, "price": f"{self.price:f}"}

    def _packs(self, quantity: int) -> int:
        return -(-quantity // self.size)
