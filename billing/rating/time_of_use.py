"""Time of use: each unit pays the price of the bucket it was used in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.calendar import BUCKET
from billing.rating.document import Field
from billing.rating.money import total
from billing.rating.shape import Portion, Position, check_per, check_price


@dataclass(frozen=True, slots=True)
class TimeOfUse:
    """One price per bucket of the tariff's calendar; Terms makes sure that none is missing."""

    NAME: ClassVar[str] = "time_of_use"
    FIELDS: ClassVar[frozenset[str]] = frozenset({"prices"})

    prices: tuple[tuple[str, Decimal], ...]  # (bucket, price), each bucket once
    per: int = 1_000_000
    _of: Mapping[str, Decimal] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # PostgreSQL reorders the names of a JSON object, so their order must say nothing.
        object.__setattr__(self, "prices", tuple(sorted(self.prices)))
        object.__setattr__(self, "_of", dict(self.prices))
        check_per(self.per)
        buckets = [bucket for bucket, _ in self.prices]
        if not buckets or len(set(buckets)) < len(buckets):
            raise ValueError("each bucket must have one price, and there must be one")
        for bucket, price in self.prices:
            if not BUCKET.fullmatch(bucket):
                raise ValueError(f"{bucket!r} is no bucket name")
            check_price(price)

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        prices = fields["prices"].mapping()
        if not prices:
            raise fields["prices"].refuse("an object with a price per bucket", "name the buckets")
        for name, source in prices.items():
            if not BUCKET.fullmatch(name):
                raise source.refuse("priced under a bucket's name", "use the calendar's buckets")
        return cls(tuple((name, source.price()) for name, source in prices.items()), per)

    @property
    def buckets(self) -> frozenset[str]:
        return frozenset(bucket for bucket, _ in self.prices)

    def pour(self, quantity: int, at: Position) -> list[Portion]:
        """Pay the bucket's price; of "peak+critical" the sum of both."""
        price = self._of.get(at.bucket) or total(self._of[one] for one in at.bucket.split("+"))
        return [Portion(quantity, price, bucket=at.bucket)]

    def explain(self, portion: Portion) -> dict[str, object]:
        return {}

    def as_document(self) -> dict[str, object]:
        return {"prices": {bucket: f"{price:f}" for bucket, price in self.prices}}
