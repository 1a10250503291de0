"""What usage costs upstream: the approved costs, found by the name a model was used under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from billing.models import CatalogModel, ModelAlias, ProviderCost
from billing.rating.period import Period

CURRENCY = "USD"  # of every upstream cost
Key = tuple[str, str, str]  # provider, model, register


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of some models in a stretch of time."""

    bought: Mapping[str, CatalogModel]  # by the name that usage has
    costs: Mapping[Key, Sequence[ProviderCost]]

    def provider(self, model: str) -> str:
        """Whom a model is bought from; empty where the catalogue does not know it."""
        return self.bought[model].provider if model in self.bought else ""

    def at(
        self, model: str, register: str, moment: datetime, input_band: int
    ) -> ProviderCost | None:
        """The cost at an instant, of the largest size that the request's input was above."""
        if model not in self.bought:
            return None
        sold = self.bought[model]
        held = [
            cost
            for cost in self.costs.get((sold.provider, sold.name, register), ())
            if cost.valid_from <= moment
            and (cost.valid_to is None or moment < cost.valid_to)
            and cost.above <= input_band
        ]
        return max(held, key=lambda cost: cost.above, default=None)

    @property
    def changes(self) -> set[datetime]:
        """Where a cost begins."""
        return {cost.valid_from for costs in self.costs.values() for cost in costs}


def of_models(names: Iterable[str], period: Period) -> Costs:
    """The costs in a period of models by the names they are used under."""
    bought = _bought(names)
    rows = _in(period).filter(model__in={model.name for model in bought.values()})
    costs: dict[Key, list[ProviderCost]] = defaultdict(list)
    for row in rows:
        costs[row.provider, row.model, row.register].append(row)
    return Costs(bought, costs)


def changes_in(period: Period) -> list[datetime]:
    """Where any cost begins within a period: usage of before and after costs differently."""
    begins = _in(period).filter(valid_from__gt=period.start).order_by("valid_from")
    return list(begins.values_list("valid_from", flat=True).distinct())


def _in(period: Period) -> QuerySet[ProviderCost]:
    return ProviderCost.objects.filter(
        Q(valid_to=None) | Q(valid_to__gt=period.start),
        withdrawn_at=None,
        valid_from__lt=period.end,
    ).order_by("valid_from")


def _bought(names: Iterable[str]) -> Mapping[str, CatalogModel]:
    """The catalogue's models by the names they are used under."""
    names = list(names)
    found = {model.name: model for model in CatalogModel.objects.filter(name__in=names)}
    aliases = ModelAlias.objects.filter(name__in=names).select_related("model")
    return {alias.name: alias.model for alias in aliases} | found
