"""Credit and debit notes: documents of their own kind, each of one issued invoice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import AuditEntry, Organization
from billing import catalog, invoicing, notes, subscriptions
from billing.models import Invoice, InvoiceSeries, Subscription
from billing.rating.period import Period
from metering import readings
from tests import build

pytestmark = pytest.mark.django_db

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MID_SEPTEMBER = datetime(2026, 9, 15, 12, tzinfo=UTC)
MTOK = 1_000_000


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """One dollar per million tokens, by calendar month in UTC, since September."""
    return build.make_subscription(organization=acme, starts_at=SEPTEMBER)


@pytest.fixture
def september(subscription: Subscription) -> Invoice:
    """Two dollars."""
    build.make_reading(
        organization=subscription.organization, starts_at=MID_SEPTEMBER, quantity=2 * MTOK
    )
    (invoice,) = invoicing.close_period(subscription.pk, OCTOBER)
    return invoice


def correct(invoice: Invoice, price: str, known_at: datetime = OCTOBER) -> None:
    tariff = invoice.subscription.tariff
    catalog.correct(tariff, build.flat_document(price=price), SEPTEMBER, known_at)


@transaction.atomic
def note(invoices: Sequence[Invoice], now: datetime = OCTOBER) -> list[Invoice]:
    """The notes of what these invoices are off by."""
    subscriptions.lock(invoices[0].organization_id)
    readings.stand_still(invoices[0].organization_id)
    return notes.issue([one for one in notes.differences(invoices) if one.minor], now)


def test_a_price_that_was_too_high_is_given_back_by_a_credit_note(september: Invoice) -> None:
    correct(september, "0.75")
    (credit,) = note([september])
    assert (credit.kind, credit.corrects, credit.number) == (
        Invoice.Kind.CREDIT_NOTE,
        september,
        "KT-CN-2026-000001",
    )
    assert [(line.version, line.quantity, line.amount_minor) for line in credit.lines.all()] == [
        ("flat@2", 2 * MTOK, 150),
        ("flat@1", -2 * MTOK, -200),
    ]
    assert (credit.total_minor, credit.due_at, credit.status) == (-50, None, "issued")
    assert credit.lines.get(position=2).trace["difference"] == {"now": 0, "billed": 2 * MTOK}


def test_a_price_that_was_too_low_is_charged_by_a_debit_note(september: Invoice) -> None:
    correct(september, "1.25")
    (debit,) = note([september])
    assert (debit.kind, debit.number) == (Invoice.Kind.DEBIT_NOTE, "KT-DN-2026-000001")
    assert debit.total_minor == 50
    assert debit.due_at is not None


def test_what_is_charged_anew_stands_beside_what_is_taken_back(
    subscription: Subscription,
) -> None:
    for register in ("input", "output"):
        build.make_reading(
            organization=subscription.organization,
            starts_at=MID_SEPTEMBER,
            quantity=2 * MTOK,
            register=register,
        )
    (invoice,) = invoicing.close_period(subscription.pk, OCTOBER)
    correct(invoice, "0.75")
    (credit,) = note([invoice])
    assert [(line.register, line.amount_minor) for line in credit.lines.all()] == [
        ("input", 150),
        ("input", -200),
        ("output", 150),
        ("output", -200),
    ]


def test_after_the_note_there_is_no_difference_left(september: Invoice) -> None:
    correct(september, "0.75")
    note([september])
    (left,) = notes.differences([september])
    assert (left.before_minor, left.lines, left.minor) == (150, [], 0)


def test_the_next_invoice_does_not_bill_what_a_note_has_billed(
    september: Invoice, subscription: Subscription
) -> None:
    correct(september, "0.75")
    note([september])
    (october,) = invoicing.close_period(subscription.pk, NOVEMBER)
    assert (october.total_minor, october.lines.count()) == (0, 0)


def test_a_note_does_not_take_back_what_a_later_invoice_billed_for_late_usage(
    september: Invoice, subscription: Subscription
) -> None:
    build.make_reading(
        organization=subscription.organization, starts_at=MID_SEPTEMBER, quantity=3 * MTOK
    )
    (october,) = invoicing.close_period(subscription.pk, NOVEMBER)
    assert october.total_minor == 300
    correct(september, "0.75", NOVEMBER)
    (difference,) = notes.differences([september])
    assert (difference.before_minor, difference.minor) == (500, -125)
    (credit,) = note([september], NOVEMBER)
    assert credit.corrects == september


def test_each_kind_of_document_has_numbers_of_its_own(
    september: Invoice, subscription: Subscription
) -> None:
    correct(september, "0.75")
    note([september])
    correct(september, "1")
    note([september])
    invoicing.close_period(subscription.pk, NOVEMBER)
    series = InvoiceSeries.objects.order_by("prefix").values_list("prefix", "last_number")
    assert list(series) == [("KT", 2), ("KT-CN", 1), ("KT-DN", 1)]


def test_a_void_invoice_takes_its_notes_along_and_the_next_one_carries_everything(
    september: Invoice, subscription: Subscription
) -> None:
    correct(september, "0.75")
    (credit,) = note([september])
    invoicing.void(september, "wrong buyer", OCTOBER)
    credit.refresh_from_db()
    assert credit.status == Invoice.Status.VOID
    assert credit.void_reason == "KT-2026-000001 was voided: wrong buyer"
    (again,) = invoicing.close_period(subscription.pk, OCTOBER)
    assert (again.replaces, again.total_minor) == (september, 150)
    actions = AuditEntry.objects.order_by("pk").values_list("action", flat=True)
    assert list(actions)[-2:] == ["credit_note.voided", "invoice.voided"]


def test_what_a_void_note_carried_comes_with_the_next_invoice_however_old_the_month(
    september: Invoice, subscription: Subscription
) -> None:
    correct(september, "0.75")
    (credit,) = note([september])
    invoicing.close_period(subscription.pk, DECEMBER)
    invoicing.void(credit, "the note names the wrong agreement", DECEMBER)
    (december,) = invoicing.close_period(subscription.pk, datetime(2027, 1, 1, tzinfo=UTC))
    assert december.total_minor == -50


def test_a_void_note_leaves_its_invoice_and_its_period_alone(
    september: Invoice, subscription: Subscription
) -> None:
    correct(september, "0.75")
    (credit,) = note([september])
    subscription.refresh_from_db()
    due = subscription.next_close_at
    invoicing.void(credit, "mistake", OCTOBER)
    september.refresh_from_db()
    subscription.refresh_from_db()
    assert (september.status, subscription.next_close_at) == ("issued", due)


def refused(sql: str, rule: str) -> None:
    with (
        pytest.raises(IntegrityError, match=rule),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)


COPY = """
    INSERT INTO billing_invoice (organization_id, subscription_id, kind, corrects_id, status,
        period_start, period_end, currency, zone, seller, buyer, subtotal_minor, tax_minor,
        total_minor, void_reason)
    SELECT organization_id, subscription_id, {kind}, {corrects}, 'draft', {start}, period_end,
        currency, zone, seller, buyer, {minor}, 0, {minor}, '' FROM billing_invoice
"""
NOTE = {"kind": "'credit_note'", "corrects": "id", "start": "period_start", "minor": "-1"}
REFUSED = [
    ({"corrects": "NULL"}, "note_names_what_it_corrects"),
    ({"kind": "'invoice'"}, "note_names_what_it_corrects"),
    ({"kind": "'debit_note'"}, "note_is_of_its_sign"),
    ({"minor": "0"}, "note_is_of_its_sign"),
    ({"start": "period_start + interval '1 day'"}, "note_is_of_an_issued_invoice"),
]


@pytest.mark.parametrize(("other", "rule"), REFUSED)
def test_the_database_refuses_a_note_that_is_of_no_invoice(
    september: Invoice, other: dict[str, str], rule: str
) -> None:
    refused(COPY.format(**NOTE | other), rule)


def test_the_database_refuses_a_note_of_a_void_invoice(september: Invoice) -> None:
    invoicing.void(september, "mistake", OCTOBER)
    refused(COPY.format(**NOTE), "note_is_of_an_issued_invoice")


def test_the_database_refuses_to_void_an_invoice_without_its_notes(september: Invoice) -> None:
    correct(september, "0.75")
    note([september])
    refused(
        "UPDATE billing_invoice SET status = 'void', voided_at = now(), void_reason = 'x'"
        f" WHERE id = {september.pk}",
        "invoice_is_voided_with_its_notes",
    )


def test_the_database_refuses_to_make_a_note_of_an_invoice(subscription: Subscription) -> None:
    draft = invoicing.draft(subscription, Period(SEPTEMBER, OCTOBER))
    refused(
        f"UPDATE billing_invoice SET kind = 'debit_note' WHERE id = {draft.pk}",
        "document_keeps_its_kind",
    )


def test_the_database_refuses_lines_of_another_period_on_a_note(september: Invoice) -> None:
    with connection.cursor() as cursor:
        cursor.execute(COPY.format(**NOTE))
    refused(
        "INSERT INTO billing_invoiceline (invoice_id, position, usage_start, usage_end, version,"
        " component, model, register, bucket, step, description, quantity, unit_price, per,"
        " amount_exact, amount_minor, trace)"
        " SELECT n.id, 1, l.usage_start - interval '1 day', l.usage_end, version, component, model,"
        " register, bucket, step, description, quantity, unit_price, per, amount_exact, -1, trace"
        " FROM billing_invoiceline l, billing_invoice n WHERE n.kind = 'credit_note'",
        "note_lines_are_of_its_period",
    )
