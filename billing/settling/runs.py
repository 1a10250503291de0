"""Runs: one period settled again as its readings firm up, each time for the difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import pairwise

from billing.rating.money import EXACT


def settlement_runs(tokens: Sequence[int], price_per_mtok: Decimal) -> list[Decimal]:
    """Return what each run bills: the difference to the run before. They add up to the last."""
    with localcontext(EXACT):
        amounts = [(price_per_mtok * run).scaleb(-6) for run in tokens]
        return [after - before for before, after in pairwise([Decimal(0), *amounts])]


@dataclass(frozen=True, slots=True)
class Budget:
    """A year in equal instalments, settled against what it cost."""

    forecast: Decimal
    months: int = 12
    review_percent: int = 10

    @property
    def instalment(self) -> Decimal:
        """Return a month's instalment. decimal.Inexact unless the forecast divides evenly."""
        with localcontext(EXACT):
            return self.forecast / self.months

    def settle_up(self, actual: Decimal) -> Decimal:
        """Return what the last month adds, or gives back."""
        with localcontext(EXACT):
            return actual - self.instalment * self.months

    def to_review(self, paid: Decimal, used: Decimal) -> bool:
        """Say whether use and instalments have drifted apart by more than the review allows."""
        return abs(used - paid) * 100 > paid * self.review_percent
