"""What was issued or published cannot be changed, not even by SQL; each refusal names its rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import Organization
from billing import catalog, invoicing
from billing.models import Invoice, Subscription
from billing.rating.period import Period
from tests import build

pytestmark = pytest.mark.django_db

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER)
    build.make_reading(organization=acme, starts_at=SEPTEMBER, quantity=2_000_000)
    return subscription


@pytest.fixture
def invoice(subscription: Subscription) -> Invoice:
    (invoice,) = invoicing.close_period(subscription.pk, OCTOBER)
    return invoice


def refused(sql: str, rule: str) -> None:
    """Run a statement that one rule must refuse, under that rule's name."""
    with pytest.raises(IntegrityError, match=rule) as caught, transaction.atomic():
        run(sql)
    cause = caught.value.__cause__
    assert isinstance(cause, psycopg.errors.IntegrityError)
    assert cause.diag.constraint_name == rule


def run(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.rowcount


ISSUED_INVOICE = [
    "UPDATE billing_invoice SET total_minor = 0, subtotal_minor = 0",
    "UPDATE billing_invoice SET status = 'draft', number = NULL, issued_at = NULL",
    "UPDATE billing_invoice SET number = 'KT-2026-000009'",
    "UPDATE billing_invoice SET buyer = '{}'",
    "UPDATE billing_invoice SET due_at = due_at + interval '1 day'",
    "UPDATE billing_invoice SET status = 'void'",
    "UPDATE billing_invoice SET status = 'void', voided_at = now()",
    "UPDATE billing_invoice SET status = 'void', voided_at = now(), void_reason = 'x', zone = 'x'",
    "DELETE FROM billing_invoice",
]


@pytest.mark.parametrize("sql", ISSUED_INVOICE)
def test_an_issued_invoice_can_only_be_voided(invoice: Invoice, sql: str) -> None:
    refused(sql, "invoice_issued_is_frozen")


def test_a_void_invoice_stays_void(invoice: Invoice) -> None:
    invoicing.void(invoice, "mistake", OCTOBER)
    refused(
        "UPDATE billing_invoice SET status = 'issued', voided_at = NULL, void_reason = ''",
        "invoice_issued_is_frozen",
    )
    refused("UPDATE billing_invoice SET void_reason = 'other'", "invoice_issued_is_frozen")


FROZEN_LINES = [
    "UPDATE billing_invoiceline SET quantity = 1",
    "UPDATE billing_invoiceline SET description = ''",
    "DELETE FROM billing_invoiceline",
    """INSERT INTO billing_invoiceline (invoice_id, position, usage_start, usage_end, version,
        component, model, register, bucket, step, description, quantity, unit_price, per,
        amount_exact, amount_minor, trace)
    SELECT invoice_id, 99, usage_start, usage_end, version, component, model, register, bucket,
        step, description, quantity, unit_price, per, amount_exact, amount_minor, trace
    FROM billing_invoiceline""",
]


@pytest.mark.parametrize("sql", FROZEN_LINES)
def test_the_lines_of_an_issued_invoice_stay(invoice: Invoice, sql: str) -> None:
    refused(sql, "invoice_lines_are_frozen")
    invoicing.void(invoice, "mistake", OCTOBER)
    refused(sql, "invoice_lines_are_frozen")


def test_a_line_cannot_move_onto_an_issued_invoice(
    invoice: Invoice, subscription: Subscription
) -> None:
    build.make_reading(organization=subscription.organization, starts_at=OCTOBER, quantity=1)
    draft = invoicing.draft(subscription, Period(OCTOBER, OCTOBER + timedelta(days=31)))
    refused(
        f"UPDATE billing_invoiceline SET invoice_id = {invoice.pk}, position = 9 "
        f"WHERE invoice_id = {draft.pk}",
        "invoice_lines_are_frozen",
    )


def test_a_draft_may_still_change(subscription: Subscription) -> None:
    draft = invoicing.draft(subscription, Period(SEPTEMBER, OCTOBER))
    assert run("UPDATE billing_invoiceline SET description = 'other'") == 1
    assert draft.delete()[0] == 2


def test_an_invoice_begins_as_a_draft(subscription: Subscription) -> None:
    with pytest.raises(IntegrityError, match="invoice_begins_as_draft"), transaction.atomic():
        Invoice.objects.create(
            organization=subscription.organization,
            subscription=subscription,
            status=Invoice.Status.ISSUED,
            number="X",
            issued_at=OCTOBER,
            period_start=SEPTEMBER,
            period_end=OCTOBER,
            currency="USD",
            zone="UTC",
        )


def test_an_invoice_is_issued_only_if_it_is_the_sum_of_its_lines(
    subscription: Subscription,
) -> None:
    invoicing.draft(subscription, Period(SEPTEMBER, OCTOBER))
    refused(
        "UPDATE billing_invoice SET subtotal_minor = 1, total_minor = 1, status = 'issued', "
        "number = 'X', issued_at = now()",
        "invoice_is_the_sum_of_its_lines",
    )


def test_a_period_has_one_invoice_that_counts(invoice: Invoice) -> None:
    with pytest.raises(IntegrityError, match="invoice_one_per_period"), transaction.atomic():
        Invoice.objects.create(
            organization=invoice.organization,
            subscription=invoice.subscription,
            period_start=OCTOBER - timedelta(minutes=15),
            period_end=OCTOBER,
            currency="USD",
            zone="UTC",
        )


VERSION = [
    ("document = '{}'", "tariff_version_is_never_edited"),
    ("valid_from = valid_from - interval '1 day'", "tariff_version_is_never_edited"),
    ("number = 7", "tariff_version_is_never_edited"),
    ("known_at = now()", "tariff_version_is_never_edited"),
    ("valid_to = NULL", "tariff_version_is_never_prolonged"),
    ("valid_to = valid_to + interval '1 day'", "tariff_version_is_never_prolonged"),
]


@pytest.mark.parametrize(("change", "rule"), VERSION)
def test_a_published_version_is_never_edited(
    subscription: Subscription, change: str, rule: str
) -> None:
    tariff = subscription.tariff
    catalog.add_version(tariff, build.flat_document(price="2"), OCTOBER, OCTOBER)
    refused(f"UPDATE billing_tariffversion SET {change} WHERE number = 1", rule)


def test_a_published_version_is_neither_removed_nor_brought_back(
    subscription: Subscription,
) -> None:
    refused("DELETE FROM billing_tariffversion", "tariff_version_stays")
    tariff = subscription.tariff
    catalog.correct(
        tariff, build.flat_document(), tariff.versions.get().valid_from, tariff.created_at
    )
    refused(
        "UPDATE billing_tariffversion SET withdrawn_at = NULL WHERE number = 1",
        "tariff_version_stays_withdrawn",
    )


def test_a_tariff_keeps_its_code_and_currency(subscription: Subscription) -> None:
    refused("UPDATE billing_tariff SET code = 'other'", "tariff_code_and_currency_stay")
    refused("UPDATE billing_tariff SET currency = 'EUR'", "tariff_code_and_currency_stay")
    assert run("UPDATE billing_tariff SET name = 'Other'") == 1


NUMBERS = [
    "UPDATE billing_invoiceseries SET last_number = last_number + 2",
    "UPDATE billing_invoiceseries SET last_number = last_number",
    "UPDATE billing_invoiceseries SET last_number = last_number - 1",
    "UPDATE billing_invoiceseries SET last_number = last_number + 1, year = 2027",
    "UPDATE billing_invoiceseries SET last_number = last_number + 1, last_issued_at = '2020-01-01'",
    """INSERT INTO billing_invoiceseries (prefix, year, last_number, last_issued_at)
    VALUES ('A', 2026, 2, now())""",
]


@pytest.mark.parametrize("sql", NUMBERS)
def test_a_series_counts_up_one_by_one(invoice: Invoice, sql: str) -> None:
    refused(sql, "invoice_numbers_are_gapless")


def test_a_series_is_never_removed(invoice: Invoice) -> None:
    refused("DELETE FROM billing_invoiceseries", "invoice_series_stays")


BILLED_SUBSCRIPTION = [
    ("anchor_day = 15", "subscription_billed_stays"),
    ("zone = 'Asia/Shanghai'", "subscription_billed_stays"),
    ("starts_at = starts_at - interval '1 day'", "subscription_billed_stays"),
    ("ends_at = '2026-09-15T00:00Z'", "subscription_ends_after_billed"),
]


@pytest.mark.parametrize(("change", "rule"), BILLED_SUBSCRIPTION)
def test_a_billed_subscription_keeps_what_its_periods_are_computed_from(
    invoice: Invoice, change: str, rule: str
) -> None:
    refused(f"UPDATE billing_subscription SET {change}", rule)


def test_periods_and_versions_begin_on_quarter_hours(subscription: Subscription) -> None:
    with pytest.raises(IntegrityError, match="subscription_starts_on_a_quarter_hour"):
        run("UPDATE billing_subscription SET starts_at = starts_at + interval '7 minutes'")
