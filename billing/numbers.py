"""Numbers of documents: each kind has a series, gapless and rising in the order of issue."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings

from billing.models import Invoice

# The row stays locked until the issuing transaction ends, so a rollback gives the number back.
# Two closers may have read the clock in one order and come here in the other: the later number
# then takes the earlier one's instant.
TAKE = """
    INSERT INTO billing_invoiceseries AS series (prefix, year, last_number, last_issued_at)
    VALUES (%(prefix)s, %(year)s, 1, %(now)s)
    ON CONFLICT (prefix, year) DO UPDATE
        SET last_number = series.last_number + 1,
            last_issued_at = greatest(series.last_issued_at, excluded.last_issued_at)
    RETURNING prefix, year, last_number::text AS last_number, last_issued_at AS issued_at
"""
# At least six digits: KT-2026-000001.
WRITTEN = """
    concat_ws('-', taken.prefix, taken.year,
              lpad(taken.last_number, greatest(6, length(taken.last_number)), '0'))
"""
PREFIXES = {
    Invoice.Kind.INVOICE: settings.INVOICE_PREFIX,
    Invoice.Kind.CREDIT_NOTE: settings.CREDIT_NOTE_PREFIX,
    Invoice.Kind.DEBIT_NOTE: settings.DEBIT_NOTE_PREFIX,
}


def series(kind: str, now: datetime) -> dict[str, object]:
    """What TAKE is asked with: the series of a kind of document, and the instant of issue."""
    return {
        "prefix": PREFIXES[Invoice.Kind(kind)],
        "year": now.astimezone(UTC).year,
        "now": now,
    }
