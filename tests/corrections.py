"""Corrections for tests: voids, amendments and backfills, and what became of them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import psycopg

from accounts.models import Organization
from metering import backfills, readings, store
from metering.store import Incoming, Stored
from metering.usage.correction import Correction
from metering.usage.event import Rejected, UsageEvent
from tests.conftest import NOW
from tests.meter import (
    make_event,
    readings_of,
)

Database = psycopg.Connection[Any]
JULY = datetime(2026, 7, 1, tzinfo=UTC)


def void(event_id: str, target: str, reason: str | None = None) -> Correction:
    return Correction(event_id, "gateway-1", target, reason, None)


def amend(event_id: str, target: str, **fields: Any) -> Correction:
    event = make_event(now=NOW, id=event_id, **fields)
    return Correction(event_id, "gateway-1", target, None, event)


def send(
    database: Database,
    organization: Organization,
    items: list[UsageEvent | Correction],
    **options: Any,
) -> Stored:
    project_id = organization.projects.get(slug="default").pk
    return store.store(
        database, organization.pk, 1,
        [incoming(ordinal, item, project_id) for ordinal, item in enumerate(items)], **options,
    )  # fmt: skip


def incoming(ordinal: int, item: UsageEvent | Correction, project_id: int) -> Incoming:
    if isinstance(item, UsageEvent):
        return Incoming(ordinal, item, project_id)
    if item.event is None:
        return Incoming(ordinal, item, 0, item)
    return Incoming(ordinal, item.event, project_id, item)


def said(stored: Stored) -> list[str]:
    return [one.code if isinstance(one, Rejected) else one.status.value for one in stored.outcomes]


def detail(stored: Stored, index: int = 0) -> str:
    return stored.outcomes[index].detail or ""


def event(event_id: str, **fields: Any) -> UsageEvent:
    return make_event(now=NOW, id=event_id, **fields)


def tokens(organization: Organization) -> dict[str, int]:
    total: Counter[str] = Counter()
    for row in readings_of(organization):
        total[row[-2]] += row[-1]
    return {name: quantity for name, quantity in total.items() if quantity}


def nothing_waits() -> bool:
    """Whether the roll-up did everything, and gave nothing back as too hard."""
    fresh = readings.freshness()
    return (fresh.pending_batches, fresh.failed_batches) == (0, 0)


def opened(organization: Organization) -> int:
    return backfills.open_backfill(organization, reason="r", start=JULY, end=NOW, now=NOW).id
