"""Issuing: a draft gets its number, is frozen, and keeps who sold and who bought as of now."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from django.conf import settings

from accounts import prepared
from accounts.models import Organization
from billing import numbers
from billing.models import Invoice
from metering import readings

FREEZE = """
    UPDATE billing_invoice
    SET status = %(status)s, seller = %(seller)s, buyer = %(buyer)s, number = %(number)s,
        issued_at = %(issued_at)s, due_at = %(due_at)s
    WHERE id = %(id)s
"""


def freeze(document: Invoice, now: datetime) -> None:
    """Issue a draft, whichever kind of document it is, inside the caller's transaction.

    The number is taken last but one: until the commit nobody else can take the next of its series.
    A credit note is due to nobody. An invoice closes its period: usage of it comes late from now.
    """
    if document.kind == Invoice.Kind.INVOICE:
        readings.close(document.organization_id, document.period_start, document.period_end)
    document.seller, document.buyer = settings.SELLER, _buyer(document.organization)
    document.status = Invoice.Status.ISSUED
    document.number, document.issued_at = numbers.take(document.kind, now)
    if document.kind != Invoice.Kind.CREDIT_NOTE:
        document.due_at = document.issued_at + timedelta(days=settings.INVOICE_DUE_DAYS)
    with prepared.cursor() as cursor:
        cursor.execute(
            FREEZE,
            {
                "id": document.pk,
                "status": document.status,
                "seller": json.dumps(document.seller),
                "buyer": json.dumps(document.buyer),
                "number": document.number,
                "issued_at": document.issued_at,
                "due_at": document.due_at,
            },
        )


def _buyer(organization: Organization) -> dict[str, str]:
    """The buyer as the document shows it, from now on whatever becomes of the organization."""
    return {
        "name": organization.billing_name or organization.name,
        "email": organization.billing_email,
        "address_line1": organization.address_line1,
        "address_line2": organization.address_line2,
        "postal_code": organization.postal_code,
        "city": organization.city,
        "country": organization.country,
        "tax_id": organization.tax_id,
    }
