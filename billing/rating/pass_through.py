"""Pass-through: what the provider charged us, with a markup."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import ClassVar, Self

from billing.rating.charge import Basis, UpstreamCost
from billing.rating.document import Field
from billing.rating.fee import read_percent
from billing.rating.line import RatedLine
from billing.rating.money import EXACT
from billing.rating.scope import matching, read_models
from billing.rating.shape import check_price

MICROS = 1_000_000
PROVIDER_COST = "provider_cost"  # the register of its lines, in millionths


@dataclass(frozen=True, slots=True)
class PassThrough:
    """The provider's cost of some models, known to the millionth, times one plus the markup."""

    KIND: ClassVar[str] = "pass_through"
    EACH_VERSION: ClassVar[bool] = True
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"models", "markup_percent"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    code: str
    models: tuple[str, ...]
    markup_percent: Decimal

    def __post_init__(self) -> None:
        check_price(self.markup_percent)

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        return cls(code, read_models(fields["models"]), read_percent(fields["markup_percent"]))

    def lines(self, basis: Basis) -> list[RatedLine]:
        with localcontext(EXACT):
            factor = 1 + self.markup_percent / 100
        costs = sorted(basis.facts.provider_costs.get(basis.part.start, {}).items())
        return [
            basis.line(
                self.code, PROVIDER_COST, cost.micros, factor, self._explained(cost), per=MICROS,
                model=model,
            )
            for model, cost in costs
            if cost.micros and matching(self.models, model) is not None
        ]  # fmt: skip

    def _explained(self, cost: UpstreamCost) -> dict[str, object]:
        explained: dict[str, object] = {
            "shape": self.KIND,
            "markup_percent": f"{self.markup_percent:f}",
        }
        if cost.parts:
            parts = [[one.register, one.quantity, f"{one.price:f}"] for one in cost.parts]
            explained[self.KIND] = {"micros": cost.micros, "parts": parts}
        return explained

    def as_document(self) -> dict[str, object]:
        return {"models": list(self.models), "markup_percent": f"{self.markup_percent:f}"}
