"""Usage as rating sees it, and the stretches and segments of time that it falls into."""

from dataclasses import dataclass
from datetime import UTC, datetime

from billing.rating.period import Period, utc
from billing.rating.scope import What
from billing.rating.tariff import Terms


@dataclass(frozen=True, slots=True)
class Usage:
    """Readings summed over one segment: one rating key and one register.

    What cannot be summed before rating is part of the key: see scope.What.
    """

    start: datetime
    end: datetime
    model: str
    register: str
    region: str
    service_class: str
    quantity: int
    input_band: int = 0
    thinking: bool = False
    attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.start.tzinfo is not UTC or self.end.tzinfo is not UTC:  # as a rule they are
            object.__setattr__(self, "start", utc(self.start))
            object.__setattr__(self, "end", utc(self.end))
        if self.attributes:
            object.__setattr__(self, "attributes", tuple(sorted(set(self.attributes))))
        for name, number in (("quantity", self.quantity), ("input_band", self.input_band)):
            if type(number) is not int or number < 0:
                raise ValueError(f"a {name} must be a whole number from 0, not {number!r}")

    @property
    def what(self) -> What:
        return What(
            self.model,
            self.register,
            self.region,
            self.service_class,
            self.input_band,
            self.thinking,
            self.attributes,
        )


@dataclass(frozen=True, slots=True)
class PricedTerms:
    """The terms in force during one stretch of a billing period."""

    version: str
    period: Period
    terms: Terms


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which no price changes. bucket is "" without a calendar."""

    start: datetime
    end: datetime
    version: str
    bucket: str
