"""Which tariff an organization is on, since when, and the periods that follow from it.

Periods are computed from the subscription's own zone and anchor, never from the period before, and
tile its life: the first begins when it starts, the last is cut off when it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Max, Q

from accounts import audit, prepared
from accounts.models import Organization, User
from accounts.prepared import Columns
from billing import catalog, telling
from billing.models import Invoice, Subscription, Tariff
from billing.rating.period import (
    QUARTER,
    Period,
    billing_period,
    billing_periods,
    quarter_hour,
)


class SubscriptionRefused(ValueError):
    """The subscription stays as it is; the message says why and what to do instead."""


@transaction.atomic
def subscribe(
    organization: Organization,
    tariff: Tariff,
    starts_at: datetime,
    anchor_day: int = 1,
    *,
    grace_hours: int = 0,
    actor: User | None = None,
) -> Subscription:
    """Put an organization on a tariff from the quarter-hour on that starts_at lies in."""
    if tariff.currency != organization.currency:
        raise SubscriptionRefused(
            f"{organization} is billed in {organization.currency} and {tariff.code} is in "
            f"{tariff.currency}; choose a tariff in {organization.currency}."
        )
    starts_at = quarter_hour(starts_at)
    _refuse_overlap(organization, starts_at)
    subscription = Subscription(
        organization=organization,
        tariff=tariff,
        starts_at=starts_at,
        anchor_day=anchor_day,
        zone=organization.zone,
        grace_hours=grace_hours,
    )
    subscription.next_close_at = closes_at(subscription, period_at(subscription, starts_at))
    subscription.save(force_insert=True)
    telling.ask(
        catalog.terms_from(tariff, starts_at),
        {organization.pk: starts_at},
        reason=tariff.code,
    )
    audit.record(
        "subscription.started",
        subject=tariff.code,
        organization=organization,
        actor=actor,
        detail={"starts_at": starts_at.isoformat(), "anchor_day": anchor_day},
    )
    return subscription


def current(organization: Organization, now: datetime) -> Subscription | None:
    """The subscription in force at an instant; None if the organization has none then."""
    return (
        Subscription.objects.filter(
            Q(ends_at=None) | Q(ends_at__gt=now), organization=organization, starts_at__lte=now
        )
        .select_related("organization", "tariff")
        .first()
    )


@transaction.atomic
def change_tariff(
    subscription: Subscription, tariff: Tariff, at: datetime, *, actor: User | None = None
) -> Subscription:
    """End the one subscription and start the next in the same instant; a period is cut there."""
    at = quarter_hour(at)
    end(subscription, at, actor=actor)
    return subscribe(
        subscription.organization,
        tariff,
        at,
        subscription.anchor_day,
        grace_hours=subscription.grace_hours,
        actor=actor,
    )


@transaction.atomic
def end(subscription: Subscription, at: datetime, *, actor: User | None = None) -> None:
    """End a subscription on a quarter-hour; usage after that has no price until the next one."""
    at = quarter_hour(at)
    lock(subscription.organization_id)
    subscription.refresh_from_db()
    if subscription.ends_at is not None:
        raise SubscriptionRefused(f"It ends at {subscription.ends_at.isoformat()} already.")
    documents = subscription.invoices.exclude(status=Invoice.Status.DRAFT)
    billed_until: datetime | None = documents.aggregate(until=Max("period_end"))["until"]
    earliest = billed_until or subscription.starts_at + QUARTER
    if at < earliest:
        raise SubscriptionRefused(f"It can end at {earliest.isoformat()} at the earliest.")
    # A void document may still have to be replaced, so what is due stays due.
    closes = at + timedelta(hours=subscription.grace_hours)
    due = subscription.next_close_at
    subscription.ends_at, subscription.next_close_at = at, min(due, closes) if due else closes
    subscription.save(update_fields=["ends_at", "next_close_at"])
    audit.record(
        "subscription.ended",
        subject=subscription.tariff.code,
        organization=subscription.organization,
        actor=actor,
        detail={"ends_at": at.isoformat()},
    )


SUBSCRIPTION = Columns(Subscription, "subscription")
ORGANIZATION = Columns(Organization, "organization")
TARIFF = Columns(Tariff, "tariff")
LOCK = f"""
    SELECT {SUBSCRIPTION.text}, {ORGANIZATION.text}, {TARIFF.text}
    FROM billing_subscription subscription
    JOIN accounts_organization organization ON organization.id = subscription.organization_id
    JOIN billing_tariff tariff ON tariff.id = subscription.tariff_id
    WHERE subscription.organization_id = {{organization}}
    ORDER BY subscription.starts_at
    FOR NO KEY UPDATE OF subscription
"""  # noqa: S608 - names of columns
LOCK_OF = LOCK.format(organization="%s")
LOCK_SIBLINGS = LOCK.format(
    organization="(SELECT organization_id FROM billing_subscription WHERE id = %s)"
)


def lock(organization_id: int) -> list[Subscription]:
    """Lock an organization's subscriptions, in one order: whoever bills or ends them waits here."""
    return _locked(LOCK_OF, organization_id)


def lock_siblings(subscription_id: int) -> list[Subscription]:
    """The same, of the organization that a subscription is of. DoesNotExist if there is none."""
    locked = _locked(LOCK_SIBLINGS, subscription_id)
    if not locked:
        raise Subscription.DoesNotExist(f"There is no subscription {subscription_id}.")
    return locked


def _locked(statement: str, of: int) -> list[Subscription]:
    return [_joined(row) for row in prepared.rows(statement, [of])]


def _joined(row: Sequence[object]) -> Subscription:
    of_organization = len(SUBSCRIPTION)
    of_tariff = of_organization + len(ORGANIZATION)
    subscription = SUBSCRIPTION.instance(row[:of_organization])
    subscription.organization = ORGANIZATION.instance(row[of_organization:of_tariff])
    subscription.tariff = TARIFF.instance(row[of_tariff:])
    return subscription


def period_at(subscription: Subscription, moment: datetime) -> Period:
    """The period around an instant; before the start the first one, after the end the last."""
    last = subscription.ends_at - QUARTER if subscription.ends_at else moment
    moment = max(min(moment, last), subscription.starts_at)
    whole = billing_period(subscription.anchor_day, ZoneInfo(subscription.zone), moment)
    return _cut(whole, subscription)


def open_period(subscription: Subscription, now: datetime) -> Period:
    """The period that usage of this instant falls into."""
    return period_at(subscription, now)


def periods_ended(subscription: Subscription, now: datetime) -> list[Period]:
    """Every period that has ended, oldest first: they tile the time since the start."""
    until = min(now, subscription.ends_at) if subscription.ends_at else now
    periods = list(
        billing_periods(
            subscription.anchor_day,
            ZoneInfo(subscription.zone),
            start=subscription.starts_at,
            until=until,
        )
    )
    reached = periods[-1].end if periods else subscription.starts_at
    if subscription.ends_at and reached < subscription.ends_at <= now:
        periods.append(Period(reached, subscription.ends_at))
    return periods


def closes_at(subscription: Subscription, period: Period) -> datetime:
    """When a period may be closed: its end and the grace for late usage."""
    return period.end + timedelta(hours=subscription.grace_hours)


def _cut(period: Period, subscription: Subscription) -> Period:
    start = max(period.start, subscription.starts_at)
    end = min(period.end, subscription.ends_at) if subscription.ends_at else period.end
    return Period(start, end)


def _refuse_overlap(organization: Organization, starts_at: datetime) -> None:
    overlapping = Subscription.objects.filter(
        Q(ends_at=None) | Q(ends_at__gt=starts_at), organization=organization
    ).first()
    if overlapping:
        raise SubscriptionRefused(
            f"{organization} is on {overlapping.tariff.code}; end that first, or change its tariff."
        )
