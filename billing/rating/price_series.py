"""Price series: a price for each interval of time, as a market or a provider publishes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.document import Field, TariffInvalid
from billing.rating.period import Period
from billing.rating.shape import Portion, Position, check_per, check_signed_price

ESTIMATED = "estimated"  # the bucket of usage whose price is not published yet
INTERVALS_MAX = 36_000  # a year of quarter-hours, and a bit
STEP_MINUTES = (15, 30, 60, 120, 180, 240, 360, 720, 1_440)


@dataclass(frozen=True, slots=True)
class PriceSeries:
    """Each unit pays the price of the interval it was used in. Prices may be negative.

    None is a price that is not known yet: the last one known stands in for it, and so beyond the
    end. When it becomes known the period is rated again, and the difference is billed.
    """

    NAME: ClassVar[str] = "price_series"
    FIELDS: ClassVar[frozenset[str]] = frozenset({"series"})

    start: datetime
    step: timedelta
    prices: tuple[Decimal | None, ...]
    per: int = 1_000_000

    def __post_init__(self) -> None:
        check_per(self.per)
        if self.step // timedelta(minutes=1) not in STEP_MINUTES:
            raise ValueError(f"the minutes of an interval must be among {STEP_MINUTES}")
        if not any(price is not None for price in self.prices):
            raise ValueError("a price series must know a price")
        for price in self.prices:
            if price is not None:
                check_signed_price(price)

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        series = fields["series"].members({"start", "step_minutes", "prices"})
        step = series["step_minutes"].whole(STEP_MINUTES[0], STEP_MINUTES[-1])
        if step not in STEP_MINUTES:
            must = f"one of {', '.join(map(str, STEP_MINUTES))}"
            raise series["step_minutes"].refuse(must, "readings are quarter-hours")
        prices = tuple(
            None if item.value is None else item.price(signed=True)
            for item in series["prices"].items(most=INTERVALS_MAX)
        )
        if not any(price is not None for price in prices):
            detail = "must have a price that is known; publish one, or choose the shape flat"
            raise TariffInvalid(series["prices"].pointer, detail)
        return cls(series["start"].instant(), timedelta(minutes=step), prices, per)

    @property
    def falls_below_zero(self) -> bool:
        return any(price is not None and price < 0 for price in self.prices)

    def cuts(self, period: Period) -> list[datetime]:
        """Return the instants within a period at which an interval begins."""
        end = self.start + self.step * len(self.prices)
        moment = max(
            self.start, self.start + self.step * ((period.start - self.start) // self.step)
        )
        found = []
        while moment <= min(end, period.end):
            if moment in period:
                found.append(moment)
            moment += self.step
        return found

    def pour(self, quantity: int, at: Position) -> list[Portion]:
        assert at.moment is not None
        price, estimated = self._price_at(at.moment)
        return [Portion(quantity, price, bucket=ESTIMATED if estimated else "")]

    def explain(self, portion: Portion) -> dict[str, object]:
        minutes = self.step // timedelta(minutes=1)
        return {"series": {"step_minutes": minutes, "estimated": portion.bucket == ESTIMATED}}

    def as_document(self) -> dict[str, object]:
        prices = [None if price is None else f"{price:f}" for price in self.prices]
        minutes = self.step // timedelta(minutes=1)
        return {
            "series": {
                "start": self.start.isoformat(),
                "step_minutes": minutes,
                "prices": prices,
            }
        }

    def _price_at(self, moment: datetime) -> tuple[Decimal, bool]:
        """Return the price of an instant, and whether another one stands in for it."""
        place = (moment - self.start) // self.step
        if 0 <= place < len(self.prices):
            price = self.prices[place]
            if price is not None:
                return price, False
        known = [price for price in self.prices[: max(0, place)] if price is not None]
        first = next(price for price in self.prices if price is not None)
        return (known[-1] if known else first), True
