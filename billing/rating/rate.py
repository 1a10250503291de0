"""Rate usage: readings times tariff, line by line, each with its trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from billing.rating import trace
from billing.rating.allowance import Allowance
from billing.rating.line import ALLOWANCE, UNPRICED, LineKey, RatedLine
from billing.rating.modifier import modified
from billing.rating.period import Period
from billing.rating.scope import What
from billing.rating.segments import boundaries, cut, segments, summed
from billing.rating.sentences import sentences
from billing.rating.shape import Portion, Position
from billing.rating.tariff import REQUESTS, PricedBy
from billing.rating.usage import PricedTerms, Segment, Usage

__all__ = [
    "PricedTerms",
    "RatedLine",
    "Segment",
    "Share",
    "Usage",
    "rate",
    "segments",
    "sentences",
    "shares",
]

Drained = Mapping[tuple[str, str], int]


def rate(
    usage: Iterable[Usage], stretches: Sequence[PricedTerms], *, drained: Drained | None = None
) -> list[RatedLine]:
    """Price a billing period's usage; the order of the usage does not matter.

    Allowances drain first, then the first component that matches prices the rest. Counters of
    allowances and steps belong to a code and run through the whole period, also where the
    version changes. ValueError for usage that does not lie within one segment.

    drained: what earlier periods took from the allowances given once, by their code and model
    ("" where models share it).
    """
    rating, by_piece = _rated(usage, stretches, drained)
    lines = rating.lines()
    _assert_nothing_lost(by_piece, lines, rating.besides)
    return lines


class Share(NamedTuple):
    """So much of what was used in a segment, and the line it went onto."""

    segment: Segment
    what: What
    key: LineKey
    quantity: int


def shares(
    usage: Iterable[Usage], stretches: Sequence[PricedTerms], *, drained: Drained | None = None
) -> list[Share]:
    """Rate as `rate` does, and say which usage went onto which line, in the order it was poured.

    Summed by line they are its lines; summed by segment and usage they are the usage. What no
    component prices but counts of requests has no line and no share.
    """
    rating, _ = _rated(usage, stretches, drained)
    return rating.shares


def _rated(
    usage: Iterable[Usage], stretches: Sequence[PricedTerms], drained: Drained | None
) -> tuple[_Rating, list[Counter[What]]]:
    pieces = cut(stretches)
    rating = _Rating(stretches, Counter(drained or {}))
    by_piece = summed(usage, [segment for _, segment in pieces], boundaries(stretches))
    for (stretch, segment), here in zip(pieces, by_piece, strict=True):
        place = _Place(stretch, segment)
        rating.assign(place, rating.drain(place, here))
    rating.pour()
    return rating, by_piece


class _Place(NamedTuple):
    """Where in the billing period: the index of the stretch, and the segment."""

    stretch: int
    segment: Segment


class _Assigned(NamedTuple):
    place: _Place
    found: PricedBy
    what: What
    quantity: int


@dataclass(slots=True)
class _Draft:
    """A line in the making: how much so far, over which stretch of time, and what priced it."""

    rank: tuple[int, int, int]  # stretch; allowance, component or nothing; place in the document
    source: Allowance | PricedBy | None
    portion: Portion  # the first to come; the others differ in quantity only
    first: datetime
    last: datetime
    quantity: int = 0
    segments: int = 0


@dataclass(slots=True)
class _Rating:
    """One billing period being rated, segment by segment, in time order."""

    stretches: Sequence[PricedTerms]
    drained: Counter[tuple[str, str]]
    used: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    besides: Counter[tuple[str, str]] = field(default_factory=Counter)  # used less on lines
    assigned: list[_Assigned] = field(default_factory=list)
    drafts: dict[tuple[LineKey, tuple[str, ...]], _Draft] = field(default_factory=dict)
    shares: list[Share] = field(default_factory=list)

    def drain(self, place: _Place, here: Counter[What]) -> Counter[What]:
        """Take the allowances' share; return what is left to be priced."""
        left = Counter(here)
        terms, segment = self.stretches[place.stretch].terms, place.segment
        for allowance in terms.allowances_at(Period(segment.start, segment.end)):
            rank = terms.allowances.index(allowance)
            for what in self._drainable(place, allowance, left):
                counter = allowance.counter(what.model)
                free = min(max(0, allowance.tokens - self.drained[counter]), left[what])
                if free:
                    self.drained[counter] += free
                    left[what] -= free
                    self._add(place, allowance, (0, rank), what, Portion(free, Decimal(0)))
        return left

    def assign(self, place: _Place, left: Counter[What]) -> None:
        """Find what prices the rest, and how much each component has to price in all."""
        for _, what, found in sorted(self._pouring_order(place, left), key=_first_two):
            quantity = left[what]
            if found is not None:
                self.totals[found.component.code] += quantity
                self.assigned.append(_Assigned(place, found, what, quantity))
            elif what.register == REQUESTS:  # a count of events is no quantity sold
                self.besides[what.model, what.register] += quantity
            else:
                self._add(place, None, (2, 0), what, Portion(quantity, Decimal(0)))

    def pour(self) -> None:
        """Pour what was assigned into the components, in the order of time and registers."""
        for place, found, what, quantity in self.assigned:
            code, segment = found.component.code, place.segment
            at = Position(
                used=self.used[code],
                bucket=segment.bucket,
                total=self.totals[code],
                band=what.input_band,
                moment=segment.start,
            )
            portions = found.component.shape.pour(quantity, at)
            assert sum(one.quantity for one in portions if not one.register) == quantity
            self.used[code] += quantity
            for portion in portions:
                self._add(place, found, (1, found.rank), what, portion)

    def lines(self) -> list[RatedLine]:
        """Return the lines: by version, then allowances, components in their order, unpriced."""
        keys = sorted(self.drafts, key=lambda key: (self.drafts[key].rank, key))
        return [self._line(key, self.drafts[key, codes]) for key, codes in keys]

    def _drainable(self, place: _Place, allowance: Allowance, left: Counter[What]) -> list[What]:
        # Usage without a price is free already, and a hole in the tariff that nobody should hide.
        drainable = [
            what for what in left if allowance.drains(what) and self._found(place, what) is not None
        ]
        return sorted(drainable, key=lambda what: (allowance.registers.index(what.register), what))

    def _pouring_order(
        self, place: _Place, left: Counter[What]
    ) -> Iterator[tuple[int, What, PricedBy | None]]:
        for what, quantity in left.items():
            if quantity:
                found = self._found(place, what)
                at = found.component.registers.index(what.register) if found else 0
                yield at, what, found

    def _add(
        self,
        place: _Place,
        source: Allowance | PricedBy | None,
        rank: tuple[int, int],
        what: What,
        portion: Portion,
    ) -> None:
        modifiers = source.modifiers if isinstance(source, PricedBy) else ()
        key = LineKey(
            version=place.segment.version,
            component=_code(source),
            model=what.model,
            register=portion.register or what.register,
            bucket=portion.bucket,
            step=portion.step,
            unit_price=modified(portion.unit_price, modifiers),
            per=source.component.shape.per if isinstance(source, PricedBy) else 1,
        )
        start, end = place.segment.start, place.segment.end
        identity = key, tuple([modifier.code for modifier in modifiers])
        draft = self.drafts.get(identity)
        if draft is None:
            draft = _Draft((place.stretch, *rank), source, portion, start, start)
            self.drafts[identity] = draft
        if draft.last < end:  # two regions in one segment are still one segment
            draft.last = end
            draft.segments += 1
        draft.quantity += portion.quantity
        if portion.register:
            self.besides[what.model, portion.register] -= portion.quantity
        else:
            self.shares.append(Share(place.segment, what, key, portion.quantity))

    def _found(self, place: _Place, what: What) -> PricedBy | None:
        return self.stretches[place.stretch].terms.priced_by(what)

    def _line(self, key: LineKey, draft: _Draft) -> RatedLine:
        explained: dict[str, object] = {
            "version": key.version,
            "component": key.component,
            "segments": draft.segments,
            "first": draft.first.isoformat(),
            "last": draft.last.isoformat(),
            **self._explained(key, draft),
        }
        return RatedLine(
            version=key.version,
            component=key.component,
            model=key.model,
            register=key.register,
            bucket=key.bucket,
            step=key.step,
            quantity=draft.quantity,
            unit_price=key.unit_price,
            per=key.per,
            trace=explained,
        )

    def _explained(self, key: LineKey, draft: _Draft) -> dict[str, object]:
        match draft.source:
            case Allowance() as allowance:
                return trace.of_allowance(allowance, key)
            case PricedBy(rank, component, modifiers):
                calendar = self.stretches[draft.rank[0]].terms.calendar
                return trace.of_component(component, rank, key, draft.portion, modifiers, calendar)
            case None:
                return trace.of_nothing()


def _first_two(ordered: tuple[int, What, object]) -> tuple[int, What]:
    return ordered[:2]


def _code(source: Allowance | PricedBy | None) -> str:
    match source:
        case Allowance():
            return ALLOWANCE + source.code
        case PricedBy():
            return source.component.code
        case None:
            return UNPRICED


def _assert_nothing_lost(
    used: Iterable[Counter[What]],
    lines: Iterable[RatedLine],
    besides: Counter[tuple[str, str]],
) -> None:
    """C1: per model and register, the lines carry what was used, no more and no less."""
    balance = Counter(besides)
    for line in lines:
        balance[line.model, line.register] += line.quantity
    for here in used:
        for what, quantity in here.items():
            balance[what.model, what.register] -= quantity
    assert not any(balance.values()), f"lost or invented: {balance}"
