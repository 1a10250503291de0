"""Ladder: a percentage on the period for how well something was used, as for a power factor.

The reactive power of inference is cache that is held and does not work; the factor is the share
that did. Each hundredth below the standard costs, each above it earns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import ClassVar, Self

from billing.rating.charge import MINOR, Basis
from billing.rating.document import Field, TariffInvalid
from billing.rating.fee import read_percent
from billing.rating.line import RatedLine
from billing.rating.money import EXACT, from_minor

RUNGS_MAX = 20
_HUNDREDTH = Decimal("0.01")
_NOT_USE = ("standing", "fee", "minimum")  # the base is what was used, and the demand for it


@dataclass(frozen=True, slots=True)
class Rung:
    """Every hundredth from the rung before it to this factor is worth a percentage."""

    to: Decimal
    percent: Decimal


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs downwards add, rungs upwards give back."""

    KIND: ClassVar[str] = "ladder"
    EACH_VERSION: ClassVar[bool] = False
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"standard", "down"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"up"})

    code: str
    standard: Decimal
    down: tuple[Rung, ...]
    up: tuple[Rung, ...] = ()

    def __post_init__(self) -> None:
        for rungs, falls in ((self.down, True), (self.up, False)):
            tos = [self.standard, *(rung.to for rung in rungs)]
            if tos != sorted(set(tos), reverse=falls):
                raise ValueError("the rungs of a ladder must lead away from its standard")

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        standard = _read_factor(fields["standard"])
        down = _read_rungs(fields["down"], standard, falls=True)
        up = _read_rungs(fields["up"], standard, falls=False) if "up" in fields else ()
        return cls(code, standard, down, up)

    def percent(self, factor: Decimal) -> Decimal:
        """Return what a factor adds in per cent; negative where it gives back.

        The factor counts in whole hundredths, halves up.
        """
        here = factor.quantize(_HUNDREDTH, rounding=ROUND_HALF_UP)
        rungs, sign = (self.down, 1) if here < self.standard else (self.up, -1)
        percent, start = Decimal(0), self.standard
        with localcontext(EXACT):
            for rung in rungs:
                end = max(here, rung.to) if sign > 0 else min(here, rung.to)
                climbed = (start - end) * sign
                percent += max(Decimal(0), climbed) / _HUNDREDTH * rung.percent * sign
                start = rung.to
        return percent

    def lines(self, basis: Basis) -> list[RatedLine]:
        factor = basis.facts.occupancy
        if factor is None:
            return []
        percent, base = self.percent(factor), basis.minor(without=_NOT_USE)
        if not percent or not base:
            return []
        with localcontext(EXACT):
            price = from_minor(1, basis.currency) * abs(percent) / 100
        ladder = {"factor": f"{factor:f}", "percent": f"{percent:f}", "of_minor": base}
        explained = {"shape": self.KIND, "ladder": ladder}
        quantity = base if percent > 0 else -base
        return [basis.line(self.code, MINOR, quantity, price, explained)]

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "standard": f"{self.standard:f}",
            "down": _written(self.down),
        }
        return document | ({"up": _written(self.up)} if self.up else {})


def _written(rungs: Sequence[Rung]) -> list[dict[str, str]]:
    return [{"to": f"{rung.to:f}", "percent": f"{rung.percent:f}"} for rung in rungs]


def _read_rungs(source: Field, standard: Decimal, *, falls: bool) -> tuple[Rung, ...]:
    rungs: list[Rung] = []
    last = standard
    for item in source.items(most=RUNGS_MAX):
        fields = item.members({"to", "percent"})
        to = _read_factor(fields["to"])
        if to == last or (to < last) != falls:
            raise TariffInvalid(
                fields["to"].pointer, f"must lie {'below' if falls else 'above'} {last}; move it"
            )
        rungs.append(Rung(to, read_percent(fields["percent"])))
        last = to
    return tuple(rungs)


def _read_factor(source: Field) -> Decimal:
    factor = source.price()
    if factor > 1 or factor != factor.quantize(_HUNDREDTH, rounding=ROUND_HALF_UP):
        raise source.refuse("a factor from 0 to 1 in hundredths", 'write it like "0.90"')
    return factor
