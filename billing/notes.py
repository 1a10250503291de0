"""Credit and debit notes: what a period costs by now, less what its documents carry, on paper.

A note corrects one issued invoice and is of that invoice's period. Its lines are the differences of
`billing.rating.difference.still_owed`, with the sign that they have; the notes of a period, its
invoice and the differences on later invoices add up to the period rated anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Sum

from billing import issuing, pricing
from billing.drafting import billed, on_lines
from billing.earlier import PeriodOf
from billing.lines import Drafted, insert
from billing.models import Invoice, InvoiceLine
from billing.rating.difference import still_owed
from billing.rating.line import RatedLine
from billing.rating.period import Period


@dataclass(frozen=True, slots=True)
class Difference:
    """One invoice's period as documents carry it, and what it costs by now more or less.

    Amounts are whole minor units of the invoice's currency, each line rounded as on its document.
    """

    invoice: Invoice
    before_minor: int  # on all issued documents
    lines: Sequence[Drafted]  # what a note would carry; saved nowhere

    @property
    def minor(self) -> int:
        """Below zero: money to give back. Zero: there is nothing to issue."""
        return sum(line.amount_minor for line in self.lines)

    def as_json(self) -> list[dict[str, object]]:
        """The lines as they are shown before anything is issued."""
        return [_shown(line) for line in self.lines]

    def digest(self) -> str:
        """The SHA-256 of what is shown: of which invoice, how much before, and every line."""
        shown = [self.invoice.number, self.before_minor, self.as_json()]
        canonical = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def differences(invoices: Sequence[Invoice]) -> list[Difference]:
    """What each of one organization's invoices is off by, all periods rated together.

    They come with their subscription, its tariff and their organization.
    """
    if not invoices:
        return []
    periods = [_period_of(invoice) for invoice in invoices]
    carried = billed(periods)
    before = _billed_minor(periods)
    return [
        Difference(
            invoice,
            before.get(of_period[1], 0),
            on_lines(invoice, [(of_period, _side_by_side(still_owed(now, documents)))]),
        )
        for invoice, of_period, now, documents in zip(
            invoices, periods, pricing.lines_of(periods, final=True), carried, strict=True
        )
    ]


def issue(found: Sequence[Difference], now: datetime) -> list[Invoice]:
    """Issue the note of each difference that is not zero, all in the caller's transaction.

    The caller holds the lock of the organization's subscriptions, and the readings stand still
    since before the differences were found (`metering.readings.stand_still`).
    """
    assert connection.in_atomic_block
    notes = [_draft(one) for one in found]
    # Every transaction takes numbers of credit notes first: none waits for another in a circle.
    for note in sorted(notes, key=lambda one: one.kind):
        issuing.freeze(note, now)
    return notes


def _side_by_side(lines: Sequence[RatedLine]) -> list[RatedLine]:
    """What is charged anew beside what is taken back of the same kind, in the order of rating."""
    kinds = [(line.model, line.register, line.bucket, line.step) for line in lines]
    place = {kind: number for number, kind in reversed(list(enumerate(kinds)))}
    return [line for _, line in sorted(zip(kinds, lines, strict=True), key=lambda of: place[of[0]])]


def _draft(difference: Difference) -> Invoice:
    corrected, minor = difference.invoice, difference.minor
    assert minor, "a difference of zero is no document"
    note = Invoice(
        kind=Invoice.Kind.CREDIT_NOTE if minor < 0 else Invoice.Kind.DEBIT_NOTE,
        corrects=corrected,
        organization=corrected.organization,
        subscription=corrected.subscription,
        period_start=corrected.period_start,
        period_end=corrected.period_end,
        currency=corrected.currency,
        zone=corrected.zone,
        subtotal_minor=minor,
        total_minor=minor,
    )
    insert(note, difference.lines)
    return note


def _period_of(invoice: Invoice) -> PeriodOf:
    return invoice.subscription, Period(invoice.period_start, invoice.period_end)


def _billed_minor(periods: Sequence[PeriodOf]) -> dict[Period, int]:
    """What issued documents come to for each period; those of late usage and notes included."""
    lines = InvoiceLine.objects.filter(
        invoice__organization=periods[0][0].organization_id,
        invoice__status=Invoice.Status.ISSUED,
        usage_start__in=[period.start for _, period in periods],
    )
    sums = lines.values_list("usage_start", "usage_end").annotate(Sum("amount_minor")).order_by()
    return {Period(start, end): int(minor) for start, end, minor in sums}


def _shown(line: Drafted) -> dict[str, object]:
    quantities = line.trace.get("difference", {"billed": 0, "now": line.quantity})
    return {
        "description": line.description,
        "version": line.version,
        "component": line.component,
        "unit_price": None if line.unit_price is None else f"{line.unit_price:f}",
        "per": line.per,
        "billed": quantities["billed"],
        "now": quantities["now"],
        "amount_exact": f"{line.amount_exact:f}",
        "amount_minor": line.amount_minor,
    }
