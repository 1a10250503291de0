"""What past periods would have cost under another tariff, organization by organization.

Nothing is written: the whole of it runs where the database refuses to. Both sides are rated anew
from the readings of now, fetched at once, so that late usage is in both or in neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from zoneinfo import ZoneInfo

from django.db.models import Q, QuerySet

from accounts.models import Organization
from billing import catalog, pricing, subscriptions, telling
from billing.comparisons import COMPARED, Verdict
from billing.earlier import PeriodOf
from billing.models import Subscription, Tariff
from billing.pricing import ONCE, Chain
from billing.rating.break_even import FACTORS, Point
from billing.rating.commitment import Commitment
from billing.rating.line import UNPRICED, RatedLine
from billing.rating.paper import printed_minor
from billing.rating.period import Period, day_of
from billing.rating.rate import PricedTerms
from billing.rating.tariff import Terms, parse
from billing.read_only import read_only
from billing.system_peaks import Looked

DOCUMENT = "document@0"  # what a document that is no version goes by on the lines


class Note(StrEnum):
    """What the reader of a comparison has to know besides its numbers."""

    UNUSED = "unused"
    NEGOTIATED = "negotiated"
    UNPRICED = "unpriced"
    NEWLY_PRICED = "newly_priced"
    GAP = "gap"
    LOOKS_BACK = "looks_back"


NOTES = {
    Note.UNUSED: "Nothing was used.",
    Note.NEGOTIATED: "What was negotiated counts in what is paid now; the other tariff is taken as "
    "it is listed.",
    Note.UNPRICED: "Some of what was used has no price under the other tariff. It costs nothing "
    "there, so that side is too low.",
    Note.NEWLY_PRICED: "Some of what was used had no price and would have one.",
    Note.GAP: "The other tariff had no prices during a part of this time.",
    Note.LOOKS_BACK: "One side has a commitment, or a grant that is given once. Under the other "
    "tariff they count these periods alone, as if it had begun with them.",
}


class Alternative:
    """The other tariff: one that is published, at the versions it had, or a document."""

    def __init__(self, source: Tariff | Mapping[str, object]) -> None:
        """TariffInvalid or TariffRefused for a document that could not be published either."""
        self.looked: Looked = {}  # peaks of the whole system that no invoice has asked for
        self._tariff = source if isinstance(source, Tariff) else None
        self._terms: Terms | None = None
        if not isinstance(source, Tariff):
            self._terms = parse(source)
            catalog.refuse_what_is_not_carried(self._terms)

    @property
    def name(self) -> str:
        """Its code, or that it is a document."""
        return "document" if self._tariff is None else self._tariff.code

    @property
    def currency(self) -> str:
        if self._terms is not None:
            return self._terms.currency
        assert self._tariff is not None
        return self._tariff.currency

    def in_each(self, periods: Sequence[Period]) -> list[list[PricedTerms]]:
        """The terms of each period; where the tariff had none its usage is unpriced."""
        if self._terms is not None:
            return [[PricedTerms(DOCUMENT, period, self._terms)] for period in periods]
        assert self._tariff is not None
        return catalog.terms_in_each([(self._tariff, period) for period in periods])


@dataclass(frozen=True, slots=True)
class Compared:
    """One organization's periods, in whole minor units, each line rounded as on a document.

    Where the verdict is none of `comparisons.COMPARED` there are no amounts.
    """

    organization: Organization
    currency: str
    verdict: Verdict
    periods: int
    old_minor: int = 0
    new_minor: int = 0
    unpriced: int = 0  # units that only the other tariff has no price for
    newly_priced: int = 0  # units that only the other tariff has a price for
    notes: tuple[Note, ...] = ()

    @property
    def difference_minor(self) -> int:
        """Below zero: the other tariff would have been cheaper."""
        return self.new_minor - self.old_minor

    @property
    def percent(self) -> Fraction | None:
        """The difference in hundredths of the old side; None of nothing."""
        return Fraction(100 * self.difference_minor, self.old_minor) if self.old_minor else None


@dataclass(frozen=True, slots=True)
class Answer:
    """Every organization that was asked about, those that would gain most first."""

    found: list[Compared]

    @property
    def compared(self) -> list[Compared]:
        """Those with amounts."""
        return [one for one in self.found if one.verdict in COMPARED]

    @property
    def winners(self) -> list[Compared]:
        """Those for whom the other tariff would have been cheaper."""
        return self.which(Verdict.CHEAPER)

    @property
    def losers(self) -> list[Compared]:
        """Those for whom it would have been dearer."""
        return self.which(Verdict.DEARER)

    def which(self, verdict: Verdict) -> list[Compared]:
        return [one for one in self.found if one.verdict == verdict]

    @property
    def old_minor(self) -> int:
        return sum(one.old_minor for one in self.found)

    @property
    def new_minor(self) -> int:
        return sum(one.new_minor for one in self.found)


Lines = Sequence[Sequence[RatedLine]]  # period by period


@dataclass(frozen=True, slots=True)
class Both:
    """What one period comes to on both sides, in whole minor units."""

    period: Period
    zone: str
    old_minor: int
    new_minor: int

    @property
    def difference_minor(self) -> int:
        """Below zero: the other tariff would have been cheaper."""
        return self.new_minor - self.old_minor


@dataclass(frozen=True)
class Sides:
    """One organization's periods under both tariffs, metered once, to be rated at will."""

    organization: Organization
    periods: Sequence[PeriodOf]
    old: Chain
    new: Chain
    currency: str

    @cached_property
    def lines(self) -> tuple[Lines, Lines]:
        """Old and new, as they are rated for what was used."""
        return self.old.lines(), self.new.lines()

    def compared(self) -> Compared:
        """What the periods cost, and what they would have cost."""
        old, new = self.lines
        old_minor, new_minor = _printed(old, self.currency), _printed(new, self.currency)
        before, after = _unpriced(old), _unpriced(new)
        unpriced, newly_priced = (after - before).total(), (before - after).total()
        return Compared(
            organization=self.organization,
            currency=self.currency,
            verdict=_verdict(new_minor - old_minor, unpriced),
            periods=len(self.periods),
            old_minor=old_minor,
            new_minor=new_minor,
            unpriced=unpriced,
            newly_priced=newly_priced,
            notes=tuple(self._notes(unpriced, newly_priced)),
        )

    def each(self) -> list[Both]:
        """Period by period."""
        return [
            Both(
                period, of_one.zone, printed_minor(old, self.currency),
                printed_minor(new, self.currency),
            )
            for (of_one, period), old, new in zip(self.periods, *self.lines, strict=True)
        ]  # fmt: skip

    def points(self) -> list[Point]:
        """What both sides come to at every factor of a break-even chart."""
        return [self._point(factor) for factor in FACTORS]

    def _point(self, factor: Fraction) -> Point:
        sides = self.lines if factor == ONCE else (self.old.lines(factor), self.new.lines(factor))
        return Point(factor, *(_printed(side, self.currency) for side in sides))

    def _notes(self, unpriced: int, newly_priced: int) -> Iterator[Note]:
        stretches = [at for one in self.old.asked for at in one.stretches]
        others = [at for one in self.new.asked for at in one.stretches]
        if not any(one.usage for one in self.old.asked):
            yield Note.UNUSED
        if any("+n" in at.version for at in stretches):
            yield Note.NEGOTIATED
        if unpriced:
            yield Note.UNPRICED
        if newly_priced:
            yield Note.NEWLY_PRICED
        if any(catalog.is_unpriced(at) for at in others):
            yield Note.GAP
        if any(_looks_back(at.terms) for at in [*stretches, *others]):
            yield Note.LOOKS_BACK


def compare(
    other: Alternative,
    first: date,
    last: date,
    now: datetime,
    *,
    organization: Organization | None = None,
) -> Answer:
    """Compare the ended billing periods that begin on these local days, `last` excluded.

    Whole periods only, by each organization's own calendar: steps and allowances count in whole
    periods, and ranges that follow each other have every period once. Organizations without such
    a period are left out.
    """
    found = started(first, now)
    if organization is not None:
        found = found.filter(organization=organization)
    with read_only():
        answers = [
            one
            for _, siblings in groupby(found, key=lambda one: one.organization_id)
            if (one := of(list(siblings), other, first, last, now))
        ]
    return Answer(sorted(answers, key=lambda one: one.difference_minor))


def started(first: date, now: datetime) -> QuerySet[Subscription]:
    """The subscriptions that have begun and may have a period from a local day on, in order."""
    # Days begin up to 14 hours before those of UTC.
    reach = Q(ends_at=None) | Q(ends_at__date__gte=first - timedelta(days=1))
    found = Subscription.objects.select_related("organization", "tariff").filter(reach)
    return found.filter(starts_at__lt=now).order_by("organization", "starts_at")


def of(
    siblings: Sequence[Subscription], other: Alternative, first: date, last: date, now: datetime
) -> Compared | None:
    """Compare one organization, by its subscriptions; None if no period that begins then ended."""
    found = sides(siblings, other, first, last, now)
    return found.compared() if isinstance(found, Sides) else found


def sides(
    siblings: Sequence[Subscription], other: Alternative, first: date, last: date, now: datetime
) -> Sides | Compared | None:
    """An organization's periods under both tariffs, or why they cannot be compared.

    None if no period that begins on these local days has ended.
    """
    periods = [
        (one, period)
        for one in siblings
        for period in subscriptions.periods_ended(one, now)
        if _begins(one, period, first, last)
    ]
    return between(periods, other) if periods else None


def last_periods(organization: Organization, count: int, now: datetime) -> list[PeriodOf]:
    """An organization's last billing periods that have ended, at most so many, oldest first."""
    siblings = Subscription.objects.select_related("organization", "tariff").filter(
        organization=organization, starts_at__lt=now
    )
    found = [
        (one, period)
        for one in siblings.order_by("starts_at")
        for period in subscriptions.periods_ended(one, now)
    ]
    return found[-count:]


def between(periods: Sequence[PeriodOf], other: Alternative) -> Sides | Compared:
    """One organization's periods under both tariffs, or why they cannot be compared."""
    organization = periods[0][0].organization
    if any(of_one.tariff.currency != other.currency for of_one, _ in periods):
        currency = periods[-1][0].tariff.currency
        return Compared(organization, currency, Verdict.OTHER_CURRENCY, len(periods))
    terms = other.in_each([period for _, period in periods])
    if all(catalog.is_unpriced(at) for stretches in terms for at in stretches):
        return Compared(organization, other.currency, Verdict.NO_PRICES, len(periods))
    if not _tells_apart(periods, terms):
        return Compared(organization, other.currency, Verdict.NOT_TOLD_APART, len(periods))
    old, new = pricing.chains(periods, terms, other.looked)
    if old.unknown_costs or new.unknown_costs:
        return Compared(organization, other.currency, Verdict.COST_UNKNOWN, len(periods))
    return Sides(organization, periods, old, new, other.currency)


def _tells_apart(periods: Sequence[PeriodOf], terms: Sequence[list[PricedTerms]]) -> bool:
    """Readings learn of a size of request, and of minutes, when a tariff that asks for it is
    published for who used it."""
    of_one, first = min(periods, key=lambda one: one[1].start)
    wanted = [at.terms for stretches in terms for at in stretches]
    return telling.is_told(wanted, of_one.organization_id, first.start)


def _verdict(difference_minor: int, unpriced: int) -> Verdict:
    """Dearer is dearer, however much has no price; cheaper for that reason alone is no saving."""
    if difference_minor > 0:
        return Verdict.DEARER
    if unpriced:
        return Verdict.UNCLEAR
    return Verdict.CHEAPER if difference_minor else Verdict.SAME


def _printed(by_period: Lines, currency: str) -> int:
    return sum(printed_minor(lines, currency) for lines in by_period)


def _unpriced(by_period: Lines) -> Counter[tuple[str, str]]:
    """What no component priced, by model and register."""
    found: Counter[tuple[str, str]] = Counter()
    for lines in by_period:
        for line in lines:
            if line.component == UNPRICED:
                found[line.model, line.register] += line.quantity
    return found


def _looks_back(terms: Terms) -> bool:
    grants = any(one.once for one in terms.allowances)
    return grants or any(isinstance(charge, Commitment) for charge in terms.charges)


def _begins(subscription: Subscription, period: Period, first: date, last: date) -> bool:
    zone = ZoneInfo(subscription.zone)
    return day_of(zone, first).start <= period.start < day_of(zone, last).start
