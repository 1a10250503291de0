"""Closing periods by hand: what is due, what it would cost, and doing it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import audit
from accounts.models import User
from accounts.refusals import Refusal
from billing import invoicing, subscriptions
from billing.models import Invoice, InvoiceLine, Subscription
from billing.rating.period import Period
from billing.waiting import NotYet
from console.entrance import may_act, staff_only
from console.staff import money, unit_price
from console.steps import ask

SHOWN_MAX = 100
PREVIEWED_MAX = 3
LINES_MAX = 200


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """A line as it would stand on the invoice."""

    description: str
    quantity: int
    price: str
    amount: str


@dataclass(frozen=True, slots=True)
class Preview:
    """A document that does not exist: drafted, read, and taken back."""

    period: Period
    total: str
    lines: list[PreviewLine]
    line_count: int


@require_GET
@staff_only
def due(request: HttpRequest) -> HttpResponse:
    """The subscriptions with a period to close, those waiting longest first."""
    now = timezone.now()
    ids = invoicing.due(now=now)
    found = Subscription.objects.select_related("organization", "tariff").in_bulk(ids[:SHOWN_MAX])
    rows = [found[pk] for pk in ids[:SHOWN_MAX] if pk in found]
    context = {
        **admin.site.each_context(request),
        "title": "Periods to close",
        "count": len(ids),
        "rows": [(row, invoicing.waiting_for(row, now)) for row in rows],
    }
    return render(request, "console/due.html", context)


@require_GET
@staff_only
def close(request: HttpRequest, subscription_id: int) -> HttpResponse:
    """One subscription's periods to close, with what each would cost."""
    now = timezone.now()
    subscription = _get(subscription_id)
    periods = periods_due(subscription, now)
    context = {
        **admin.site.each_context(request),
        "title": f"Periods to close of {subscription.organization}",
        "subscription": subscription,
        "previews": _previews(subscription, periods[:PREVIEWED_MAX]),
        "count": len(periods),
        "more": periods[PREVIEWED_MAX:],
        "waiting_for": invoicing.waiting_for(subscription, now) if periods else None,
        "may_act": may_act(request),
    }
    return render(request, "console/close.html", context)


@require_http_methods(["GET", "POST"])
@staff_only
def close_now(request: HttpRequest, subscription_id: int) -> HttpResponse:
    """Issue the invoices of the periods that are due."""
    subscription = _get(subscription_id)
    periods = periods_due(subscription, timezone.now())
    return ask(
        request,
        title=f"Close {len(periods)} period(s) of {subscription.organization}",
        explanation="An invoice is issued for each period, oldest first, and frozen.",
        button="Close and issue",
        back=reverse("console:close", args=[subscription_id]),
        do=lambda _, actor, now: _close(subscription, actor, now),
    )


def periods_due(subscription: Subscription, now: datetime) -> list[Period]:
    """The periods past their grace that no issued invoice is of, oldest first."""
    issued = subscription.invoices.filter(status=Invoice.Status.ISSUED)
    billed = set(issued.values_list("period_start", "period_end"))
    return [
        period
        for period in subscriptions.periods_ended(subscription, now)
        if (period.start, period.end) not in billed
        and subscriptions.closes_at(subscription, period) <= now
    ]


def _previews(subscription: Subscription, periods: Sequence[Period]) -> list[Preview]:
    """What each would cost, up to the first of which some cost is not known yet."""
    found: list[Preview] = []
    with suppress(NotYet):
        for period in periods:
            found += [preview(subscription, period)]
    return found


def preview(subscription: Subscription, period: Period) -> Preview:
    """Draft the period's invoice, read it, and take it back: nothing is written."""
    with transaction.atomic():
        invoice = invoicing.draft(subscription, period)
        lines = list(invoice.lines.all()[:LINES_MAX])
        count = invoice.lines.count()
        transaction.set_rollback(True)
    currency = invoice.currency
    return Preview(
        period,
        money(invoice.total_minor, currency),
        [_line(line, currency) for line in lines],
        count,
    )


def _line(line: InvoiceLine, currency: str) -> PreviewLine:
    price, amount = unit_price(line, currency), money(line.amount_minor, currency)
    return PreviewLine(line.description, line.quantity, price, amount)


def _close(subscription: Subscription, actor: User, now: datetime) -> str:
    issued = invoicing.close_period(subscription.pk, now)
    if not issued:
        waits = invoicing.waiting_for(subscription, now)
        raise Refusal("", f"It waits for {waits}." if waits else "No period is due.")
    numbers = [invoice.number for invoice in issued]
    audit.record(
        "period.closed",
        subject=subscription,
        organization=subscription.organization,
        actor=actor,
        detail={"invoices": numbers},
    )
    return f"Issued {', '.join(str(number) for number in numbers)}."


def _get(subscription_id: int) -> Subscription:
    rows: Any = Subscription.objects.select_related("organization", "tariff")
    subscription: Subscription = get_object_or_404(rows, pk=subscription_id)
    return subscription
