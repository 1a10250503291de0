"""From a correction to the bill: what changes a billed month is a difference, to the cent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.models import Organization
from billing import catalog, invoicing
from billing.models import Invoice, Subscription
from billing.waiting import NotTakenOut
from metering import backfills, readings, rejections
from metering.models import Rejection
from metering.rejections import Which
from tests import build
from tests.corrections import amend, event, send, void
from tests.meter import apply_all, database, empty_meter, make_body, no_bell

__all__ = ["database", "empty_meter", "no_bell"]

Database = psycopg.Connection[Any]
JULY, AUGUST, SEPTEMBER, OCTOBER, NOVEMBER, DECEMBER = (
    datetime(2026, month, 1, tzinfo=UTC) for month in range(7, 13)
)
JANUARY, FEBRUARY = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)
MTOK = 1_000_000


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """Since July one dollar a million tokens, since September three."""
    tariff = build.make_tariff()
    dearer = build.flat_document(price="3.00")
    catalog.add_version(tariff, dearer, SEPTEMBER, JULY)
    return build.make_subscription(organization=acme, starts_at=JULY, tariff=tariff)


def used(event_id: str, at: datetime, tokens: int, model: str = "m") -> Any:
    made = event(event_id, usage={"input": tokens}, model=model)
    return made._replace(occurred_at=at)


def backfilled(database: Database, acme: Organization, items: list[Any], now: datetime) -> int:
    """A backfill with these events, closed and rolled up."""
    number = backfills.open_backfill(acme, reason="r", start=JULY, end=NOVEMBER, now=now).id
    send(database, acme, items, backfill_id=number)
    backfills.close(acme, number, now=now)
    apply_all()
    return number


def close(subscription: Subscription, now: datetime) -> list[Invoice]:
    return invoicing.close_period(subscription.pk, now)


def lines(invoice: Invoice) -> list[tuple[datetime, str, int, int]]:
    return [
        (line.usage_start, line.model, line.quantity, line.amount_minor)
        for line in invoice.lines.order_by("position")
    ]


def dump() -> list[Any]:
    """Every issued document as it is stored."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT i::text FROM billing_invoice i WHERE status = 'issued' UNION ALL SELECT l::text"
            " FROM billing_invoiceline l JOIN billing_invoice i ON i.id = l.invoice_id"
            " WHERE i.status = 'issued' ORDER BY 1"
        )
        return cursor.fetchall()


@pytest.fixture
def billed(database: Database, acme: Organization, subscription: Subscription) -> list[Invoice]:
    """July to October, closed; 1.00 dollars of July, 6.00 of October."""
    items = [used("july", JULY + timedelta(days=9), MTOK),
             used("october", OCTOBER + timedelta(days=9), 2 * MTOK)]  # fmt: skip
    backfilled(database, acme, items, NOVEMBER - timedelta(days=1))
    invoices = close(subscription, NOVEMBER)
    assert [invoice.total_minor for invoice in invoices] == [100, 0, 0, 600]
    return invoices


def test_a_backfill_of_closed_months_is_billed_at_their_prices_and_given_back_when_reverted(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    before = dump()
    late = [used("a", JULY + timedelta(days=3), 500_000),
            used("b", AUGUST + timedelta(days=3), 250_000),
            used("c", SEPTEMBER + timedelta(days=3), 150_000)]  # fmt: skip
    number = backfilled(database, acme, late, NOVEMBER + timedelta(days=17))
    (november,) = close(subscription, DECEMBER)
    assert lines(november) == [
        (JULY, "m", 500_000, 50), (AUGUST, "m", 250_000, 25), (SEPTEMBER, "m", 150_000, 45),
    ]  # fmt: skip
    assert november.total_minor == 120
    assert [row for row in dump() if row in before] == before

    backfills.revert(acme, number, now=DECEMBER + timedelta(days=5))
    apply_all()
    between = dump()
    (december,) = close(subscription, JANUARY)
    assert lines(december) == [
        (JULY, "m", -500_000, -50), (AUGUST, "m", -250_000, -25), (SEPTEMBER, "m", -150_000, -45),
    ]  # fmt: skip
    assert [row for row in dump() if row in between] == between
    (january,) = close(subscription, FEBRUARY)
    assert lines(january) == []


def test_no_period_closes_while_a_reverted_backfill_leaves_the_readings(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    late = [used("a", JULY + timedelta(days=3), 500_000)]
    number = backfilled(database, acme, late, NOVEMBER + timedelta(days=17))
    backfills.revert(acme, number, now=NOVEMBER + timedelta(days=25))
    assert close(subscription, DECEMBER) == []
    assert invoicing.waiting_for(subscription, DECEMBER) == str(NotTakenOut())
    apply_all()
    (november,) = close(subscription, DECEMBER)
    assert lines(november) == []


def test_a_void_of_one_event_of_a_closed_month_gives_it_back(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    before = dump()
    send(database, acme, [void("v", "july")])
    apply_all()
    assert readings.changed_since(acme.pk, NOVEMBER) == JULY + timedelta(days=9)
    (november,) = close(subscription, DECEMBER)
    assert lines(november) == [(JULY, "m", -MTOK, -100)]
    assert [row for row in dump() if row in before] == before
    (december,) = close(subscription, JANUARY)
    assert lines(december) == []


def test_an_amendment_moves_usage_across_closed_invoices_to_another_model_and_price(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    amended = amend("new", "july", usage={"input": 700_000}, model="n")
    assert amended.event
    moved = amended.event._replace(occurred_at=SEPTEMBER + timedelta(days=1))
    send(database, acme, [amended._replace(event=moved)])
    apply_all()
    (november,) = close(subscription, DECEMBER)
    assert lines(november) == [(JULY, "m", -MTOK, -100), (SEPTEMBER, "n", 700_000, 210)]
    assert november.total_minor == 110


def test_what_a_void_document_carried_stands_on_the_one_that_replaces_it(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    send(database, acme, [void("v", "july")])
    apply_all()
    (november,) = close(subscription, DECEMBER)
    invoicing.void(november, "wrong address", DECEMBER)
    (again,) = close(subscription, DECEMBER + timedelta(days=1))
    assert lines(again) == lines(november) == [(JULY, "m", -MTOK, -100)]
    (december,) = close(subscription, JANUARY)
    assert lines(december) == []


def test_what_is_only_held_or_was_never_in_reaches_no_bill(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    now = NOVEMBER + timedelta(days=2)
    for step in (None, backfills.revert):
        number = backfills.open_backfill(acme, reason="r", start=JULY, end=AUGUST, now=now).id
        send(database, acme, [used(f"held-{number}", JULY, MTOK)], backfill_id=number)
        if step:
            step(acme, number, now=now)
    apply_all()
    assert readings.changed_since(acme.pk, NOVEMBER + timedelta(days=1)) is None
    (november,) = close(subscription, DECEMBER)
    assert lines(november) == []


def test_a_replay_of_what_was_rejected_long_ago_is_billed(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    """Kept for thirty days and as old as an event may be: older than a draft looks by itself."""
    came_at, replayed_at = DECEMBER + timedelta(days=3), DECEMBER + timedelta(days=32)
    (november,) = close(subscription, DECEMBER)
    row, _ = build.make_key(organization=acme)
    body = make_body(id="late", project="later", model="m", usage={"input": MTOK},
                     occurred_at=(OCTOBER + timedelta(days=30)).isoformat())  # fmt: skip
    Rejection.objects.create(
        organization_id=acme.pk, id=1, digest=b"d", received_at=came_at, seen=1, batch_id=1,
        api_key_id=row.pk, form="native", code="unknown_project", pointer="", detail="d",
        event_id="late", raw=json.dumps(body), masked=False,
    )  # fmt: skip
    (december,) = close(subscription, JANUARY)
    build.make_project(organization=acme, slug="later")
    assert rejections.replay(acme.pk, Which(), now=replayed_at).taken == 1
    apply_all()
    assert (lines(november), lines(december)) == ([], [])
    (january,) = close(subscription, FEBRUARY)
    assert lines(january) == [(OCTOBER, "m", MTOK, 300)]


def test_a_draft_looks_no_further_back_than_it_must(
    database: Database, acme: Organization, subscription: Subscription, billed: list[Invoice]
) -> None:
    """The months of the first backfill were billed after it: nobody rates them again for ever."""
    moment = max(invoice.created_at for invoice in billed) + timedelta(days=2)
    assert readings.changed_since(acme.pk, moment) is None
