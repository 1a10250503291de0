"""Rate usage: readings times tariff, line by line, each with its trace."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from billing.rating.line import ALLOWANCE, UNPRICED, LineKey, RatedLine
from billing.rating.period import Period, utc
from billing.rating.sentences import sentences
from billing.rating.shape import Portion, Position
from billing.rating.tariff import REQUESTS, Allowance, RateComponent, Terms, matching

__all__ = ["PricedTerms", "RatedLine", "Segment", "Usage", "rate", "segments", "sentences"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Readings summed over one segment: one model, register, region and service class."""

    start: datetime
    end: datetime
    model: str
    register: str
    region: str
    service_class: str
    quantity: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", utc(self.start))
        object.__setattr__(self, "end", utc(self.end))
        if type(self.quantity) is not int or self.quantity < 0:
            raise ValueError(f"a quantity must be a whole number from 0, not {self.quantity!r}")


@dataclass(frozen=True, slots=True)
class PricedTerms:
    """The terms in force during one stretch of a billing period."""

    version: str
    period: Period
    terms: Terms


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which no price changes. bucket is "" without a calendar."""

    start: datetime
    end: datetime
    version: str
    bucket: str


def segments(stretches: Sequence[PricedTerms]) -> list[Segment]:
    """Cut a billing period where the tariff version or the bucket changes.

    The segments tile the period, in order, in UTC: sum the readings within each before rating.
    ValueError unless the stretches follow each other without a gap, in one currency.
    """
    return [segment for _, segment in _cut(stretches)]


def rate(usage: Iterable[Usage], stretches: Sequence[PricedTerms]) -> list[RatedLine]:
    """Price a billing period's usage; the order of the usage does not matter.

    Allowances drain first, then the first component that matches prices the rest. Counters of
    allowances and steps belong to a code and run through the whole period, also where the
    version changes. ValueError for usage that does not lie within one segment.
    """
    pieces = _cut(stretches)
    rating = _Rating(stretches)
    by_piece = _summed(usage, [segment for _, segment in pieces])
    for (stretch, segment), here in zip(pieces, by_piece, strict=True):
        rating.enter(stretch, segment)
        rating.price(rating.drain(here))
    lines = rating.lines()
    _assert_nothing_lost(by_piece, lines, rating.left_out)
    return lines


class _What(NamedTuple):
    model: str
    register: str
    region: str
    service_class: str


@dataclass(slots=True)
class _Draft:
    """A line in the making: how much so far, over which stretch of time, and what priced it."""

    rank: tuple[int, int, int]  # stretch; allowance, component or nothing; place in the document
    terms: Terms
    source: Allowance | RateComponent | None
    portion: Portion  # the first to come; the others differ in quantity only
    first: datetime
    last: datetime
    quantity: int = 0
    segments: int = 0


@dataclass(slots=True)
class _Rating:
    """One billing period being rated, segment by segment, in time order."""

    stretches: Sequence[PricedTerms]
    stretch: int = field(init=False)
    segment: Segment = field(init=False)
    terms: Terms = field(init=False)
    used: Counter[str] = field(default_factory=Counter)
    drained: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    drafts: dict[LineKey, _Draft] = field(default_factory=dict)
    found: dict[tuple[int, _What], tuple[int, RateComponent] | None] = field(default_factory=dict)

    def enter(self, stretch: int, segment: Segment) -> None:
        self.stretch, self.segment = stretch, segment
        self.terms = self.stretches[stretch].terms

    def drain(self, here: Counter[_What]) -> Counter[_What]:
        """Take the allowances' share; return what is left to be priced."""
        left = Counter(here)
        for rank, allowance in enumerate(self.terms.allowances):
            for what in self._drainable(allowance, left):
                room = max(0, allowance.tokens - self.drained[allowance.code])
                free = min(room, left[what])
                if free:
                    self.drained[allowance.code] += free
                    left[what] -= free
                    self._add(allowance, (0, rank), what, Portion(free, Decimal(0)))
        return left

    def price(self, left: Counter[_What]) -> None:
        """Pour what is left into the components, in the order of their registers."""
        for what in sorted(left, key=self._pouring_order):
            found = self._component(what)
            if not left[what]:
                continue
            if found is not None:
                self._pour(*found, what, left[what])
            elif what.register == REQUESTS:  # a count of events is no quantity sold
                self.left_out[what.model, what.register] += left[what]
            else:
                self._add(None, (2, 0), what, Portion(left[what], Decimal(0)))

    def lines(self) -> list[RatedLine]:
        """Return the lines: by version, then allowances, components in their order, unpriced."""
        keys = sorted(self.drafts, key=lambda key: (self.drafts[key].rank, key))
        return [_line(key, self.drafts[key]) for key in keys]

    def _drainable(self, allowance: Allowance, left: Counter[_What]) -> list[_What]:
        # Usage without a price is free already, and a hole in the tariff that nobody should hide.
        drainable = [
            what
            for what in left
            if allowance.covers(what.model, what.register) and self._component(what) is not None
        ]
        return sorted(drainable, key=lambda what: (allowance.registers.index(what.register), what))

    def _pouring_order(self, what: _What) -> tuple[int, _What]:
        found = self._component(what)
        return (found[1].registers.index(what.register) if found else 0), what

    def _pour(self, rank: int, component: RateComponent, what: _What, quantity: int) -> None:
        at = Position(used=self.used[component.code], bucket=self.segment.bucket)
        portions = component.shape.pour(quantity, at)
        assert sum(portion.quantity for portion in portions) == quantity
        self.used[component.code] += quantity
        for portion in portions:
            self._add(component, (1, rank), what, portion)

    def _add(
        self,
        source: Allowance | RateComponent | None,
        rank: tuple[int, int],
        what: _What,
        portion: Portion,
    ) -> None:
        key = LineKey(
            version=self.segment.version,
            component=_code(source),
            model=what.model,
            register=what.register,
            bucket=portion.bucket,
            step=portion.step,
            unit_price=portion.unit_price,
            per=source.shape.per if isinstance(source, RateComponent) else 1,
        )
        start, end = self.segment.start, self.segment.end
        draft = self.drafts.get(key)
        if draft is None:
            draft = _Draft((self.stretch, *rank), self.terms, source, portion, start, start)
            self.drafts[key] = draft
        if draft.last < end:  # two regions in one segment are still one segment
            draft.last = end
            draft.segments += 1
        draft.quantity += portion.quantity

    def _component(self, what: _What) -> tuple[int, RateComponent] | None:
        asked = (self.stretch, what)
        if asked not in self.found:
            self.found[asked] = self.terms.component_for(*what)
        return self.found[asked]


def _code(source: Allowance | RateComponent | None) -> str:
    match source:
        case Allowance():
            return ALLOWANCE + source.code
        case RateComponent():
            return source.code
        case None:
            return UNPRICED


def _line(key: LineKey, draft: _Draft) -> RatedLine:
    trace: dict[str, object] = {
        "version": key.version,
        "component": key.component,
        "segments": draft.segments,
        "first": draft.first.isoformat(),
        "last": draft.last.isoformat(),
        **_explained(key, draft),
    }
    return RatedLine(**key._asdict(), quantity=draft.quantity, trace=trace)


def _explained(key: LineKey, draft: _Draft) -> dict[str, object]:
    match draft.source:
        case Allowance() as allowance:
            matched = {"models": matching(allowance.models, key.model), "register": key.register}
            return {"shape": "allowance", "tokens": allowance.tokens, "matched": matched}
        case RateComponent() as component:
            return {
                "shape": component.shape.NAME,
                "matched": _matched(component, key, draft.rank[2]),
                **component.shape.explain(draft.portion),
                **_bucket(draft.terms, key.bucket),
            }
        case None:
            return {"shape": UNPRICED, "matched": None}


def _matched(component: RateComponent, key: LineKey, place: int) -> dict[str, object]:
    return {
        "component": place + 1,  # the first of the document's components that matches
        "models": matching(component.models, key.model),
        "register": key.register,
        "regions": _listed(component.regions),
        "service_classes": _listed(component.service_classes),
    }


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _bucket(terms: Terms, bucket: str) -> dict[str, object]:
    if not bucket or terms.calendar is None:
        return {}
    return {"bucket": terms.calendar.explain(bucket)}


def _cut(stretches: Sequence[PricedTerms]) -> list[tuple[int, Segment]]:
    for before, after in pairwise(stretches):
        if before.period.end != after.period.start:
            raise ValueError(f"{after.version} must start when {before.version} ends")
        if before.terms.currency != after.terms.currency:
            raise ValueError(f"{after.version} must keep the currency of {before.version}")
    return [
        (index, Segment(start, end, stretch.version, bucket))
        for index, stretch in enumerate(stretches)
        for start, end, bucket in _buckets(stretch)
    ]


def _buckets(stretch: PricedTerms) -> list[tuple[datetime, datetime, str]]:
    if stretch.terms.calendar is None:
        return [(stretch.period.start, stretch.period.end, "")]
    return stretch.terms.calendar.segments(stretch.period)


def _summed(usage: Iterable[Usage], pieces: Sequence[Segment]) -> list[Counter[_What]]:
    """Sum the usage of each segment. What is finer than a segment must not change the lines."""
    starts = [piece.start for piece in pieces]
    sums: list[Counter[_What]] = [Counter() for _ in pieces]
    for item in usage:
        index = bisect_right(starts, item.start) - 1
        if index < 0 or item.end > pieces[index].end:
            raise ValueError(f"usage from {item.start} to {item.end} must lie within one segment")
        what = _What(item.model, item.register, item.region, item.service_class)
        sums[index][what] += item.quantity
    return sums


def _assert_nothing_lost(
    used: Iterable[Counter[_What]],
    lines: Iterable[RatedLine],
    left_out: Counter[tuple[str, str]],
) -> None:
    """C1: per model and register, the lines carry what was used, no more and no less."""
    balance = Counter(left_out)
    for line in lines:
        balance[line.model, line.register] += line.quantity
    for here in used:
        for what, quantity in here.items():
            balance[what.model, what.register] -= quantity
    assert not any(balance.values()), f"lost or invented: {balance}"
