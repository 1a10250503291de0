"""What became of all events of an organization's billing period, for staff."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import Organization
from billing import fate_totals
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
        "events_max": fate_totals.EVENTS_MAX,
    }
    if chosen is not None:
        context["chosen"] = chosen[1]
        try:
            context["totals"] = fate_totals.of_period(*chosen, now)
        except fate_totals.TooManyEvents as refused:
            context["too_many"] = refused.events
    return render(request, "console/fates.html", context)
