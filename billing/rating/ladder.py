"""Ladder: a percentage on the period for how well something was used, as for a power factor.

The reactive power of inference is cache that is held and does not work; the factor is the share
that did. Each hundredth below the standard costs, each above it earns.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import ClassVar, Self

from billing.rating.charge import MINOR, Basis
from billing.rating.document import Field, TariffInvalid
from billing.rating.event import is_input, is_output
from billing.rating.fee import read_percent
from billing.rating.line import RatedLine
from billing.rating.money import EXACT, from_minor, round_half_up

RUNGS_MAX = 20
RESIDENCY_S_MAX = 31_536_000  # a year
_STOCK = re.compile(r"[a-z][a-z0-9_]{0,31}_(hours|seconds)", re.ASCII)
_SECONDS = {"hours": 3_600, "seconds": 1}
_HUNDREDTH = Decimal("0.01")
_NOT_USE = ("standing", "fee", "minimum")  # the base is what was used, and the demand for it


@dataclass(frozen=True, slots=True)
class Rung:
    """Every hundredth from the rung before it to this factor is worth a percentage."""

    to: Decimal
    percent: Decimal


@dataclass(frozen=True, slots=True)
class Held:
    """How the factor is told: by what cache was held, and how long it may be for each token used.

    The factor is the tokens in and out, each times the residency, over the token-seconds held: 1
    where no more was held than their use explains, and never above.
    """

    register: str
    residency_s: int

    def factor(self, used: Mapping[str, int]) -> Decimal | None:
        """Return the factor in whole hundredths, halves up; None where nothing was held."""
        held_s = self._held_s(used)
        if not held_s:
            return None
        share = Fraction(_tokens(used) * self.residency_s, held_s)
        return Decimal(round_half_up(min(share, Fraction(1)) * 100)).scaleb(-2)

    def explained(self, used: Mapping[str, int]) -> dict[str, object]:
        """Return the numbers behind the factor."""
        return {
            "register": self.register,
            "quantity": used.get(self.register, 0),
            "tokens": _tokens(used),
            "residency_s": self.residency_s,
        }

    def _held_s(self, used: Mapping[str, int]) -> int:
        each_s = _SECONDS[self.register.rpartition("_")[2]]
        return used.get(self.register, 0) * each_s


def _tokens(used: Mapping[str, int]) -> int:
    return sum(tokens for name, tokens in used.items() if is_input(name) or is_output(name))


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs downwards add, rungs upwards give back."""

    KIND: ClassVar[str] = "ladder"
    EACH_VERSION: ClassVar[bool] = False
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"standard", "down"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"up", "held"})

    code: str
    standard: Decimal
    down: tuple[Rung, ...]
    up: tuple[Rung, ...] = ()
    held: Held | None = None  # None: whoever rates the period says what the factor was

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
        held = _read_held(fields["held"]) if "held" in fields else None
        return cls(code, standard, down, up, held)

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
        factor = self.held.factor(basis.facts.used) if self.held else basis.facts.occupancy
        if factor is None:
            return []
        percent, base = self.percent(factor), basis.minor(without=_NOT_USE)
        if not percent or not base:
            return []
        with localcontext(EXACT):
            price = from_minor(1, basis.currency) * abs(percent) / 100
        ladder: dict[str, object] = {
            "factor": f"{factor:f}",
            "percent": f"{percent:f}",
            "of_minor": base,
        }
        if self.held:
            ladder["held"] = self.held.explained(basis.facts.used)
        explained = {"shape": self.KIND, "ladder": ladder}
        quantity = base if percent > 0 else -base
        return [basis.line(self.code, MINOR, quantity, price, explained)]

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "standard": f"{self.standard:f}",
            "down": _written(self.down),
        }
        if self.up:
            document["up"] = _written(self.up)
        if self.held:
            document["held"] = {
                "register": self.held.register,
                "residency_s": self.held.residency_s,
            }
        return document


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


def _read_held(source: Field) -> Held:
    fields = source.members({"register", "residency_s"})
    return Held(
        fields["register"].text(_STOCK, "a register that ends in _hours or _seconds"),
        fields["residency_s"].whole(1, RESIDENCY_S_MAX),
    )


def _read_factor(source: Field) -> Decimal:
    factor = source.price()
    if factor > 1 or factor != factor.quantize(_HUNDREDTH, rounding=ROUND_HALF_UP):
        raise source.refuse("a factor from 0 to 1 in hundredths", 'write it like "0.90"')
    return factor
