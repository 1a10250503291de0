"""What became of all events of an organization's billing period, for staff."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlencode

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import Organization
from billing import fate_totals, tasks
from billing.fates import Fate
from console.entrance import staff_only


@require_GET
@staff_only
def show(request: HttpRequest, organization_id: int) -> HttpResponse:
    """The period that is asked for, or the newest."""
    now = timezone.now()
    organization = get_object_or_404(Organization, pk=organization_id)
    periods = fate_totals.periods(organization, now)
    chosen = fate_totals.chosen(periods, request.GET.get("period", ""))
    context = {
        **admin.site.each_context(request),
        "title": f"Fates of {organization}",
        "organization": organization,
        "periods": [period for _, period in periods],
        "fates": list(Fate),
    }
    if chosen is not None:
        period = chosen[1]
        context["chosen"] = period
        context["span"] = urlencode({"start": _instant(period.start), "end": _instant(period.end)})
        try:
            context["totals"] = fate_totals.of_period(
                *chosen, now, events_max=fate_totals.EVENTS_MAX
            )
        except fate_totals.TooManyEvents as refused:
            context["counting"] = refused
            ring = partial(tasks.count_fates.delay, chosen[0].pk, period.start.isoformat())
            transaction.on_commit(ring, robust=True)
    return render(request, "console/fates.html", context)


def _instant(moment: datetime) -> str:
    """As the search of events writes it, in UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
