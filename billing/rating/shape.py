"""What the price shapes have in common. One shape per file; a new one joins SHAPES in tariff.py."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import ClassVar, NamedTuple, Protocol, Self

from billing.rating.document import PRICE_DECIMALS_MAX, Field

# Powers of ten only, so that quantity x price / per always ends; a third of a cent does not.
# A million at most, so that the 12 decimals of a price become the 18 that amounts are kept with.
PER_ALLOWED = tuple(10**power for power in range(7))


class Position(NamedTuple):
    """Where in the billing period a quantity stands: all a shape may look at besides it."""

    used: int  # what the component has priced in this period before
    bucket: str  # of the calendar; "" without one
    total: int = 0  # what the component prices in the whole period
    band: int = 0  # of the request's input: see scope.What
    moment: datetime | None = None  # the start of the segment


class Portion(NamedTuple):
    """A part of a quantity and the price it pays. bucket "" and step 0 where they do not matter.

    With a register of its own it is no part of the quantity, but something counted besides it.
    """

    quantity: int
    unit_price: Decimal
    bucket: str = ""
    step: int = 0
    register: str = ""


class Shape(Protocol):
    """How the price of a unit depends on where the unit stands."""

    NAME: ClassVar[str]
    FIELDS: ClassVar[frozenset[str]]

    @property
    def per(self) -> int: ...

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        """Read the shape's own FIELDS of a component. TariffInvalid if they are wrong."""
        ...

    def pour(self, quantity: int, at: Position) -> list[Portion]:
        """Split a quantity by price, losing none of it. The quantity is above zero."""
        ...

    def explain(self, portion: Portion) -> dict[str, object]:
        """Return the trace of a portion: the shape's own numbers, as JSON values."""
        ...

    def as_document(self) -> dict[str, object]:
        """Return the shape's own FIELDS."""
        ...


def check_price(price: Decimal) -> None:
    """Raise ValueError for a price that is negative, not finite or finer than 12 decimals."""
    if not price.is_finite() or price < 0:
        raise ValueError(f"a price must be finite and not negative, not {price}")
    check_signed_price(price)


def check_signed_price(price: Decimal) -> None:
    """Raise ValueError for a price that is not finite or finer than 12 decimals."""
    if not price.is_finite():
        raise ValueError(f"a price must be finite, not {price}")
    exponent = price.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent < -PRICE_DECIMALS_MAX:
        raise ValueError(f"a price must have at most {PRICE_DECIMALS_MAX} decimals")


def check_per(per: int) -> None:
    """Raise ValueError unless `per` is 1, 10, 100 ... 1,000,000."""
    if per not in PER_ALLOWED:
        raise ValueError(f"per must be a power of ten up to {PER_ALLOWED[-1]}, not {per}")
