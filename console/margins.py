"""What the open periods bring in against what they cost upstream, and usage without a price."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from billing import margin, subscriptions, unpriced
from billing.costing import CURRENCY
from billing.margin import Margin, ModelMargin
from billing.models import Subscription
from console.entrance import staff_only
from console.staff import exact

SHOWN_MAX = 25
UNKNOWN = "unknown"


@require_GET
@staff_only
def margins(request: HttpRequest) -> HttpResponse:
    """The organizations asked for, model by model."""
    now = timezone.now()
    wanted, found, more = _running(request, now)
    context = {
        **admin.site.each_context(request),
        "title": "Margin",
        "wanted": wanted,
        "more": more,
        "shown_max": SHOWN_MAX,
        "rows": [
            (row, _lines(row))
            for row in (margin.of(one, subscriptions.open_period(one, now)) for one in found)
        ],
    }
    return render(request, "console/margins.html", context)


def _lines(row: Margin) -> list[tuple[ModelMargin, str, str, str]]:
    """Each model with its revenue, cost and margin as people write them; never 0 for unknown."""
    currency = row.subscription.tariff.currency
    return [
        (
            model,
            exact(model.revenue, currency),
            exact(model.cost, CURRENCY) if model.is_costed else UNKNOWN,
            exact(model.margin, CURRENCY) if model.is_known else UNKNOWN,
        )
        for model in row.models
    ]


@require_GET
@staff_only
def without_price(request: HttpRequest) -> HttpResponse:
    """Models that were used in the last seven days and that no price is found for."""
    now = timezone.now()
    wanted, found, more = _running(request, now)
    context = {
        **admin.site.each_context(request),
        "title": "Usage without a price",
        "wanted": wanted,
        "more": more,
        "shown_max": SHOWN_MAX,
        "days": unpriced.LOOKS_BACK.days,
        "rows": [row for one in found for row in unpriced.of(one, now)],
    }
    return render(request, "console/unpriced.html", context)


def _running(request: HttpRequest, now: object) -> tuple[str, list[Subscription], bool]:
    """The running subscriptions whose organization has the name asked for, the first ones."""
    wanted = request.GET.get("organization", "").strip()[:100].replace("\0", "")
    running = Subscription.objects.filter(
        Q(ends_at=None) | Q(ends_at__gt=now),
        Q(organization__name__icontains=wanted) | Q(organization__slug=wanted),
        starts_at__lte=now,
    )
    ordered = running.select_related("organization", "tariff").order_by("organization__name")
    found = list(ordered[: SHOWN_MAX + 1])
    return wanted, found[:SHOWN_MAX], len(found) > SHOWN_MAX
