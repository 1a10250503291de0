"""The versions of the prices an organization pays: what each changed, and from when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

from django.db.models import Q

from billing import catalog, changes_in_words, negotiations
from billing.models import NegotiatedTerms, Subscription, TariffVersion
from billing.rating.negotiated import Agreement
from billing.rating.tariff import Terms

VERSIONS_MAX = 12
CHANGES_MAX = 60


@dataclass(frozen=True, slots=True)
class Zones:
    """A subscription's own time zone, and those that its tariff was written in."""

    own: str
    others: tuple[str, ...]


class State(StrEnum):
    """Where a version stands at the moment."""

    ANNOUNCED = "announced"
    IN_FORCE = "in force"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Step:
    """One instant from which other prices hold."""

    valid_from: datetime
    zone: str
    name: str
    state: State
    is_first: bool  # where the subscription's prices started, which is no change
    corrected_at: datetime | None  # when it was published, for usage that lay behind already
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


def of(subscription: Subscription, listed: Terms, zones: Zones, now: datetime) -> list[Step]:
    """The versions, listed and negotiated, that the subscription has had or will have, the latest
    start first; of many the latest. `listed`: the tariff's terms now."""
    steps = [*_listed(subscription, zones, now), *_negotiated(subscription, listed, zones, now)]
    return sorted(steps, key=lambda step: step.valid_from, reverse=True)[:VERSIONS_MAX]


def _listed(subscription: Subscription, zones: Zones, now: datetime) -> Iterator[Step]:
    """Each version beside the one that ends where it begins, by what is known today."""
    versions = subscription.tariff.versions.filter(
        Q(valid_to=None) | Q(valid_to__gt=subscription.starts_at), withdrawn_at=None
    )
    latest = list(versions.select_related("tariff").order_by("-valid_from")[: VERSIONS_MAX + 1])
    for version, before in zip(latest, [*latest[1:], None], strict=False):
        terms = catalog.terms_of(version)
        said = changes_in_words.sentences(catalog.terms_of(before), terms, terms) if before else []
        yield _step(version, zones, str(version), said, now, is_first=before is None)


def _negotiated(
    subscription: Subscription, listed: Terms, zones: Zones, now: datetime
) -> Iterator[Step]:
    agreed = subscription.negotiated.filter(withdrawn_at=None).order_by("-valid_from")
    latest = list(agreed[: VERSIONS_MAX + 1])
    for row, before in zip(latest, [*latest[1:], None], strict=False):
        old = negotiations.agreement_of(before) if before else Agreement()
        said = changes_in_words.sentences(old, negotiations.agreement_of(row), listed)
        yield _step(row, zones, f"Negotiated: {row.reference}", said, now)


def _step(
    row: TariffVersion | NegotiatedTerms,
    zones: Zones,
    name: str,
    said: Sequence[str],
    now: datetime,
    *,
    is_first: bool = False,
) -> Step:
    return Step(
        valid_from=row.valid_from,
        zone=zone_of(row.valid_from, zones),
        name=name,
        state=_state(row, now),
        is_first=is_first,
        corrected_at=row.known_at if row.known_at > row.valid_from and not is_first else None,
        sentences=list(said[:CHANGES_MAX]),
        more=max(len(said) - CHANGES_MAX, 0),
    )


def _state(row: TariffVersion | NegotiatedTerms, now: datetime) -> State:
    if row.valid_from > now:
        return State.ANNOUNCED
    if row.valid_to is not None and row.valid_to <= now:
        return State.OVER
    return State.IN_FORCE
