"""What usage brings in and what it costs upstream: the open period, model by model.

Revenue is the period rated now, usage only; cost is the same readings at the upstream's costs. Both
are exact. Whom a model is bought from says the catalogue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, localcontext
from itertools import pairwise

from django.db.models import Q

from billing import pricing
from billing.feeds.listing import PER
from billing.models import CatalogModel, ModelAlias, ProviderCost, Subscription
from billing.rating.money import EXACT, total
from billing.rating.period import Period
from billing.rating.scope import REQUESTS
from metering import readings

CURRENCY = "USD"  # of every upstream cost


@dataclass(slots=True)
class ModelMargin:
    """One model in one organization's period. `uncosted_tokens` have no known cost, and neither has
    what is no tokens: images, searches."""

    model: str
    provider: str = ""
    revenue: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    uncosted_tokens: int = 0
    uncosted_others: int = 0
    costs_used: set[ProviderCost] = field(default_factory=set)

    @property
    def is_known(self) -> bool:
        """Whether the cost is that of everything that was used."""
        return not (self.uncosted_tokens or self.uncosted_others)

    @property
    def is_costed(self) -> bool:
        """Whether the cost says anything: that of some usage is known, or nothing was used."""
        return bool(self.costs_used) or self.is_known

    @property
    def margin(self) -> Decimal:
        return self.revenue - self.cost

    @property
    def percent(self) -> int | None:
        """Of the revenue, cut to whole percents; None where there is none."""
        return int(self.margin * 100 / self.revenue) if self.revenue else None

    @property
    def known_since(self) -> tuple[datetime, datetime] | None:
        """From when on the oldest and the newest of the costs used hold."""
        starts = [cost.valid_from for cost in self.costs_used]
        return (min(starts), max(starts)) if starts else None


@dataclass(frozen=True, slots=True)
class Margin:
    """One organization's open period. Sums leave out models of which some cost is unknown."""

    subscription: Subscription
    period: Period
    models: list[ModelMargin]  # what costs most first
    is_comparable: bool  # revenue is in the currency of costs

    @property
    def known(self) -> list[ModelMargin]:
        return [one for one in self.models if one.is_known]

    @property
    def revenue(self) -> Decimal:
        return total(one.revenue for one in self.known)

    @property
    def cost(self) -> Decimal:
        return total(one.cost for one in self.known)


def of(subscription: Subscription, period: Period) -> Margin:
    """The margin of a period as far as it is metered."""
    (metered,) = pricing.meter([(subscription, period)])
    models: dict[str, ModelMargin] = {}
    for line in metered.rated(pricing.past_of(metered)):
        row = models.setdefault(line.model, ModelMargin(line.model))
        row.revenue += line.amount
    _add_costs(models, subscription, period)
    return Margin(
        subscription,
        period,
        sorted(models.values(), key=lambda one: (-one.cost, -one.revenue, one.model)),
        subscription.tariff.currency == CURRENCY,
    )


def _add_costs(models: dict[str, ModelMargin], subscription: Subscription, period: Period) -> None:
    bought = _bought(models)
    costs = _costs(bought.values(), period)
    for row in models.values():
        row.provider = bought[row.model].provider if row.model in bought else ""
    slices = _slices(period, (cost.valid_from for found in costs.values() for cost in found))
    for used in readings.usage_in(subscription.organization_id, slices):
        if used.register == REQUESTS:
            continue
        row = models.setdefault(used.model, ModelMargin(used.model))
        if not readings.is_token(used.register):
            row.uncosted_others += used.quantity
            continue
        model = bought.get(used.model)
        found = costs.get((model.provider, model.name, used.register), []) if model else []
        cost = _in_force(found, slices[used.slice].start, used.input_band)
        if cost is None:
            row.uncosted_tokens += used.quantity
            continue
        with localcontext(EXACT):
            row.cost += cost.price * used.quantity / PER
        row.costs_used.add(cost)


def _bought(names: Iterable[str]) -> Mapping[str, CatalogModel]:
    """The catalogue's models by the names they are used under."""
    names = list(names)
    found = {model.name: model for model in CatalogModel.objects.filter(name__in=names)}
    aliases = ModelAlias.objects.filter(name__in=names).select_related("model")
    return {alias.name: alias.model for alias in aliases} | found


def _costs(
    models: Iterable[CatalogModel], period: Period
) -> Mapping[tuple[str, str, str], list[ProviderCost]]:
    rows = ProviderCost.objects.filter(
        Q(valid_to=None) | Q(valid_to__gt=period.start),
        model__in={model.name for model in models},
        withdrawn_at=None,
        valid_from__lt=period.end,
    ).order_by("valid_from")
    costs: dict[tuple[str, str, str], list[ProviderCost]] = defaultdict(list)
    for row in rows:
        costs[row.provider, row.model, row.register].append(row)
    return costs


def _slices(period: Period, changes: Iterable[datetime]) -> list[readings.Slice]:
    """The period, cut wherever a cost changes within it."""
    edges = sorted({period.start, period.end, *(at for at in changes if at in period)})
    return [readings.Slice(start, end) for start, end in pairwise(edges)]


def _in_force(
    costs: Sequence[ProviderCost], moment: datetime, input_band: int
) -> ProviderCost | None:
    """The cost at an instant, of the largest size that the request's input was above."""
    held = [
        cost
        for cost in costs
        if cost.valid_from <= moment
        and (cost.valid_to is None or moment < cost.valid_to)
        and cost.above <= input_band
    ]
    return max(held, key=lambda cost: cost.above, default=None)
