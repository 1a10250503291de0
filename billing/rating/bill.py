"""From usage to what stands on the bill: sixteen steps in one order, and who carries each.

The order is the meaning: a free quota that drained after the discounts, or a fee on what a minimum
topped up, would be another tariff. Steps 1 to 3 and 16 belong to other rooms.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from billing.rating.capacity import Capacity, carried_by
from billing.rating.charge import Basis, Facts, UpstreamCost
from billing.rating.charges import CHARGES
from billing.rating.event import Event
from billing.rating.events import usage_of
from billing.rating.line import RatedLine
from billing.rating.paper import PaperLine, printed, tax_minor
from billing.rating.period import Period
from billing.rating.rate import Drained, rate
from billing.rating.scope import REQUESTS
from billing.rating.usage import PricedTerms, Usage


class Step(NamedTuple):
    """One step of the way, and the module in which it is taken."""

    number: int
    does: str
    module: str


STEPS = (
    Step(1, "take in, recognise replays, verify", "metering.ingest, billing.rating.gathering"),
    Step(2, "validate and estimate; give each quantity its quality", "metering.validation"),
    Step(3, "split registers into disjoint ones", "metering.usage.dialects"),
    Step(4, "find the version by the instant of use", "billing.rating.segments"),
    Step(5, "take the service class actually served", "billing.rating.scope"),
    Step(6, "choose the tier by the whole input", "billing.rating.request_size"),
    Step(7, "choose the bucket of the time of use", "billing.rating.calendar"),
    Step(8, "drain free tokens", "billing.rating.allowance"),
    Step(9, "price what is left: listed price, then modifiers", "billing.rating.modifier"),
    Step(10, "count blocks over the period", "billing.rating.graduated, volume, package"),
    Step(11, "charge demand, capacity, days, fees, the minimum", "billing.rating.charges"),
    Step(12, "adjust by ladders", "billing.rating.ladder"),
    Step(
        13, "settle commitments and money grants", "billing.rating.commitment, settling.waterfall"
    ),
    Step(14, "round each line once", "billing.rating.paper"),
    Step(15, "tax the net total of each rate", "billing.rating.paper"),
    Step(16, "take it from the wallet, or ask for it", "billing.settling.prepaid"),
)


@dataclass(frozen=True, slots=True)
class Bill:
    """A period's lines as rated and as printed, and their totals in minor units."""

    currency: str
    lines: list[RatedLine]
    paper: list[PaperLine]
    net_minor: int
    tax_minor: int

    @property
    def total_minor(self) -> int:
        return self.net_minor + self.tax_minor


def bill(
    usage: Iterable[Usage],
    stretches: Sequence[PricedTerms],
    facts: Facts,
    *,
    drained: Drained | None = None,
    tax_percent: Decimal = Decimal(0),
) -> Bill:
    """Take steps 4 to 15 for one billing period."""
    used = list(usage)
    lines = rate(used, stretches, drained=drained)
    lines += charged(lines, stretches, with_usage(facts, used))
    currency = stretches[-1].terms.currency
    paper = printed(lines, currency)
    net = sum(line.minor for line in paper)
    return Bill(currency, lines, paper, net, tax_minor(net, tax_percent))


def with_usage(facts: Facts, usage: Iterable[Usage]) -> Facts:
    """Add what was used in the period altogether, for the charges that rest on it."""
    used: Counter[str] = Counter()
    for item in usage:
        used[item.register] += item.quantity
    return replace(facts, requests=used[REQUESTS], used=used)


def bill_events(
    events: Iterable[Event],
    stretches: Sequence[PricedTerms],
    facts: Facts,
    *,
    drained: Drained | None = None,
    tax_percent: Decimal = Decimal(0),
) -> Bill:
    """Bill single requests: reservations carry what they can, the rest is paid as it goes."""
    found = list(events)
    for stretch in stretches:
        capacities = [one for one in stretch.terms.charges if isinstance(one, Capacity)]
        inside = [one for one in found if one.at("request_start") in stretch.period]
        others = [one for one in found if one.at("request_start") not in stretch.period]
        found = others + carried_by(capacities, inside)
    usage = usage_of(found, stretches)
    return bill(usage, stretches, facts, drained=drained, tax_percent=tax_percent)


def bill_request(event: Event, stretches: Sequence[PricedTerms], facts: Facts) -> Bill:
    """Bill one request by itself: before allowances and charges, which belong to a whole period,
    and at the first step of prices that change with its volume."""
    alone = [
        replace(stretch, terms=replace(stretch.terms, allowances=(), charges=()))
        for stretch in stretches
    ]
    return bill_events([event], alone, facts)


def charged(
    rated: Sequence[RatedLine], stretches: Sequence[PricedTerms], facts: Facts
) -> list[RatedLine]:
    """Return the lines of the period's charges, kind by kind: a later kind sees the earlier ones.

    Days, reservations and providers' costs are charged by each version for its part; all else
    once, by the version in force at the end of the period, and so are costs told of all of it.
    """
    period = Period(stretches[0].period.start, stretches[-1].period.end)
    if facts.provider_cost_micros:
        costs = {name: UpstreamCost(cost) for name, cost in facts.provider_cost_micros.items()}
        facts = replace(facts, provider_costs={stretches[-1].period.start: costs})
    lines = list(rated)
    for kind in CHARGES.values():
        for stretch in stretches if kind.EACH_VERSION else stretches[-1:]:
            for charge in stretch.terms.charges:
                if charge.KIND == kind.KIND:
                    part = stretch.period if kind.EACH_VERSION else period
                    lines += charge.lines(
                        Basis(
                            version=stretch.version,
                            part=part,
                            whole=facts.whole or period,
                            currency=stretch.terms.currency,
                            facts=facts,
                            before=tuple(lines),
                        )
                    )
    return lines[len(rated) :]


def add_load(load: dict[str, dict[datetime, int]], event: Event) -> None:
    """Add one event's tokens to its meter's load, in the minute in which the request ended."""
    minute = event.at("request_end").replace(second=0, microsecond=0)
    of_meter = load.setdefault(event.meter, {})
    of_meter[minute] = of_meter.get(minute, 0) + event.tokens
