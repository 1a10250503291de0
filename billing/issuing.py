"""Issuing: a draft gets its number, is frozen, and keeps who sold and who bought as of now."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from accounts import prepared
from accounts.models import Organization
from billing import numbers
from billing.models import Invoice
from metering import readings

# The number is taken in the statement that freezes: until the commit nobody else can take the next
# of its series.
FREEZE = f"""
    WITH taken AS ({numbers.TAKE})
    UPDATE billing_invoice document
    SET status = %(status)s, seller = %(seller)s, buyer = %(buyer)s,
        number = {numbers.WRITTEN}, issued_at = taken.issued_at,
        due_at = taken.issued_at + %(due_in)s::interval
    FROM taken WHERE document.id = %(id)s
    RETURNING document.number, document.issued_at, document.due_at
"""  # noqa: S608 - our own texts


def freeze(document: Invoice, now: datetime) -> None:
    """Issue a draft, whichever kind of document it is, last in the caller's transaction.

    A credit note is due to nobody. An invoice closes its period: usage of it comes late from now.
    """
    assert connection.in_atomic_block
    if document.kind == Invoice.Kind.INVOICE:
        readings.close(document.organization_id, document.period_start, document.period_end)
    document.seller, document.buyer = settings.SELLER, _buyer(document.organization)
    document.status = Invoice.Status.ISSUED
    due_in = timedelta(days=settings.INVOICE_DUE_DAYS)
    frozen = prepared.rows(
        FREEZE,
        {
            "id": document.pk,
            "status": document.status,
            "seller": json.dumps(document.seller),
            "buyer": json.dumps(document.buyer),
            "due_in": None if document.kind == Invoice.Kind.CREDIT_NOTE else due_in,
            **numbers.series(document.kind, now),
        },
    )
    ((document.number, document.issued_at, document.due_at),) = frozen


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
