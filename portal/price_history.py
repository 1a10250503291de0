"""What changed in the prices an organization pays, and from when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from billing import catalog, negotiations
from billing.models import Subscription

VERSIONS_MAX = 12
CHANGES_MAX = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One day on which prices changed."""

    valid_from: datetime
    name: str
    sentences: list[str]
    more: int  # sentences that are not shown


def of(subscription: Subscription, now: datetime) -> list[Step]:
    """The changes since the subscription began, listed and negotiated, newest first.

    The version it began with is where its prices started, and no change.
    """
    steps = [*_listed(subscription, now), *_negotiated(subscription, now)]
    return sorted(steps, key=lambda step: step.valid_from, reverse=True)[:VERSIONS_MAX]


def _listed(subscription: Subscription, now: datetime) -> Iterator[Step]:
    versions = subscription.tariff.versions.filter(
        withdrawn_at=None, valid_from__gt=subscription.starts_at, valid_from__lte=now
    )
    for version in versions.select_related("tariff").order_by("-valid_from")[:VERSIONS_MAX]:
        said = [change.sentence for change in catalog.changed_by(version)]
        yield _step(version.valid_from, str(version), said)


def _negotiated(subscription: Subscription, now: datetime) -> Iterator[Step]:
    agreed = subscription.negotiated.filter(withdrawn_at=None, valid_from__lte=now)
    for row in agreed.order_by("-valid_from")[:VERSIONS_MAX]:
        said = [change.sentence for change in negotiations.changed_by(row)]
        yield _step(row.valid_from, f"Negotiated: {row.reference}", said)


def _step(valid_from: datetime, name: str, said: list[str]) -> Step:
    return Step(valid_from, name, said[:CHANGES_MAX], max(len(said) - CHANGES_MAX, 0))
