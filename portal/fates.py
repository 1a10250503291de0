"""What became of all events of a billing period: the fates, and whether they add up."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import fate_totals, tasks
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
    }
    if chosen is not None:
        subscription, period = chosen
        context |= {
            "chosen": period,
            "zone": subscription.zone,
            "span": urlencode({"start": period.start.isoformat(), "end": period.end.isoformat()}),
        }
        try:
            context["totals"] = fate_totals.of_period(
                subscription, period, now, events_max=fate_totals.EVENTS_MAX
            )
        except fate_totals.TooManyEvents as refused:
            context["counting"] = refused
            ring = partial(tasks.count_fates.delay, subscription.pk, period.start.isoformat())
            transaction.on_commit(ring, robust=True)
    return render(request, "portal/fates.html", context)
