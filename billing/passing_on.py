"""What upstreams charged for usage that is passed on at cost: by version, model, register, price.

The cost of the served usage by the approved costs that hold when it is used. What has no known
cost is not passed on as nothing: no document is made of such a period.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from billing import costing
from billing.costing import Costs
from billing.rating.charge import CostPart, UpstreamCost
from billing.rating.pass_through import PassThrough
from billing.rating.period import Period
from billing.rating.scope import REQUESTS, matching
from billing.rating.usage import PricedTerms, Usage
from billing.waiting import Unknown


@dataclass(slots=True)
class PassedOn:
    """What usage cost upstream, by the start of the stretch and by model; and what has no cost."""

    costs: dict[datetime, dict[str, UpstreamCost]] = field(default_factory=dict)
    unknown: set[Unknown] = field(default_factory=set)


def is_asked_for(stretches: Iterable[PricedTerms]) -> bool:
    """Whether some terms pass on what upstreams charge."""
    return any(_charges(stretch) for stretch in stretches)


def costs_for(stretches: Sequence[PricedTerms], usage: Iterable[Usage]) -> Costs | None:
    """The costs that the usage of a period needs; None where none is passed on."""
    if not is_asked_for(stretches):
        return None
    period = Period(stretches[0].period.start, stretches[-1].period.end)
    return costing.of_models({item.model for item in usage}, period)


def passed_on(
    stretches: Sequence[PricedTerms], usage: Sequence[Usage], costs: Costs | None
) -> PassedOn:
    """What the usage cost upstream. No piece of usage may reach across a change of costs."""
    found = PassedOn()
    if costs is None:
        return found
    for stretch in stretches:
        if charges := _charges(stretch):
            inside = [item for item in usage if item.start in stretch.period]
            found.costs[stretch.period.start] = _by_model(charges, inside, costs, found.unknown)
    return found


def _charges(stretch: PricedTerms) -> list[PassThrough]:
    return [one for one in stretch.terms.charges if isinstance(one, PassThrough)]


def _by_model(
    charges: Sequence[PassThrough], usage: Iterable[Usage], costs: Costs, unknown: set[Unknown]
) -> dict[str, UpstreamCost]:
    quantities: dict[str, Counter[tuple[str, Decimal]]] = defaultdict(Counter)
    for item in usage:
        covered = any(matching(one.models, item.model) is not None for one in charges)
        if not covered or item.register == REQUESTS or not item.quantity:
            continue
        cost = costs.at(item.model, item.register, item.start, item.input_band)
        if cost is None:
            unknown.add((item.model, item.register))
        else:
            quantities[item.model][item.register, cost.price.normalize()] += item.quantity
    return {
        model: UpstreamCost.of(
            CostPart(register, quantity, price)
            for (register, price), quantity in sorted(parts.items())
        )
        for model, parts in quantities.items()
    }
