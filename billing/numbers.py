"""Numbers of documents: each kind has a series, gapless and rising in the order of issue."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.db import connection

from accounts import prepared
from billing.models import Invoice

# The row stays locked until the issuing transaction ends, so a rollback gives the number back.
# Two closers may have read the clock in one order and come here in the other: the later number
# then takes the earlier one's instant.
TAKE = """
    INSERT INTO billing_invoiceseries AS series (prefix, year, last_number, last_issued_at)
    VALUES (%s, %s, 1, %s)
    ON CONFLICT (prefix, year) DO UPDATE
        SET last_number = series.last_number + 1,
            last_issued_at = greatest(series.last_issued_at, excluded.last_issued_at)
    RETURNING last_number, last_issued_at
"""


PREFIXES = {
    Invoice.Kind.INVOICE: settings.INVOICE_PREFIX,
    Invoice.Kind.CREDIT_NOTE: settings.CREDIT_NOTE_PREFIX,
    Invoice.Kind.DEBIT_NOTE: settings.DEBIT_NOTE_PREFIX,
}


def take(kind: str, now: datetime) -> tuple[str, datetime]:
    """Take the next number of a kind of document, and the instant of issue.

    Call it last but one in the transaction.
    """
    assert connection.in_atomic_block
    prefix, year = PREFIXES[Invoice.Kind(kind)], now.astimezone(UTC).year
    ((number, issued_at),) = prepared.rows(TAKE, [prefix, year, now])
    return f"{prefix}-{year}-{number:06}", issued_at
