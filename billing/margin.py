"""What usage brings in and what it costs upstream: the open period, model by model.

Revenue is the period rated now, usage only; cost is the same readings at the upstream's costs. Both
are exact. Whom a model is bought from says the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, localcontext
from itertools import pairwise

from billing import costing, pricing
from billing.costing import CURRENCY
from billing.feeds.listing import PER
from billing.models import ProviderCost, Subscription
from billing.rating.money import EXACT, total
from billing.rating.period import Period
from billing.rating.scope import REQUESTS
from metering import readings


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
    costs = costing.of_models(models, period)
    for row in models.values():
        row.provider = costs.provider(row.model)
    slices = _slices(period, costs.changes)
    for used in readings.usage_in(subscription.organization_id, slices):
        if used.register == REQUESTS:
            continue
        row = models.setdefault(used.model, ModelMargin(used.model))
        if not readings.is_token(used.register):
            row.uncosted_others += used.quantity
            continue
        start = slices[used.slice].start
        cost = costs.at(used.model, used.register, start, used.input_band)
        if cost is None:
            row.uncosted_tokens += used.quantity
            continue
        with localcontext(EXACT):
            row.cost += cost.price * used.quantity / PER
        row.costs_used.add(cost)


def _slices(period: Period, changes: Iterable[datetime]) -> list[readings.Slice]:
    """The period, cut wherever a cost changes within it."""
    edges = sorted({period.start, period.end, *(at for at in changes if at in period)})
    return [readings.Slice(start, end) for start, end in pairwise(edges)]
