"""Credit and debit notes as a member sees them: by kind, and an invoice and its notes both ways."""

from __future__ import annotations

import csv
import io

import pytest

from accounts.models import User
from billing import catalog, invoicing
from billing.models import Invoice, Subscription
from tests import build
from tests.database.test_notes import note
from tests.web.portal_acme import NOVEMBER, OCTOBER, at_now, invoice, metered, signed_in, text_of

__all__ = ["at_now", "invoice", "metered"]


def corrected(invoice: Invoice, price: str) -> Invoice:
    """October's note, after its price was corrected."""
    catalog.publish_approved(
        invoice.subscription.tariff,
        build.flat_document(price=price),
        OCTOBER,
        NOVEMBER,
        correcting=True,
    )
    (issued,) = note([invoice], NOVEMBER)
    return issued


@pytest.fixture
def credit(invoice: Invoice) -> Invoice:
    return corrected(invoice, "0.80")


def test_a_credit_note_says_what_it_is_what_it_corrects_and_what_is_given_back(
    credit: Invoice, invoice: Invoice, alice: User
) -> None:
    page = text_of(signed_in(alice), f"/o/acme/invoices/{credit.number}/")
    assert "Credit note KT-CN-2026-000001" in page
    assert f"This corrects invoice {invoice.number} :" in page
    assert "The total is given back to you." in page
    assert "Total USD -$0.35" in page
    assert "Due" not in page


def test_a_debit_note_says_what_is_owed_besides_and_until_when(
    invoice: Invoice, alice: User
) -> None:
    debit = corrected(invoice, "1.20")
    page = text_of(signed_in(alice), f"/o/acme/invoices/{debit.number}/")
    assert "Debit note KT-DN-2026-000001" in page
    assert "The total is owed besides." in page
    assert "Total USD $0.35" in page
    assert "Due Nov 15, 2026" in page


def test_the_invoice_names_its_notes_also_those_that_are_void(
    credit: Invoice, invoice: Invoice, alice: User
) -> None:
    client = signed_in(alice)
    address = f"/o/acme/invoices/{invoice.number}/"
    assert "Corrected since: credit note KT-CN-2026-000001 over -$0.35." in text_of(client, address)
    invoicing.void(credit, "mistake", NOVEMBER)
    assert "over -$0.35 (void)." in text_of(client, address)
    page = text_of(client, f"/o/acme/invoices/{credit.number}/")
    assert "This credit note is void since Nov 1, 2026 : mistake" in page


def test_the_list_shows_a_note_above_its_invoice(
    credit: Invoice, invoice: Invoice, alice: User
) -> None:
    page = text_of(signed_in(alice), "/o/acme/invoices/")
    assert f"{credit.number} Credit note for {invoice.number} Oct 1, 2026" in page
    assert page.index(str(credit.number)) < page.rindex(f"{invoice.number} Oct 1, 2026")


def test_a_line_of_a_note_is_explained_and_adds_up_with_its_invoice(
    credit: Invoice, invoice: Invoice, alice: User
) -> None:
    position = credit.lines.get(version="flat@1", register="input").position
    page = text_of(signed_in(alice), f"/o/acme/invoices/{credit.number}/lines/{position}/")
    assert f"This line corrects invoice {invoice.number} :" in page
    assert "A correction: 0 in all, less 1,500,000 on earlier documents." in page
    assert f"{invoice.number}, line 1" in page
    assert "It does" in page


def test_the_file_names_the_kind_and_what_is_corrected(
    credit: Invoice, invoice: Invoice, alice: User
) -> None:
    response = signed_in(alice).get(f"/o/acme/invoices/{credit.number}/lines.csv")
    text = b"".join(response.streaming_content).decode()
    row = next(csv.DictReader(io.StringIO(text)))
    assert (row["kind"], row["corrects"]) == ("credit_note", invoice.number)


def test_the_overview_shows_the_last_invoice_and_no_note(
    credit: Invoice, invoice: Invoice, metered: Subscription, alice: User
) -> None:
    page = text_of(signed_in(alice), "/o/acme/")
    assert f"{invoice.number} : $1.75" in page
    assert str(credit.number) not in page
