"""What changed in the prices an organization pays, and from when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo

from billing import catalog, negotiations
from billing.models import Subscription
from billing.rating.tariff import Terms

VERSIONS_MAX = 12
CHANGES_MAX = 60


@dataclass(frozen=True, slots=True)
class Zones:
    """A subscription's own time zone, and those that its tariff was written in."""

    own: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One day on which prices changed."""

    valid_from: datetime
    zone: str
    name: str
    sentences: list[str]
    more: int  # sentences that are not shown


def zones(subscription: Subscription, terms: Terms) -> Zones:
    """The zones that a version's first instant may have been meant in."""
    named = [terms.calendar.zone.key] if terms.calendar else []
    return Zones(own=subscription.zone, others=(*named, "UTC"))


def zone_of(start: datetime, zones: Zones) -> str:
    """The zone to show a version's first instant in: where a day begins with it, so that nobody
    reads December 31 where January 1 was published; else the subscription's own."""
    midnights = (
        zone
        for zone in (zones.own, *zones.others)
        if start.astimezone(ZoneInfo(zone)).time() == time()
    )
    return next(midnights, zones.own)


def of(subscription: Subscription, zones: Zones, now: datetime) -> list[Step]:
    """The changes since the subscription began, listed and negotiated, newest first.

    The version it began with is where its prices started, and no change.
    """
    steps = [*_listed(subscription, zones, now), *_negotiated(subscription, zones, now)]
    return sorted(steps, key=lambda step: step.valid_from, reverse=True)[:VERSIONS_MAX]


def _listed(subscription: Subscription, zones: Zones, now: datetime) -> Iterator[Step]:
    versions = subscription.tariff.versions.filter(
        withdrawn_at=None, valid_from__gt=subscription.starts_at, valid_from__lte=now
    )
    for version in versions.select_related("tariff").order_by("-valid_from")[:VERSIONS_MAX]:
        said = [change.sentence for change in catalog.changed_by(version)]
        yield _step(version.valid_from, zones, str(version), said)


def _negotiated(subscription: Subscription, zones: Zones, now: datetime) -> Iterator[Step]:
    agreed = subscription.negotiated.filter(withdrawn_at=None, valid_from__lte=now)
    for row in agreed.order_by("-valid_from")[:VERSIONS_MAX]:
        said = [change.sentence for change in negotiations.changed_by(row)]
        yield _step(row.valid_from, zones, f"Negotiated: {row.reference}", said)


def _step(valid_from: datetime, zones: Zones, name: str, said: list[str]) -> Step:
    zone = zone_of(valid_from, zones)
    return Step(valid_from, zone, name, said[:CHANGES_MAX], max(len(said) - CHANGES_MAX, 0))
