"""What became of all events of a billing period: the fates, and whether they add up."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import fate_totals
from billing.fates import Fate
from portal.door import Entry, member_page


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The period that is asked for, or the newest."""
    now = timezone.now()
    periods = fate_totals.periods(entry.organization, now)
    chosen = fate_totals.chosen(periods, request.GET.get("period", ""))
    context: dict[str, object] = {
        "periods": [period for _, period in periods],
        "fates": list(Fate),
        "events_max": fate_totals.EVENTS_MAX,
    }
    if chosen is not None:
        subscription, period = chosen
        zone = ZoneInfo(subscription.zone)
        context |= {
            "chosen": period,
            "zone": subscription.zone,
            "first_day": period.start.astimezone(zone).date(),
            "last_day": (period.end - timedelta(microseconds=1)).astimezone(zone).date(),
        }
        try:
            context["totals"] = fate_totals.of_period(subscription, period, now)
        except fate_totals.TooManyEvents as refused:
            context["too_many"] = refused.events
    return render(request, "portal/fates.html", context)
