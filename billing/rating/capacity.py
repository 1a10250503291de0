"""Reserved capacity: tokens a minute paid for by the hour, used or not (PTU, take-or-pay).

How much of it a request takes is graduated in the length of its input, although the same seller's
pay-as-you-go prices are not: each token takes the coefficient of the step it lies in. What was
read from a cache comes first, and takes a share of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar, Self

from billing.rating.charge import Basis
from billing.rating.document import Field, TariffInvalid
from billing.rating.event import Event, is_input, is_output
from billing.rating.line import RatedLine
from billing.rating.money import EXACT
from billing.rating.period import QUARTER
from billing.rating.scope import matching, read_models
from billing.rating.shape import check_price

RESERVED = "reserved"  # the service class of what the reservation carried
CARRIES = ("", "standard")  # what it may carry: a batch or a priority call is paid as what it is
STEPS_MAX = 20
TPM_MAX = 10**15
INPUT_MAX = 10**12
PRICE_DECIMALS_MAX = 10  # a quarter of the price still fits the 12 that prices are kept with
SPILL, REJECT = "spill", "reject"
_OVERFLOW = re.compile(f"{SPILL}|{REJECT}")
_KTPM = 1_000


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What a token takes of the capacity beyond so much input; output goes by the request's."""

    above: int
    input: Decimal = Decimal(1)
    output: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request takes of a reservation, in capacity tokens."""

    input: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class Split:
    """Events by what carried them, and how much of the reservation they took."""

    events: list[Event]  # those carried have the service class `reserved`
    spilled: int
    taken: Taken


@dataclass(frozen=True, slots=True)
class Capacity:
    """A reservation of input and output tokens a minute for some models."""

    KIND: ClassVar[str] = "capacity"
    EACH_VERSION: ClassVar[bool] = True
    REQUIRED: ClassVar[frozenset[str]] = frozenset(
        {"models", "input_tpm", "output_tpm", "input_price", "output_price"}
    )
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"cache_read", "steps", "overflow"})

    code: str
    models: tuple[str, ...]
    input_tpm: int
    output_tpm: int
    input_price: Decimal  # per thousand tokens a minute and hour
    output_price: Decimal
    cache_read: Decimal = Decimal(1)
    steps: tuple[Coefficients, ...] = (Coefficients(0),)
    overflow: str = SPILL

    def __post_init__(self) -> None:
        for price in (self.input_price, self.output_price, self.cache_read):
            check_price(price)
        starts = [step.above for step in self.steps]
        if starts[:1] != [0] or starts != sorted(set(starts)):
            raise ValueError("steps must rise from zero")

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        optional: dict[str, object] = {}
        if "steps" in fields:
            optional["steps"] = _read_steps(fields["steps"])
        if "cache_read" in fields:
            optional["cache_read"] = fields["cache_read"].price()
        if "overflow" in fields:
            must = f'"{SPILL}" or "{REJECT}"'
            optional["overflow"] = fields["overflow"].text(_OVERFLOW, must)
        one = cls(
            code=code,
            models=read_models(fields["models"]),
            input_tpm=fields["input_tpm"].whole(0, TPM_MAX),
            output_tpm=fields["output_tpm"].whole(0, TPM_MAX),
            input_price=_read_price(fields["input_price"]),
            output_price=_read_price(fields["output_price"]),
        )
        return replace(one, **optional)  # type: ignore[arg-type]

    def taken(self, usage: Mapping[str, int]) -> Taken:
        """Return what a request takes: cached input first, then plain, then its output."""
        cached = usage.get("cache_read", 0)
        whole = sum(quantity for name, quantity in usage.items() if is_input(name))
        output = sum(quantity for name, quantity in usage.items() if is_output(name))
        last = max(step.above for step in self.steps if step.above < whole or not step.above)
        of_output = next(step.output for step in self.steps if step.above == last)
        with localcontext(EXACT):
            return Taken(
                self._input(0, cached) * self.cache_read + self._input(cached, whole),
                output * of_output,
            )

    def split(self, events: Iterable[Event]) -> Split:
        """Let the reservation carry events, in their order by the minute, as long as it can."""
        left: dict[datetime, Taken] = {}
        total, spilled, carried = Taken(Decimal(0), Decimal(0)), 0, []
        for event in sorted(events, key=lambda one: one.at("request_end")):
            if event.service_class not in CARRIES or matching(self.models, event.model) is None:
                carried.append(event)
                continue
            minute = event.at("request_end").replace(second=0, microsecond=0)
            room = left.get(minute, Taken(Decimal(self.input_tpm), Decimal(self.output_tpm)))
            takes = self.taken(event.usage)
            if takes.input <= room.input and takes.output <= room.output:
                left[minute] = Taken(room.input - takes.input, room.output - takes.output)
                total = Taken(total.input + takes.input, total.output + takes.output)
                carried.append(replace(event, service_class=RESERVED))
            else:
                spilled += 1
                if self.overflow == SPILL:
                    carried.append(event)
        return Split(carried, spilled, total)

    def utilisation(self, taken: Taken, period_minutes: int) -> Fraction:
        """Return the used share of the reserved input and output, 0 to 1."""
        reserved = (self.input_tpm + self.output_tpm) * period_minutes
        return Fraction(taken.input + taken.output) / reserved if reserved else Fraction(0)

    def lines(self, basis: Basis) -> list[RatedLine]:
        quarters = -((basis.part.start - basis.part.end) // QUARTER)
        explained = {
            "shape": self.KIND,
            "capacity": {
                "input_tpm": self.input_tpm,
                "output_tpm": self.output_tpm,
                "quarter_hours": quarters,
            },
        }
        sides = (
            ("input_tpm_quarter_hours", self.input_tpm, self.input_price),
            ("output_tpm_quarter_hours", self.output_tpm, self.output_price),
        )
        return [
            basis.line(self.code, register, tpm * quarters, _quarter(price), explained, per=_KTPM)
            for register, tpm, price in sides
            if tpm
        ]

    def as_document(self) -> dict[str, object]:
        steps = [
            {"above": step.above, "input": f"{step.input:f}", "output": f"{step.output:f}"}
            for step in self.steps
        ]
        return {
            "models": list(self.models),
            "input_tpm": self.input_tpm,
            "output_tpm": self.output_tpm,
            "input_price": f"{self.input_price:f}",
            "output_price": f"{self.output_price:f}",
            "cache_read": f"{self.cache_read:f}",
            "steps": steps,
            "overflow": self.overflow,
        }

    def _input(self, start: int, end: int) -> Decimal:
        """Pour the input tokens from start to end over the steps."""
        taken = Decimal(0)
        for step, following in pairwise([*self.steps, None]):
            assert step is not None
            top = end if following is None else min(end, following.above)
            taken += max(0, top - max(start, step.above)) * step.input
        return taken


def carried_by(capacities: Sequence[Capacity], events: Iterable[Event]) -> list[Event]:
    """Let each reservation in turn carry what it can."""
    found = list(events)
    for capacity in capacities:
        found = capacity.split(found).events
    return found


def units_needed(tokens_a_minute: Fraction, *, tpm_a_unit: int, least: int, step: int) -> int:
    """Return how many units of capacity to deploy: at least so many, and in steps beyond."""
    needed = -(-tokens_a_minute // tpm_a_unit)
    return least + max(0, -(-(needed - least) // step)) * step


def normalised(
    requests_a_minute: int, *, prompt: int, cached: Fraction, output: int, output_weight: int
) -> Fraction:
    """Return input-equivalent tokens a minute: cached ones are free, output ones weigh more."""
    return requests_a_minute * (prompt * (1 - cached) + output * output_weight)


def _quarter(price: Decimal) -> Decimal:
    with localcontext(EXACT):
        return price / 4


def _read_price(source: Field) -> Decimal:
    price = source.price()
    if len(f"{price:f}".partition(".")[2]) > PRICE_DECIMALS_MAX:
        raise source.refuse(f"a price of at most {PRICE_DECIMALS_MAX} decimals", "write it shorter")
    return price


def _read_steps(source: Field) -> tuple[Coefficients, ...]:
    steps: list[Coefficients] = []
    for item in source.items(most=STEPS_MAX):
        fields = item.members({"above", "input", "output"})
        above = fields["above"].whole(0, INPUT_MAX)
        if above <= (steps[-1].above if steps else -1) or (not steps and above):
            detail = "must be 0 in the first step, and rise from there; put them in order"
            raise TariffInvalid(fields["above"].pointer, detail)
        steps.append(Coefficients(above, fields["input"].price(), fields["output"].price()))
    return tuple(steps)
