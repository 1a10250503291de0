"""From single requests to rated lines: quotes, `manage.py rate`, and checks of the readings.

An event is turned into the usage its reading would hold: the same quarter-hour, the same rating
key. Rating events and rating the readings made of them give the same lines.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from billing.rating.event import Event, band_of
from billing.rating.line import RatedLine
from billing.rating.period import QUARTER, quarter_hour
from billing.rating.rate import Drained, rate
from billing.rating.scope import REQUESTS
from billing.rating.segments import boundaries
from billing.rating.usage import PricedTerms, Usage

__all__ = ["Event", "band_of", "rate_events", "usage_of"]


def usage_of(events: Iterable[Event], stretches: Sequence[PricedTerms]) -> list[Usage]:
    """Return the usage that readings would hold, with the bands of these terms.

    ValueError for an event outside the stretches.
    """
    sizes = boundaries(stretches)
    return [item for event in events for item in usage_of_one(event, stretches, sizes)]


def rate_events(
    events: Iterable[Event],
    stretches: Sequence[PricedTerms],
    *,
    drained: Drained | None = None,
) -> list[RatedLine]:
    """Price a billing period's events, each counted once by its identity beforehand."""
    return rate(usage_of(events, stretches), stretches, drained=drained)


def usage_of_one(
    event: Event, stretches: Sequence[PricedTerms], sizes: frozenset[int]
) -> list[Usage]:
    """Return what one event adds to the readings. ValueError if it lies outside the stretches."""
    start = quarter_hour(_instant(event, stretches))
    band = band_of(event.input_tokens, sizes)
    return [
        Usage(
            start=start,
            end=start + QUARTER,
            model=event.model,
            register=register,
            region=event.region,
            service_class=event.service_class,
            quantity=quantity,
            input_band=band,
            thinking=event.thought,
            attributes=event.all_attributes,
        )
        for register, quantity in {**event.usage, REQUESTS: 1}.items()
    ]


def _instant(event: Event, stretches: Sequence[PricedTerms]) -> datetime:
    """Return the instant that counts: by the basis of the first version that holds at it.

    A request may start under one version and end under another: each decides by its own basis
    whether it was its own; where none claims it, it is the version's in which it started.
    """
    for stretch in stretches:
        moment = event.at(stretch.terms.time_basis)
        if moment in stretch.period:
            return moment
    start = event.at("request_start")
    if any(start in stretch.period for stretch in stretches):
        return start
    raise ValueError(f"event {event.id} of {start.isoformat()} lies outside the period")
