"""Request size: the whole request pays the price of the tier its input reaches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from billing.rating.document import Field
from billing.rating.graduated import Step, check_steps, read_steps
from billing.rating.shape import Portion, Position, check_per


@dataclass(frozen=True, slots=True)
class RequestSize:
    """One request, one tier, all its tokens: no slicing as an income tax does.

    A tier begins above `start` tokens of input, cached tokens included and output not.
    """

    NAME: ClassVar[str] = "request_size"
    FIELDS: ClassVar[frozenset[str]] = frozenset({"tiers"})

    tiers: tuple[Step, ...]
    per: int = 1_000_000

    def __post_init__(self) -> None:
        check_per(self.per)
        check_steps(self.tiers)

    @classmethod
    def read(cls, fields: Mapping[str, Field], per: int) -> Self:
        return cls(read_steps(fields["tiers"], above="above"), per)

    @property
    def boundaries(self) -> frozenset[int]:
        """Return the sizes of input at which the price changes."""
        return frozenset(tier.start for tier in self.tiers[1:])

    def pour(self, quantity: int, at: Position) -> list[Portion]:
        reached = max(number for number, tier in enumerate(self.tiers) if tier.start <= at.band)
        return [Portion(quantity, self.tiers[reached].price, step=reached)]

    def explain(self, portion: Portion) -> dict[str, object]:
        after = self.tiers[portion.step + 1 :]
        tier = {
            "number": portion.step + 1,
            "of": len(self.tiers),
            "above": self.tiers[portion.step].start,
            "up_to": after[0].start if after else None,
        }
        return {"tier": tier}

    def as_document(self) -> dict[str, object]:
        return {"tiers": [tier.as_document("above") for tier in self.tiers]}
