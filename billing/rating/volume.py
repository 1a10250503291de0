"""Volume: the whole quantity of a period pays the price of the step it reaches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from billing.rating.document import Field
from billing.rating.graduated import Step, check_steps, read_steps
from billing.rating.shape import Portion, Position, check_per


@dataclass(frozen=True, slots=True)
class Volume:
    """The step the period's total reaches reprices every unit of the period: it has a cliff."""

    NAME: ClassVar[str] = "volume"
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
        """Pay for all what the last step below the period's total costs."""
        reached = max(number for number, step in enumerate(self.steps) if step.start < at.total)
        return [Portion(quantity, self.steps[reached].price, step=reached)]

    def explain(self, portion: Portion) -> dict[str, object]:
        after = self.steps[portion.step + 1 :]
        volume = {
            "number": portion.step + 1,
            "of": len(self.steps),
            "from": self.steps[portion.step].start,
            "to": after[0].start if after else None,
        }
        return {"volume": volume}

    def as_document(self) -> dict[str, object]:
        return {"steps": [step.as_document() for step in self.steps]}
