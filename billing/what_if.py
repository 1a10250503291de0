"""What past periods would have cost under another tariff, organization by organization.

Nothing is written: the whole of it runs where the database refuses to. Both sides are rated anew
from the readings of now, so that late usage is in both or in neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from django.db.models import Q

from accounts.models import Organization
from billing import catalog, pricing, subscriptions
from billing.catalog import TariffRefused
from billing.earlier import PeriodOf
from billing.models import Subscription, Tariff
from billing.rating.line import UNPRICED, RatedLine
from billing.rating.paper import printed_minor
from billing.rating.period import Period, day_of
from billing.rating.rate import PricedTerms
from billing.rating.tariff import Terms, parse
from billing.read_only import read_only
from billing.waiting import NotYet
from metering import readings

DOCUMENT = "document@0"  # what a document that is no version goes by on the lines


class Alternative:
    """The other tariff: one that is published, at the versions it had, or a document."""

    def __init__(self, source: Tariff | Mapping[str, object]) -> None:
        """TariffInvalid or TariffRefused for a document that could not be published either."""
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
    """One organization's periods, in whole minor units, each line rounded as on a document."""

    organization: Organization
    currency: str
    periods: int
    old_minor: int
    new_minor: int
    unpriced: int  # what was used that the other tariff has no price for, in units of its registers

    @property
    def difference_minor(self) -> int:
        """Below zero: the other tariff would have been cheaper."""
        return self.new_minor - self.old_minor


@dataclass(frozen=True, slots=True)
class Answer:
    """All that were compared, those that would gain most first; and those in other currencies."""

    compared: list[Compared]
    other_currency: list[Organization]

    @property
    def winners(self) -> list[Compared]:
        """Those for whom the other tariff would have been cheaper."""
        return [one for one in self.compared if one.difference_minor < 0]

    @property
    def losers(self) -> list[Compared]:
        """Those for whom it would have been dearer."""
        return [one for one in self.compared if one.difference_minor > 0]

    @property
    def old_minor(self) -> int:
        return sum(one.old_minor for one in self.compared)

    @property
    def new_minor(self) -> int:
        return sum(one.new_minor for one in self.compared)


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
    periods, and ranges that follow each other have every period once.
    """
    compared: list[Compared] = []
    strangers: list[Organization] = []
    with read_only():
        for whose, periods in _periods_by_organization(first, last, now, organization):
            if any(of.tariff.currency != other.currency for of, _ in periods):
                strangers.append(whose)
            else:
                _refuse_what_is_not_told_apart(whose, periods, other)
                compared.append(_compared(whose, periods, other))
    return Answer(sorted(compared, key=lambda one: one.difference_minor), strangers)


def _refuse_what_is_not_told_apart(
    whose: Organization, periods: list[PeriodOf], other: Alternative
) -> None:
    """Readings learn of a size of request when a tariff with it is published for who used it."""
    terms = [one.terms for at in other.in_each([period for _, period in periods]) for one in at]
    sizes = frozenset[int]().union(*(one.boundaries for one in terms))
    if not readings.tells_apart(whose.pk, sizes, periods[0][1].start):
        raise TariffRefused(
            f"Prices change at an input of {', '.join(f'{size:,}' for size in sorted(sizes))} "
            f"tokens, and the readings of {whose} do not tell all of these apart. Compare with "
            "sizes that they tell, or put the organization on the tariff first."
        )


def _compared(whose: Organization, periods: list[PeriodOf], other: Alternative) -> Compared:
    try:
        old = pricing.lines_of(periods)
        new = pricing.lines_under(periods, other.in_each([period for _, period in periods]))
    except NotYet as reason:
        raise TariffRefused(f"{whose} waits for {reason}.") from reason
    return Compared(
        organization=whose,
        currency=other.currency,
        periods=len(periods),
        old_minor=_printed(old, other.currency),
        new_minor=_printed(new, other.currency),
        unpriced=sum(
            line.quantity for lines in new for line in lines if line.component == UNPRICED
        ),
    )


def _printed(by_period: Sequence[Sequence[RatedLine]], currency: str) -> int:
    return sum(printed_minor(lines, currency) for lines in by_period)


def _periods_by_organization(
    first: date, last: date, now: datetime, organization: Organization | None
) -> Iterator[tuple[Organization, list[PeriodOf]]]:
    found = Subscription.objects.select_related("organization", "tariff")
    if organization is not None:
        found = found.filter(organization=organization)
    started = found.filter(starts_at__lt=now).order_by("organization", "starts_at")
    # Days begin up to 14 hours before those of UTC.
    reach = Q(ends_at=None) | Q(ends_at__date__gte=first - timedelta(days=1))
    for _, of_one in groupby(started.filter(reach), key=lambda one: one.organization_id):
        siblings = list(of_one)
        periods = [
            (one, period)
            for one in siblings
            for period in subscriptions.periods_ended(one, now)
            if _begins(one, period, first, last)
        ]
        if periods:
            yield siblings[0].organization, periods


def _begins(subscription: Subscription, period: Period, first: date, last: date) -> bool:
    zone = ZoneInfo(subscription.zone)
    return day_of(zone, first).start <= period.start < day_of(zone, last).start
