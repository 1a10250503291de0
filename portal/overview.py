"""The overview: what it costs so far, where it is heading, what was used, what is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from babel import Locale
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import allowance, costs
from billing.models import Invoice
from billing.rating.period import Period, calendar_month
from metering import readings
from portal import series, window
from portal.door import Entry, member_page
from portal.language import locale_of
from portal.usage import namer, saying

BEHIND_FROM = timedelta(minutes=1)
DAYS_DRAWN_MIN = 14  # in the first days of a period the end of the last one is drawn too


@dataclass(frozen=True, slots=True)
class ModelCost:
    """One model's share of the cost so far."""

    model: str
    amount_minor: int
    percent: int


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The first page a member sees."""
    now = timezone.now()
    cost = costs.so_far(entry.organization, now)
    period = cost.period if cost else calendar_month(entry.zone, now)
    read_until = _read_until(entry, now)
    summary, today, this_period = _tokens(entry, period, now, locale_of(request))
    context = {
        "now": now,
        "cost": cost if entry.may(Action.SEE_MONEY) else None,
        "subscribed": cost is not None,
        "costs": _by_model(cost) if cost else [],
        "period": period,
        "summary": summary,
        "chart": summary.chart("tokens"),
        "tokens_today": today,
        "tokens_this_period": this_period,
        "quotas": allowance.standing(entry.organization, now),
        "read_until": read_until,
        "behind": now - read_until > BEHIND_FROM,
        "last_invoice": _last_invoice(entry),
        "has_keys": entry.organization.api_keys.filter(revoked_at=None).exists(),
    }
    return render(request, "portal/overview.html", context)


def _tokens(
    entry: Entry, period: Period, now: datetime, locale: Locale
) -> tuple[series.Summary, int, int]:
    """Tokens by model and day, today's, and the period's, from one question to the meter."""
    today = window.midnight(now.astimezone(entry.zone).date(), entry.zone)
    first = min(period.start, today - timedelta(days=DAYS_DRAWN_MIN - 1))
    start = window.midnight(first.astimezone(entry.zone).date(), entry.zone)
    end = window.midnight(now.astimezone(entry.zone).date() + window.DAY, entry.zone)
    query = readings.Query(
        start=start, end=end, step="day", zone=entry.zone.key, group_by=("model",)
    )
    rows = readings.series(entry.organization.pk, query)
    summary = series.summarise(
        rows,
        window.steps(start, end, "day", entry.zone),
        name=namer(("model",), {}),
        say=saying("day", entry.zone, locale),
    )
    by_day = {step.starts_at: step.total for step in summary.steps}
    if period.start in by_day:
        this_period = sum(total for day, total in by_day.items() if day >= period.start)
    else:  # a subscription may begin in the middle of a day; the meter knows it more finely
        this_period = readings.tokens_in(entry.organization.pk, period.start, period.end)
    return summary, by_day.get(today, 0), this_period


def _by_model(cost: costs.CostSoFar) -> list[ModelCost]:
    return [
        ModelCost(
            item.model, item.amount_minor, series.hundredths(item.amount_minor, cost.amount_minor)
        )
        for item in cost.by_model
    ]


def _read_until(entry: Entry, now: datetime) -> datetime:
    """Usage acknowledged before this moment is in the figures."""
    waiting_s = readings.freshness(entry.organization.pk).oldest_pending_s
    return now - timedelta(seconds=int(waiting_s or 0))


def _last_invoice(entry: Entry) -> object:
    if not entry.may(Action.SEE_MONEY):
        return None
    invoices = entry.organization.invoices.visible_to(entry.user).filter(kind=Invoice.Kind.INVOICE)
    return invoices.order_by("-period_end", "-pk").first()
