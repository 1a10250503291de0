"""Drafts: what a period costs, and what earlier periods cost by now, less what is billed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction

from billing import pricing
from billing.earlier import PeriodOf, may_have_changed
from billing.lines import on_paper, rated
from billing.models import Invoice, InvoiceLine, Subscription
from billing.rating.difference import still_owed
from billing.rating.line import RatedLine
from billing.rating.paper import printed
from billing.rating.period import Period


def owed(subscription: Subscription, period: Period) -> list[RatedLine]:
    """What a period costs by the readings and the tariff of now, less what is billed for it."""
    (lines,) = _owed([(subscription, period)])
    return lines


def draft(subscription: Subscription, period: Period) -> Invoice:
    """Write the draft of a period's invoice, in place of an older draft of it.

    Its own lines come first; then, oldest first, the differences of earlier periods.
    """
    with transaction.atomic():
        return write_draft(subscription, period)


def write_draft(subscription: Subscription, period: Period) -> Invoice:
    """The same, inside the caller's transaction and without a savepoint of its own."""
    overlapping = subscription.invoices.filter(
        status=Invoice.Status.DRAFT, period_start__lt=period.end, period_end__gt=period.start
    )
    overlapping.delete()
    periods = [(subscription, period), *may_have_changed(subscription, period)]
    invoice = Invoice(
        organization=subscription.organization,
        subscription=subscription,
        period_start=period.start,
        period_end=period.end,
        currency=subscription.tariff.currency,
        zone=subscription.zone,
        replaces=_voided(subscription, period),
    )
    lines = _lines(invoice, zip(periods, _owed(periods), strict=True))
    invoice.subtotal_minor = sum(line.amount_minor for line in lines)
    invoice.total_minor = invoice.subtotal_minor + invoice.tax_minor
    invoice.save(force_insert=True)
    InvoiceLine.objects.bulk_create(lines)
    return invoice


def billed(periods: Sequence[PeriodOf]) -> list[list[RatedLine]]:
    """What issued documents carry for each period. Neither drafts nor void documents count.

    An organization's subscriptions never overlap, so its periods are known by their instants.
    """
    found: dict[tuple[datetime, datetime], list[RatedLine]] = defaultdict(list)
    first = min(period.start for _, period in periods)
    lines = InvoiceLine.objects.filter(
        invoice__organization=periods[0][0].organization_id,
        invoice__status=Invoice.Status.ISSUED,
        invoice__period_end__gt=first,
        usage_start__gte=first,
    )
    for line in lines.order_by("pk"):
        found[line.usage_start, line.usage_end] += rated(line)
    return [found[period.start, period.end] for _, period in periods]


def _owed(periods: Sequence[PeriodOf]) -> list[list[RatedLine]]:
    now = pricing.lines_of(periods)
    before = billed(periods)
    return [still_owed(*of_period) for of_period in zip(now, before, strict=True)]


def _voided(subscription: Subscription, period: Period) -> Invoice | None:
    """The void document of this period that no other one replaces yet."""
    return subscription.invoices.filter(
        status=Invoice.Status.VOID,
        period_start=period.start,
        period_end=period.end,
        replaced_by=None,
    ).last()


def _lines(
    invoice: Invoice, owed_by_period: Iterable[tuple[PeriodOf, list[RatedLine]]]
) -> list[InvoiceLine]:
    rows = [
        (period, paper)
        for (_, period), lines in owed_by_period
        for paper in printed(_as_read(lines), invoice.currency)
    ]
    return [
        on_paper(invoice, position, period, paper)
        for position, (period, paper) in enumerate(rows, start=1)
    ]


def _as_read(lines: Sequence[RatedLine]) -> list[RatedLine]:
    """Model by model, as the document shows them; within a model in the order of rating.

    What belongs to no model, as most charges do, comes last.
    """
    models = [model for model in dict.fromkeys(line.model for line in lines) if model]
    place = {model: number for number, model in enumerate([*models, ""])}
    return sorted(lines, key=lambda line: place[line.model])
