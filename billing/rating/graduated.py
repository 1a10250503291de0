"""Graduated: the more is used in a period, the further up (or down) the steps it pays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.document import Field, TariffInvalid
from billing.rating.shape import Portion, Position, check_per, check_price

STEPS_MAX = 100
STEP_FROM_MAX = 10**18


@dataclass(frozen=True, slots=True)
class Step:
    """Units beyond `start` (the start-th still belongs to the step below) pay this price."""

    start: int
    price: Decimal

    def __post_init__(self) -> None:
        check_price(self.price)

    def as_document(self, start: str = "from") -> dict[str, object]:
        return {start: self.start, "price": f"{self.price:f}"}


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit pays the price of the step it falls in; no step reprices another."""

    NAME: ClassVar[str] = "graduated"
    FIELDS: ClassVar[frozenset[str]] = frozenset({"steps"})

    steps: tuple[Step, ...]
    per: int = 1_000_000

    def __post_init__(self) -> None:
        check_per(self.per)
        check_steps(self.steps)

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        return cls(read_steps(fields["steps"]), per)

    def pour(self, quantity: int, at: Position) -> list[Portion]:
        """Pour the quantity over the steps; every step that gets wet becomes a portion."""
        end_of_all = at.used + quantity
        portions = []
        for number, step in enumerate(self.steps):
            end = self._end(number)
            top = end_of_all if end is None else min(end_of_all, end)
            here = top - max(at.used, step.start)
            if here > 0:
                portions.append(Portion(here, step.price, step=number))
        return portions

    def explain(self, portion: Portion) -> dict[str, object]:
        step = {
            "number": portion.step + 1,
            "of": len(self.steps),
            "from": self.steps[portion.step].start,
            "to": self._end(portion.step),
        }
        return {"step": step}

    def as_document(self) -> dict[str, object]:
        return {"steps": [step.as_document() for step in self.steps]}

    def _end(self, number: int) -> int | None:
        return self.steps[number + 1].start if number + 1 < len(self.steps) else None


def check_steps(steps: Sequence[Step]) -> None:
    """Raise ValueError unless the steps rise from zero."""
    starts = [step.start for step in steps]
    if starts[:1] != [0]:
        raise ValueError("the first step must start at zero")
    if starts != sorted(set(starts)):
        raise ValueError("steps must rise")


def read_steps(source: Field, *, above: str = "from") -> tuple[Step, ...]:
    """Read a list of steps, each with where it starts and its price. TariffInvalid if wrong."""
    steps: list[Step] = []
    for item in source.items(most=STEPS_MAX):
        step = item.members({above, "price"})
        start = step[above].whole(0, STEP_FROM_MAX)
        if not steps and start != 0:
            raise TariffInvalid(step[above].pointer, "must be 0: the first step starts there")
        if steps and start <= steps[-1].start:
            raise TariffInvalid(
                step[above].pointer,
                f"must be above {steps[-1].start}, where the step before starts; put the "
                "steps in rising order",
            )
        steps.append(Step(start, step["price"].price()))
    return tuple(steps)
