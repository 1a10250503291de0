"""Invoices: the list, the document, its file, and each line down to the quarter-hour."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime

import pytest

from accounts.models import Organization, User
from billing import catalog, invoicing
from billing.models import Invoice, Subscription
from tests.web.portal_acme import (
    DECEMBER,
    MTOK,
    NOVEMBER,
    at_now,
    invoice,
    metered,
    signed_in,
    text_of,
    use,
)

__all__ = ["at_now", "invoice", "metered"]

LATE = datetime(2026, 10, 20, 10, 30, tzinfo=UTC)


@pytest.fixture
def corrected(invoice: Invoice, metered: Subscription, acme: Organization) -> Invoice:
    """November's invoice, which also bills a million tokens of October that came late."""
    use(acme, LATE, MTOK)
    (november,) = invoicing.close_period(metered.pk, DECEMBER)
    return november


def test_the_list_shows_documents_and_the_open_period(invoice: Invoice, alice: User) -> None:
    page = text_of(signed_in(alice), "/o/acme/invoices/")
    assert f"{invoice.number} Oct 1, 2026 to Oct 31, 2026 Nov 1, 2026" in page
    assert "issued $1.75" in page
    assert "Open period Nov 1, 2026 to Nov 30, 2026: $2.50 so far." in page


def test_without_invoices_the_page_says_when_the_first_comes(
    metered: Subscription, alice: User
) -> None:
    page = text_of(signed_in(alice), "/o/acme/invoices/")
    assert "No invoices yet" in page
    assert "on Dec 1, 2026" in page


def test_a_document_shows_parties_period_lines_and_totals(
    acme: Organization, metered: Subscription, alice: User
) -> None:
    acme.billing_name, acme.city, acme.country = "Acme GmbH", "Berlin", "DE"
    acme.save(update_fields=["billing_name", "city", "country"])
    (issued,) = invoicing.close_period(metered.pk, NOVEMBER)
    page = text_of(signed_in(alice), f"/o/acme/invoices/{issued.number}/")
    assert f"Invoice {issued.number} Oct 1, 2026 to Oct 31, 2026 (Europe/Berlin)" in page
    assert "To Acme GmbH Berlin Germany" in page
    assert "gpt-5 $1.75" in page
    assert "Input 1,500,000 $1.00 per million $1.50" in page
    assert "Output 250,000 $1.00 per million $0.25" in page
    assert "Subtotal $1.75 Tax $0.00 Total USD $1.75" in page
    assert "Correction" not in page


def test_a_lines_position_is_its_row_on_the_document(
    acme: Organization, metered: Subscription, alice: User
) -> None:
    """Rating goes price by price through the models; the document goes model by model."""
    by_register = [
        {"code": register, "models": ["*"], "registers": [register], "shape": "flat",
         "per": MTOK, "price": "1"}
        for register in ("input", "output")
    ]  # fmt: skip
    document = {"currency": "USD", "components": by_register}
    start = metered.starts_at
    catalog.publish_approved(metered.tariff, document, start, NOVEMBER, correcting=True)
    for model in ("gpt-5", "qwen-plus"):
        for register in ("input", "output"):
            use(acme, LATE, MTOK, model=model, register=register)
    (issued,) = invoicing.close_period(metered.pk, NOVEMBER)
    html = signed_in(alice).get(f"/o/acme/invoices/{issued.number}/").content.decode()
    shown = [int(place) for place in re.findall(r"/lines/(\d+)/", html)]
    assert len(shown) == 4
    assert shown == [1, 2, 3, 4]


def test_what_an_earlier_period_still_owed_stands_apart(corrected: Invoice, alice: User) -> None:
    page = text_of(signed_in(alice), f"/o/acme/invoices/{corrected.number}/")
    assert "Correction of an earlier period: Oct 1, 2026 to Oct 31, 2026" in page
    assert page.index("qwen-plus $0.50") < page.index("Correction of an earlier period")
    assert "Total USD $3.50" in page
    assert "Input 1,000,000 $1.00 per million $1.00" in page


def test_a_void_document_says_why(invoice: Invoice, alice: User, at_now: datetime) -> None:
    invoicing.void(invoice, "Wrong tax number", at_now)
    assert "void" in text_of(signed_in(alice), "/o/acme/invoices/")
    page = text_of(signed_in(alice), f"/o/acme/invoices/{invoice.number}/")
    assert "This invoice is void since Nov 18, 2026 : Wrong tax number" in page


def test_the_lines_come_as_a_file(corrected: Invoice, alice: User) -> None:
    response = signed_in(alice).get(f"/o/acme/invoices/{corrected.number}/lines.csv")
    assert response["Content-Disposition"] == f'attachment; filename="{corrected.number}.csv"'
    content = b"".join(response.streaming_content).decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    late = rows[-1]
    assert (late["model"], late["quantity"], late["unit_price"], late["per"]) == (
        "gpt-5", "1000000", "1", "1000000",
    )  # fmt: skip
    assert (late["amount_exact"], late["amount"], late["currency"]) == ("1", "1.00", "USD")
    assert late["usage_start"] == "2026-09-30T22:00:00+00:00"
    assert [row["position"] for row in rows] == ["1", "2", "3"]


def test_a_line_opens_down_to_readings_that_sum_to_it(invoice: Invoice, alice: User) -> None:
    line = invoice.lines.get(register="input")
    page = text_of(signed_in(alice), f"/o/acme/invoices/{invoice.number}/lines/{line.position}/")
    assert "1,500,000 input tokens of gpt-5 at 1.00 USD per million = 1.50 USD." in page
    assert "Oct 5, 2026 1500000" not in page
    assert "1,500,000 12:00 1,000,000 12:15 500,000 Together 1,500,000" in page
    assert "The days sum to this line's quantity, token by token." in page
    assert "Used from 2026-10-01 00:00 UTC+02:00 until 2026-11-01 00:00 UTC+01:00." in page
    assert "Billed for gpt-5, input 1,500,000 Metered, as of now 1,500,000" in page
    assert "It does" in page


def test_a_line_says_what_changed_since(invoice: Invoice, acme: Organization, alice: User) -> None:
    use(acme, LATE, MTOK)
    line = invoice.lines.get(register="input")
    page = text_of(signed_in(alice), f"/o/acme/invoices/{invoice.number}/lines/{line.position}/")
    assert "Changed since" in page
    assert "Billed for gpt-5, input 1,500,000 Metered, as of now 2,500,000" in page
    assert "Not billed yet" in page
    assert "1,000,000 input tokens of gpt-5" in page


def test_a_corrected_line_leads_to_the_line_it_corrects(
    corrected: Invoice, invoice: Invoice, alice: User
) -> None:
    page = text_of(signed_in(alice), f"/o/acme/invoices/{corrected.number}/lines/3/")
    assert "This line corrects an earlier period, Oct 1, 2026 to Oct 31, 2026" in page
    assert f"{invoice.number}, line 1" in page
    assert "Billed for gpt-5, input 2,500,000" in page


@pytest.mark.parametrize("path", ["NOPE/", "KT-2026-000001/lines/99/", "NOPE/lines.csv"])
def test_what_is_not_there_is_not_found(invoice: Invoice, alice: User, path: str) -> None:
    assert signed_in(alice).get(f"/o/acme/invoices/{path}").status_code == 404
