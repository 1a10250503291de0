"""The first page of the console."""

from __future__ import annotations

import json
from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from django.http import HttpRequest
from django.utils import timezone

from billing.models import Invoice
from console import health
from console.health import Hour
from console.staff import money
from metering import backfills

# (outcome, label, colour): told apart by colour-blind people too, in the light and in the dark.
_SERIES = (
    ("accepted", "Accepted", "#0f8a7b"),
    ("duplicate", "Duplicate", "#8b9a94"),
    ("conflict", "Conflict", "#dd9a1f"),
    ("rejected", "Rejected", "#c2452d"),
)


def callback(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the dashboard's figures to the context of the index page."""
    now = timezone.now()
    found = health.look(now)
    recent = Invoice.objects.exclude(status=Invoice.Status.DRAFT).select_related("organization")
    revenue = [
        (money(minor, currency), documents) for currency, documents, minor in found.billing.issued
    ]
    return context | {
        "title": "Dashboard",
        "now": now,
        "health": found,
        "forgotten_backfills": backfills.forgotten(now),
        "second_factor": is_mfa_enabled(request.user),
        "chart": json.dumps(chart(found.hours)),
        "chart_options": json.dumps(_OPTIONS),
        "revenue": revenue,
        "recent": [
            (invoice, money(invoice.total_minor, invoice.currency))
            for invoice in recent.order_by("-issued_at")[:8]
        ],
    }


_OPTIONS = {
    "animation": False,
    "maintainAspectRatio": False,
    "interaction": {"mode": "index", "intersect": False},
    "scales": {
        "x": {"stacked": True, "grid": {"display": False}},
        "y": {"stacked": True, "beginAtZero": True, "ticks": {"precision": 0}},
    },
    "plugins": {"legend": {"display": True, "position": "bottom", "align": "start"}},
}


def chart(hours: list[Hour]) -> dict[str, Any]:
    """The data of a stacked bar chart, as Chart.js takes it."""
    return {
        "labels": [f"{hour.starts_at:%H}:00" for hour in hours],
        "datasets": [
            {
                "label": label,
                "backgroundColor": colour,
                "data": [getattr(hour, outcome) for hour in hours],
                "displayYAxis": True,
            }
            for outcome, label, colour in _SERIES
        ],
    }
