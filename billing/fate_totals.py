"""What became of a billing period's usage: events and quantities by fate, beside the readings.

The fates are those of every single event; the readings are sums that know of none. Both are asked
as of one instant, and each register has to come to the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db import connection, transaction

from accounts.models import Organization
from billing import reckoning, standing, subscriptions
from billing.fates import Fate, Verdict
from billing.models import Subscription
from billing.rating.period import Period
from billing.rating.scope import REQUESTS
from metering import readings
from metering.readings import Slice

EVENTS_MAX = 1_000_000  # that a page goes through: a few seconds; more are counted beforehand
PERIODS_MAX = 13

PeriodOf = tuple[Subscription, Period]
Progress = readings.tally_blocks.Progress
TooManyEvents = readings.tally_blocks.TooManyEvents


@dataclass(frozen=True, slots=True)
class OfFate:
    """The events that met one fate, by the reason."""

    fate: Fate
    events: int
    reasons: list[tuple[Verdict, int]]  # most events first


@dataclass(frozen=True, slots=True)
class OfRegister:
    """One register's quantity, fate by fate; and what the readings hold of it."""

    register: str
    by_fate: dict[Fate, int]  # each fate is named
    total: int
    by_events: int  # of the total, what the readings should hold
    in_readings: int

    @property
    def label(self) -> str:
        return readings.register_label(self.register)

    @property
    def adds_up(self) -> bool:
        return self.by_events == self.in_readings


@dataclass(frozen=True, slots=True)
class FateTotals:
    """Every accepted event of a period, once."""

    fates: list[OfFate]
    registers: list[OfRegister]  # by name
    events: int

    @property
    def astray(self) -> list[OfRegister]:
        """The registers that do not add up; none where all is well."""
        return [one for one in self.registers if not one.adds_up]


def periods(organization: Organization, now: datetime) -> list[PeriodOf]:
    """The organization's last billing periods, the newest first."""
    return list(islice(_periods(organization, now), PERIODS_MAX))


def _periods(organization: Organization, now: datetime) -> Iterator[PeriodOf]:
    begun = organization.subscriptions.filter(starts_at__lte=now)
    for subscription in begun.select_related("organization", "tariff").order_by("-starts_at"):
        ended = subscriptions.periods_ended(subscription, now)
        newest = subscriptions.open_period(subscription, now)
        if newest not in ended:
            yield subscription, newest
        for period in reversed(ended):
            yield subscription, period


def chosen(of: Sequence[PeriodOf], start: str) -> PeriodOf | None:
    """The one that begins at an instant, as an address writes it; or else the newest, if any."""
    for one in of:
        if one[1].start.isoformat() == start:
            return one
    return of[0] if of else None


def of_period(
    subscription: Subscription,
    period: Period,
    now: datetime,
    *,
    events_max: int | None = None,
) -> FateTotals:
    """The fates of all events of a billing period, as of one instant.

    TooManyEvents where more than `events_max` would have to be gone through: see `count_on`.
    """
    organization_id = subscription.organization_id
    with _one_instant():
        reckoned = reckoning.of_period(subscription, period, now, events_max=events_max)
        metered: Counter[str] = Counter()
        for used in readings.usage_in(organization_id, [Slice(period.start, period.end)]):
            metered[used.register] += used.quantity
    by_events, quantities, total = reckoned.in_readings(), reckoned.quantities, reckoned.total()
    for fate, events in reckoned.events.items():
        quantities[fate][REQUESTS] = events
    return FateTotals(
        fates=[_of_fate(fate, reckoned.verdicts) for fate in Fate],
        registers=[
            OfRegister(
                register=register,
                by_fate={fate: quantities[fate][register] for fate in Fate},
                total=total[register],
                by_events=by_events[register],
                in_readings=metered[register],
            )
            for register in sorted(
                register for register in {*total, *metered} if total[register] or metered[register]
            )
        ],
        events=reckoned.verdicts.total(),
    )


def count_on(
    subscription_id: int, start: datetime, now: datetime, *, is_time_up: Callable[[], bool]
) -> Progress | None:
    """Count the events of a billing period, block by block, until time is up or all are counted.

    Safe to repeat, to end at any time and to begin at many places. None: no period begins there.
    """
    subscription = (
        Subscription.objects.select_related("organization", "tariff")
        .filter(pk=subscription_id)
        .first()
    )
    if subscription is None or subscription.starts_at > start:
        return None
    period = subscriptions.period_at(subscription, start)
    stretch = reckoning.stretch_of(standing.of(subscription, period, now))
    while True:
        progress = readings.tally_blocks.count_on(stretch)
        if progress.is_done or is_time_up():
            return progress


@contextmanager
def _one_instant() -> Iterator[None]:
    """One instant for both, and nothing written. Every join is hashed, as whole batches are joined:
    else the planner would go through each batch once for each of its events."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute("SET LOCAL enable_mergejoin = off")
        yield


def _of_fate(fate: Fate, verdicts: Counter[Verdict]) -> OfFate:
    reasons = [(verdict, events) for verdict, events in verdicts.most_common()
               if verdict.fate is fate]  # fmt: skip
    return OfFate(fate, sum(events for _, events in reasons), reasons)
