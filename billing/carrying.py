"""What a published document may ask for: all that readings and invoices carry.

The engine rates more than a meter can tell. Whoever publishes what no reading can answer would
charge too little, or too much, so it is refused with the reason and what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from billing import costing
from billing.rating.demand import COINCIDENT, QUARTER_MINUTES, Demand
from billing.rating.ladder import Ladder
from billing.rating.pass_through import PassThrough
from billing.rating.tariff import Terms
from metering import readings

# Of what `Terms.asks_for` names; the rest has a sentence in REFUSED.
CARRIED: frozenset[str] = frozenset({
    "attributes of requests",
    "charges",
    "negative prices",
    "proration",
    "the size of each request",
    "what was drained before",
    "whether a request reasoned",
})  # fmt: skip
REFUSED = {
    "another time basis": (
        "An event has one instant, which its sender reports as occurred_at: have senders report "
        "the instant that is to count, and leave time_basis out."
    ),
}


def refusals(terms: Terms) -> list[str]:
    """Why terms cannot be billed from readings, in sentences; empty if they can."""
    return [
        *(REFUSED[name] for name in sorted(terms.asks_for - CARRIED)),
        *_of_requests(terms),
        *_of_charges(terms),
    ]


def _of_requests(terms: Terms) -> Iterator[str]:
    known = readings.request_attributes()
    if unknown := sorted(terms.attributes - set(known)):
        yield (
            f"Prices ask for {', '.join(unknown)}, and readings tell of {', '.join(known)}: "
            "choose among these."
        )


def _of_charges(terms: Terms) -> Iterator[str]:
    for charge in terms.charges:
        match charge:
            case Demand():
                yield from _of_demand(charge)
            case Ladder(held=None):
                yield (
                    f"The ladder {charge.code} goes by how well held cache was used, and does not "
                    "say which register tells for how long it was held: add held, with that "
                    "register and the seconds that are right for a token."
                )
            case PassThrough() if terms.currency != costing.CURRENCY:
                yield (
                    f"The charge {charge.code} passes on what a provider charged, which is kept in "
                    f"{costing.CURRENCY}: make a tariff in {costing.CURRENCY} for it."
                )


def _of_demand(demand: Demand) -> Iterator[str]:
    if demand.basis == COINCIDENT and demand.by_minute:
        yield (
            f"The demand {demand.code} looks for the whole system's peak, and not everybody's "
            "usage is summed by the minute: make its window and step multiples of "
            f"{QUARTER_MINUTES}."
        )
