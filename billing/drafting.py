"""Drafts: what a period costs, and what earlier periods cost by now, less what is billed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from django.db import transaction

from accounts import prepared
from billing import pricing
from billing.documents import Documents
from billing.earlier import PeriodOf, may_have_changed
from billing.lines import Carried, Drafted, insert, on_paper, rated
from billing.models import Invoice, Subscription
from billing.rating.difference import still_owed
from billing.rating.line import RatedLine
from billing.rating.paper import printed
from billing.rating.period import Period
from metering import readings


def owed(subscription: Subscription, period: Period) -> list[RatedLine]:
    """What a period costs by the readings and the tariff of now, less what is billed for it."""
    documents = Documents.of(subscription.organization_id)
    (lines,) = _owed([(subscription, period)], documents, final=False)
    return lines


def draft(subscription: Subscription, period: Period) -> Invoice:
    """Write the draft of a period's invoice, in place of an older draft of it.

    Its own lines come first; then, oldest first, the differences of earlier periods.
    """
    with transaction.atomic():
        return write_draft(subscription, period)


def write_draft(
    subscription: Subscription, period: Period, documents: Documents | None = None
) -> Invoice:
    """The same, inside the caller's transaction and without a savepoint of its own.

    The readings stand still meanwhile: the document has seen what was applied before it was made.
    documents: those of the organization, where the caller knows them already.
    """
    readings.stand_still(subscription.organization_id)
    documents = documents or Documents.of(subscription.organization_id)
    if drafts := documents.drafts(subscription, period):
        Invoice.objects.filter(pk__in=drafts).delete()
    periods = [(subscription, period), *may_have_changed(subscription, period, documents)]
    invoice = Invoice(
        organization=subscription.organization,
        subscription=subscription,
        period_start=period.start,
        period_end=period.end,
        currency=subscription.tariff.currency,
        zone=subscription.zone,
        replaces_id=documents.voided(subscription, period),
    )
    found = _owed(periods, documents, final=True)
    lines = on_lines(invoice, zip(periods, found, strict=True))
    invoice.subtotal_minor = sum(line.amount_minor for line in lines)
    invoice.total_minor = invoice.subtotal_minor + invoice.tax_minor
    insert(invoice, lines)
    return invoice


BILLED = """
    SELECT asked.place, line.version, line.component, line.model, line.register, line.bucket,
           line.step, line.quantity, line.unit_price, line.per, line.trace
    FROM billing_invoice document
    JOIN billing_invoiceline line ON line.invoice_id = document.id
    JOIN unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[])
         WITH ORDINALITY AS asked (usage_start, usage_end, place)
      ON asked.usage_start = line.usage_start AND asked.usage_end = line.usage_end
    WHERE document.organization_id = %(organization)s AND document.status = 'issued'
      AND document.period_end > %(first)s
    ORDER BY line.id
"""


def billed(periods: Sequence[PeriodOf]) -> list[list[RatedLine]]:
    """What issued documents carry for each period. Neither drafts nor void documents count.

    An organization's subscriptions never overlap, so its periods are known by their instants.
    """
    starts = [period.start for _, period in periods]
    asked = {
        "organization": periods[0][0].organization_id,
        "first": min(starts),
        "starts": starts,
        "ends": [period.end for _, period in periods],
    }
    found: list[list[RatedLine]] = [[] for _ in periods]
    for place, *line, trace in prepared.rows(BILLED, asked):
        found[place - 1] += rated(Carried._make((*line, json.loads(trace))))
    return found


def on_lines(
    invoice: Invoice, owed_by_period: Iterable[tuple[PeriodOf, list[RatedLine]]]
) -> list[Drafted]:
    """The lines of a document, as they are printed and in its order; saved nowhere yet."""
    rows = [
        (period, paper)
        for (_, period), lines in owed_by_period
        for paper in printed(_as_read(lines), invoice.currency)
    ]
    return [
        on_paper(invoice, position, period, paper)
        for position, (period, paper) in enumerate(rows, start=1)
    ]


def _owed(
    periods: Sequence[PeriodOf], documents: Documents, *, final: bool
) -> list[list[RatedLine]]:
    now = pricing.lines_of(periods, final=final)
    first = min(period.start for _, period in periods)
    if all(one.period.end <= first for one in documents.issued):
        return now
    return [still_owed(*of_period) for of_period in zip(now, billed(periods), strict=True)]


def _as_read(lines: Sequence[RatedLine]) -> list[RatedLine]:
    """Model by model, as the document shows them; within a model in the order of rating.

    What belongs to no model, as most charges do, comes last.
    """
    models = [model for model in dict.fromkeys(line.model for line in lines) if model]
    place = {model: number for number, model in enumerate([*models, ""])}
    return sorted(lines, key=lambda line: place[line.model])
