"""The backfills of all organizations: what is open, and what somebody may have forgotten."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import Organization
from console.entrance import staff_only
from metering import backfills
from metering.models import Backfill


@require_GET
@staff_only
def index(request: HttpRequest) -> HttpResponse:
    """Open ones first, those open longest before the others."""
    now = timezone.now()
    rows = backfills.everywhere()
    counts = backfills.counts(rows)
    owners = Organization.objects.in_bulk({row.organization_id for row in rows})
    context = {
        **admin.site.each_context(request),
        "title": "Backfills",
        "forgotten": backfills.forgotten(now),
        "open_for_days": backfills.OPEN_FOR.days,
        "shown_max": backfills.PAGE_MAX,
        "rows": [
            (
                row,
                owners.get(row.organization_id, row.organization_id),
                counts[row.organization_id, row.id],
                row.state == Backfill.State.OPEN and row.opened_at < now - backfills.OPEN_FOR,
            )
            for row in rows
        ],
    }
    return render(request, "console/backfills.html", context)
