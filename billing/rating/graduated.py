"""Graduated: the more is used in a period, the further up (or down) the steps it pays."""

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each unit pays the price of the step it falls in; no step reprices another."""

    NAME: ClassVar[str] = "graduated"
    FIELDS: ClassVar[frozenset[str]] = frozenset({"steps"})

    steps: tuple[Step, ...]
    per: int = 1_000_000

    def __post_init__(self) -> None:
        check_per(self.per)
        starts = [step.start for step in self.steps]
        if starts[:1] != [0]:
            raise ValueError("the first step must start at zero")
        if starts != sorted(set(starts)):
            raise ValueError("steps must rise")

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        steps: list[Step] = []
        for item in fields["steps"].items(most=STEPS_MAX):
            step = item.members({"from", "price"})
            start = step["from"].whole(0, STEP_FROM_MAX)
            if not steps and start != 0:
                raise TariffInvalid(step["from"].pointer, "must be 0: the first step starts there")
            if steps and start <= steps[-1].start:
                raise TariffInvalid(
                    step["from"].pointer,
                    f"must be above {steps[-1].start}, where the step before starts; put the "
                    "steps in rising order",
                )
            steps.append(Step(start, step["price"].price()))
        return cls(tuple(steps), per)

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
        return {"steps": [{"from": step.start, "price": f"{step.price:f}"} for step in self.steps]}

    def _end(self, number: int) -> int | None:
        return self.steps[number + 1].start if number + 1 < len(self.steps) else None
