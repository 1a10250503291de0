"""Where to cut a billing period: usage summed within a segment is as good as every event."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from billing.rating.price_series import PriceSeries
from billing.rating.scope import What
from billing.rating.usage import PricedTerms, Segment, Usage


def segments(stretches: Sequence[PricedTerms]) -> list[Segment]:
    """Cut a billing period where the tariff version, the bucket or any other price changes.

    The segments tile the period, in order, in UTC: sum the readings within each before rating.
    ValueError unless the stretches follow each other without a gap, in one currency.
    """
    return [segment for _, segment in cut(stretches)]


def cut(stretches: Sequence[PricedTerms]) -> list[tuple[int, Segment]]:
    """Return the segments, each with the index of its stretch."""
    for before, after in pairwise(stretches):
        if before.period.end != after.period.start:
            raise ValueError(f"{after.version} must start when {before.version} ends")
        if before.terms.currency != after.terms.currency:
            raise ValueError(f"{after.version} must keep the currency of {before.version}")
    return [
        (index, Segment(start, end, stretch.version, bucket))
        for index, stretch in enumerate(stretches)
        for start, end, bucket in _pieces(stretch)
    ]


def boundaries(stretches: Iterable[PricedTerms]) -> frozenset[int]:
    """Return the sizes of input at which some price of a billing period changes."""
    return frozenset[int]().union(*(one.terms.boundaries for one in stretches))


def as_priced(what: What, sizes: Collection[int]) -> What:
    """Return usage in the bands of these sizes: a meter may tell requests apart more finely.

    How finely it happens to do so must not decide what is drained and poured first.
    """
    if not what.input_band:
        return what
    below = (size for size in sizes if size <= what.input_band)
    return what._replace(input_band=max(below, default=0))


def summed(
    usage: Iterable[Usage], pieces: Sequence[Segment], sizes: Collection[int]
) -> list[Counter[What]]:
    """Sum the usage of each segment, in bands of these sizes.

    What is finer than a segment or a band must not change the lines.
    """
    starts = [piece.start for piece in pieces]
    sums: list[Counter[What]] = [Counter() for _ in pieces]
    for item in usage:
        index = bisect_right(starts, item.start) - 1
        if index < 0 or item.end > pieces[index].end:
            raise ValueError(f"usage from {item.start} to {item.end} must lie within one segment")
        sums[index][as_priced(item.what, sizes)] += item.quantity
    return sums


def _pieces(stretch: PricedTerms) -> Iterator[tuple[datetime, datetime, str]]:
    edges = _edges(stretch)
    for start, end, bucket in _buckets(stretch):
        inside = [edge for edge in edges if start < edge < end]
        for opens, closes in pairwise([start, *inside, end]):
            yield opens, closes, bucket


def _edges(stretch: PricedTerms) -> list[datetime]:
    """Return where, besides the buckets, a price or an allowance begins or ends."""
    found = {edge for one in stretch.terms.allowances for edge in one.cuts(stretch.period)}
    for component in stretch.terms.components:
        if isinstance(component.shape, PriceSeries):
            found.update(component.shape.cuts(stretch.period))
    return sorted(found)


def _buckets(stretch: PricedTerms) -> list[tuple[datetime, datetime, str]]:
    if stretch.terms.calendar is None:
        return [(stretch.period.start, stretch.period.end, "")]
    return stretch.terms.calendar.segments(stretch.period)
