"""Billing periods, metered and priced: the terms in force, the usage, what charges rest on.

Periods of one organization are fetched together and priced in the order of time: a grant that is
given once, a ratchet and a commitment look at what came before (`billing.earlier`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

from billing import (
    basis,
    costing,
    earlier,
    negotiations,
    passing_on,
    subscriptions,
    system_peaks,
)
from billing.costing import Costs
from billing.earlier import Earlier, PeriodOf
from billing.models import Subscription
from billing.passing_on import PassedOn, passed_on
from billing.rating.bill import charged, with_usage
from billing.rating.charge import Facts
from billing.rating.commitment import Commitment
from billing.rating.period import Period, billing_period
from billing.rating.rate import (
    PricedTerms,
    RatedLine,
    Segment,
    Share,
    Usage,
    rate,
    segments,
    shares,
)
from billing.system_peaks import Looked
from billing.waiting import CostUnknown, NotTakenOut, NotToldApart, NotYet, Unknown
from metering import readings

ONCE = Fraction(1)  # what was used, no more and no less


@dataclass(frozen=True, slots=True)
class Metered:
    """One billing period: the terms in force in it, and its usage as far as it is in readings."""

    subscription: Subscription
    period: Period
    stretches: Sequence[PricedTerms]
    usage: Sequence[Usage]
    facts: Facts
    costs: Costs | None = None  # upstream, where they are passed on

    @property
    def currency(self) -> str:
        return self.subscription.tariff.currency

    def rated(self, past: Earlier, *, until: datetime | None = None) -> list[RatedLine]:
        """Price the usage; with `until`, only what was used before that cut."""
        used = [item for item in self.usage if until is None or item.end <= until]
        return rate(used, self.stretches, drained=past.drained(self.period, self.stretches))

    def shares(self, past: Earlier) -> list[Share]:
        """The same, told the other way round: which usage went onto which line."""
        drained = past.drained(self.period, self.stretches)
        return shares(self.usage, self.stretches, drained=drained)

    def charged(
        self, rated: Sequence[RatedLine], past: Earlier, *, until: datetime | None = None
    ) -> list[RatedLine]:
        """What the period costs besides its usage; with `until`, as if it ended then."""
        stretches = self.stretches if until is None else _before(self.stretches, until)
        if not any(stretch.terms.charges for stretch in stretches):
            return []
        ending = self._terms_ending() if until is None else {}
        facts = replace(
            with_usage(self.facts, self.usage),
            provider_costs=self._passed_on(until).costs,
            terms_ending=frozenset(ending),
            spent_before_minor={
                code: past.spent_minor(since, self.period.start, self.currency)
                for code, since in ending.items()
            },
        )
        return charged(rated, stretches, facts)

    def lines(self, past: Earlier) -> list[RatedLine]:
        """Everything the period costs, as far as it is known."""
        rated = self.rated(past)
        return rated + self.charged(rated, past)

    def scaled(self, factor: Fraction) -> Metered:
        """The same period as if so many times as much had been used in every minute of it."""
        usage = [replace(one, quantity=_times(one.quantity, factor)) for one in self.usage]
        facts = replace(
            self.facts,
            load={
                meter: {minute: _times(tokens, factor) for minute, tokens in load.items()}
                for meter, load in self.facts.load.items()
            },
            peaks_before={
                code: [_times(peak, factor) for peak in peaks]
                for code, peaks in self.facts.peaks_before.items()
            },
        )
        return replace(self, usage=usage, facts=facts)

    @property
    def unknown_costs(self) -> set[Unknown]:
        """What is passed on at a cost that is not known, and counts as nothing so far."""
        return self._passed_on(None).unknown

    def _passed_on(self, until: datetime | None) -> PassedOn:
        used = [item for item in self.usage if until is None or item.end <= until]
        return passed_on(self.stretches, used, self.costs)

    @property
    def looks_back(self) -> bool:
        """Whether what it costs depends on what earlier periods came to."""
        once = any(one.once for at in self.stretches for one in at.terms.allowances)
        return once or bool(self._terms_ending())

    def _terms_ending(self) -> dict[str, datetime]:
        """The commitments whose term ends with this period, and when each term began."""
        return {
            charge.code: since
            for charge in self.stretches[-1].terms.charges
            if isinstance(charge, Commitment)
            and (since := basis.term_ending(charge, self.subscription, self.period))
        }


@dataclass(frozen=True, slots=True)
class Chain:
    """Periods of one organization, metered once, to be rated as often as one likes.

    `earlier` are those before them that no document tells of.
    """

    asked: Sequence[Metered]
    earlier: Sequence[Metered]

    def lines(self, factor: Fraction = ONCE) -> list[list[RatedLine]]:
        """What each of the periods asked for costs, had so many times as much been used."""
        asked = self.asked if factor == ONCE else [one.scaled(factor) for one in self.asked]
        found = _one_after_another([*asked, *self.earlier]).added
        return [found[one.period.start] for one in asked]

    @property
    def unknown_costs(self) -> set[Unknown]:
        """What of it is passed on at a cost that is not known."""
        return {one for metered in self.asked for one in metered.unknown_costs}


def meter(periods: Sequence[PeriodOf], *, cut: datetime | None = None) -> list[Metered]:
    """Fetch the usage of several periods of one organization as of one instant.

    One statement, so late usage that arrives meanwhile is in all of the answer or in none of it.
    """
    if not periods:
        return []
    return _meter_under(periods, negotiations.terms_in_each(periods), cut)


def _meter_under(
    periods: Sequence[PeriodOf],
    whole: Sequence[list[PricedTerms]],
    cut: datetime | None = None,
    looked: Looked | None = None,
) -> list[Metered]:
    (organization_id,) = {subscription.organization_id for subscription, _ in periods}
    terms = [
        _prorated(stretches, *of_period)
        for of_period, stretches in zip(periods, whole, strict=True)
    ]
    slices = [
        (index, piece)
        for index, stretches in enumerate(terms)
        for cuts in [_cuts(stretches, cut)]
        for segment in segments(stretches)
        for piece in _pieces(segment, cuts)
    ]
    usage: list[list[Usage]] = [[] for _ in periods]
    for found in readings.usage_in(organization_id, [piece for _, piece in slices]):
        index, piece = slices[found.slice]
        usage[index].append(_usage(piece, found))
    return [
        Metered(
            *of_period,
            stretches,
            used,
            basis.facts(*of_period, stretches, looked),
            passing_on.costs_for(stretches, used),
        )
        for of_period, stretches, used in zip(periods, terms, usage, strict=True)
    ]


def lines_of(periods: Sequence[PeriodOf], *, final: bool = False) -> list[list[RatedLine]]:
    """What each of an organization's periods costs, in the order given, as documents say it.

    NotYet while that cannot be said. final: these periods are over, and a document is made of them:
    what is found once for everybody is found now, and kept.
    """
    chain = _chain(periods)
    if final and _found_peaks(chain.asked):
        chain = _chain(periods)
    lines = chain.lines()
    if unknown := chain.unknown_costs:
        raise CostUnknown(unknown)
    # Asked last: whoever has seen new prices sees what is summed anew for them.
    if unsettled := unsettled_readings(periods):
        raise unsettled
    return lines


def _found_peaks(metered: Sequence[Metered]) -> bool:
    """Whether the whole system's peak of some period was not known, and is now."""
    in_order = sorted(metered, key=lambda one: one.period.start)
    periods = [(one.subscription, one.period) for one in in_order]
    if waits := unfound_peaks(periods, [one.stretches for one in in_order]):
        raise waits
    found = [
        system_peaks.determine(basis.charged_demands(one.stretches), one.period) for one in in_order
    ]
    return any(found)


def unfound_peaks(
    periods: Sequence[PeriodOf], terms: Sequence[Sequence[PricedTerms]]
) -> NotYet | None:
    """Why the whole system's peak of some period, by its terms, cannot be found yet."""
    for (subscription, period), stretches in zip(periods, terms, strict=True):
        until = subscriptions.closes_at(subscription, period)
        demands = basis.charged_demands(stretches)
        if waits := system_peaks.waits_for(demands, period, until):
            return waits
    return None


def unsettled_readings(periods: Sequence[PeriodOf]) -> NotYet | None:
    """What is on its way within the readings that an organization's periods are rated by."""
    organization_id = periods[0][0].organization_id
    found = readings.unsettled(organization_id, max(period.end for _, period in periods))
    if found.being_told_apart:
        return NotToldApart()
    return NotTakenOut() if found.being_taken_out else None


def lines_as_known(periods: Sequence[PeriodOf]) -> list[list[RatedLine]]:
    """The same as far as it is known, for pages."""
    return _chain(periods).lines()


def _chain(periods: Sequence[PeriodOf]) -> Chain:
    asked = meter(periods)
    return Chain(asked, _earlier(periods, asked))


def chains(
    periods: Sequence[PeriodOf], terms: Sequence[list[PricedTerms]], looked: Looked
) -> tuple[Chain, Chain]:
    """An organization's periods under the terms that were in force, and under others.

    The usage of both is fetched in one statement, so what arrives meanwhile is in both or in
    neither. Under the others, grants that are given once and commitments look at these periods
    alone: before them there was no such tariff. Peaks of the whole system that nobody has found
    are looked for, and noted in `looked`.
    """
    whole = [*negotiations.terms_in_each(periods), *terms]
    both = _meter_under([*periods, *periods], whole, looked=looked)
    asked, other = both[: len(periods)], both[len(periods) :]
    return Chain(asked, _earlier(periods, asked)), Chain(other, [])


def past_of(metered: Metered) -> Earlier:
    """What a period's cost depends on besides what was used in it."""
    of_organization = metered.subscription.organization_id
    before = _earlier([(metered.subscription, metered.period)], [metered])
    return _one_after_another(before) if before else Earlier(of_organization)


def _earlier(periods: Sequence[PeriodOf], asked: Sequence[Metered]) -> list[Metered]:
    """The periods before these that no document tells of, where what these cost rests on them."""
    if not any(one.looks_back for one in asked):
        return []
    return meter(earlier.before(periods))


def _one_after_another(periods: Sequence[Metered]) -> Earlier:
    """Rate periods in the order of time, each knowing those before it."""
    (organization_id,) = {one.subscription.organization_id for one in periods}
    past = Earlier(organization_id, frozenset(one.period.start for one in periods))
    for one in sorted(periods, key=lambda one: one.period.start):
        past.add(one.period, one.lines(past))
    return past


def _prorated(
    stretches: list[PricedTerms], subscription: Subscription, period: Period
) -> list[PricedTerms]:
    """A period that a subscription cuts off has that part of what is given by the period."""
    zone = ZoneInfo(subscription.zone)
    whole = billing_period(subscription.anchor_day, zone, period.start)
    if whole == period:
        return stretches
    return [replace(one, terms=one.terms.prorated(period, whole, zone)) for one in stretches]


def _before(stretches: Sequence[PricedTerms], until: datetime) -> list[PricedTerms]:
    return [
        replace(one, period=Period(one.period.start, min(one.period.end, until)))
        for one in stretches
        if one.period.start < until
    ]


def _times(quantity: int, factor: Fraction) -> int:
    return quantity * factor.numerator // factor.denominator


def _cuts(stretches: Sequence[PricedTerms], cut: datetime | None) -> list[datetime]:
    """Where usage is told apart though no price changes: a page asks, or an upstream cost does."""
    cuts = {cut} if cut is not None else set()
    if passing_on.is_asked_for(stretches):
        cuts |= {*costing.changes_in(Period(stretches[0].period.start, stretches[-1].period.end))}
    return sorted(cuts)


def _pieces(segment: Segment, cuts: Sequence[datetime]) -> Iterator[readings.Slice]:
    inside = [cut for cut in cuts if segment.start < cut < segment.end]
    for start, end in pairwise([segment.start, *inside, segment.end]):
        yield readings.Slice(start, end)


def _usage(piece: readings.Slice, found: readings.SliceUsage) -> Usage:
    return Usage(
        start=piece.start,
        end=piece.end,
        model=found.model,
        register=found.register,
        region=found.region,
        service_class=found.service_class,
        quantity=found.quantity,
        input_band=found.input_band,
        thinking=found.thinking,
        attributes=found.attributes,
    )
