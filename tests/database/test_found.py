"""A search by time finds every event of its window and no other, by whichever way it walks."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.models import Organization
from metering import found
from metering.found import EventSearch
from metering.usage.correction import Correction
from tests.conftest import NOW
from tests.corrections import send
from tests.meter import database, empty_meter, make_event, store_events

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]
HOUR = timedelta(hours=1)
DAYS = 6


def stored(database: Database, acme: Organization, seed: int) -> dict[str, datetime]:
    """Batches that come in any order and reach over none, one or several midnights."""
    chance = random.Random(seed)
    happened = {}
    for batch in range(25):
        begins = NOW - timedelta(hours=chance.randrange(DAYS * 24))
        span = chance.choice((timedelta(0), HOUR, 30 * HOUR))
        moments = [begins - span * chance.random() for _ in range(3)]
        ids = [f"e-{batch}-{number}" for number in range(3)]
        happened |= dict(zip(ids, moments, strict=True))
        store_events(database, acme, [
            make_event(now=NOW, id=one, occurred_at=at.isoformat())
            for one, at in zip(ids, moments, strict=True)
        ])  # fmt: skip
    return happened


@pytest.mark.parametrize("days_max", [found.DAYS_MAX, 0], ids=["by days", "from the newest back"])
@pytest.mark.parametrize("seed", range(3))
def test_a_window_finds_what_happened_in_it_and_nothing_else(
    database: Database,
    acme: Organization,
    monkeypatch: pytest.MonkeyPatch,
    days_max: int,
    seed: int,
) -> None:
    monkeypatch.setattr(found, "DAYS_MAX", days_max)
    monkeypatch.setattr(found, "BATCHES_AT_ONCE", (2, 3))
    happened = stored(database, acme, seed)
    chance = random.Random(seed)
    for _ in range(40):
        start = NOW - timedelta(minutes=chance.randrange((DAYS + 2) * 24 * 60))
        end = start + timedelta(minutes=chance.randrange(3 * 24 * 60))
        ids, before = [], None
        while True:  # page by page, as a reader does
            page = found.event_page(
                acme.pk, EventSearch(start=start, end=end, before=before), limit=4
            )
            ids += [event.id for event in page.events]
            if (before := page.next) is None:
                break
        assert len(set(ids)) == len(ids)
        assert set(ids) == {one for one, at in happened.items() if start <= at < end}


def test_a_window_with_an_open_edge_finds_the_same(database: Database, acme: Organization) -> None:
    happened = stored(database, acme, 7)
    middle = NOW - timedelta(days=2)
    before = found.event_page(acme.pk, EventSearch(end=middle), limit=1_000).events
    since = found.event_page(acme.pk, EventSearch(start=middle), limit=1_000).events
    assert {event.id for event in before} == {one for one, at in happened.items() if at < middle}
    assert {event.id for event in since} == {one for one, at in happened.items() if at >= middle}


def test_a_batch_says_when_its_events_happened_and_one_of_voids_says_nothing(
    database: Database, acme: Organization
) -> None:
    moments = [NOW - HOUR * number for number in (5, 2, 3)]
    first = send(database, acme, [
        make_event(now=NOW, id=f"e-{number}", occurred_at=at.isoformat())
        for number, at in enumerate(moments)
    ])  # fmt: skip
    second = send(database, acme, [Correction("v", "gateway-1", "e-1", None, None)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, occurred_first, occurred_last FROM metering_ingestbatch")
        told = {row[0]: row[1:] for row in cursor.fetchall()}
    assert told == {
        first.batch_id: (NOW - 5 * HOUR, NOW - 2 * HOUR),
        second.batch_id: (None, None),
    }
