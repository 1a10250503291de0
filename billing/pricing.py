"""Readings of billing periods, fetched in one statement, and rated against their tariffs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from billing import negotiations
from billing.models import Subscription
from billing.rating.period import Period
from billing.rating.rate import PricedTerms, RatedLine, Segment, Usage, rate, segments
from metering import readings


@dataclass(frozen=True, slots=True)
class Metered:
    """One billing period: the terms in force in it, and its usage as far as it is in readings."""

    stretches: Sequence[PricedTerms]
    usage: Sequence[Usage]

    def rated(self, *, until: datetime | None = None) -> list[RatedLine]:
        """Price the usage; with `until`, only what was used before that cut."""
        used = [item for item in self.usage if until is None or item.end <= until]
        return rate(used, self.stretches)


def meter(
    periods: Sequence[tuple[Subscription, Period]], *, cut: datetime | None = None
) -> list[Metered]:
    """Fetch the usage of several periods of one organization as of one instant.

    One statement, so late usage that arrives meanwhile is in all of the answer or in none of it.
    """
    if not periods:
        return []
    (organization_id,) = {subscription.organization_id for subscription, _ in periods}
    terms = negotiations.terms_in_each(periods)
    slices = [
        (index, piece)
        for index, stretches in enumerate(terms)
        for segment in segments(stretches)
        for piece in _pieces(segment, cut)
    ]
    usage: list[list[Usage]] = [[] for _ in periods]
    for found in readings.usage_in(organization_id, [piece for _, piece in slices]):
        index, piece = slices[found.slice]
        usage[index].append(_usage(piece, found))
    return [Metered(*of_period) for of_period in zip(terms, usage, strict=True)]


def _pieces(segment: Segment, cut: datetime | None) -> Iterator[readings.Slice]:
    if cut is not None and segment.start < cut < segment.end:
        yield readings.Slice(segment.start, cut)
        yield readings.Slice(cut, segment.end)
    else:
        yield readings.Slice(segment.start, segment.end)


def _usage(piece: readings.Slice, found: readings.SliceUsage) -> Usage:
    return Usage(
        start=piece.start,
        end=piece.end,
        model=found.model,
        register=found.register,
        region=found.region,
        service_class=found.service_class,
        quantity=found.quantity,
    )
