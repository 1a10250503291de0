"""One line of an invoice, explained down to the quarter-hour."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import invoicing
from billing.lines import is_charge
from billing.models import InvoiceLine
from metering import readings
from portal.door import Entry, member_page
from portal.invoices import issued_to, shown
from portal.week import words


@require_GET
@member_page(Action.SEE_MONEY)
def show(request: HttpRequest, entry: Entry, number: str, position: int) -> HttpResponse:
    """Why this line says what it says."""
    invoice = get_object_or_404(issued_to(entry).select_related("corrects"), number=number)
    lines = invoice.lines.select_related("invoice")
    line = get_object_or_404(lines, position=position)
    explanation = invoicing.explain(line)
    context = {
        "invoice": invoice,
        "line": line,
        "shown": shown(line),
        "register": readings.register_label(line.register).lower(),
        "bucket": words(line.bucket),
        "explanation": explanation,
        "is_charge": is_charge(line),
        "is_difference": line.usage_start != invoice.period_start,
        "sums": explanation.quantity == line.quantity,
        "still_true": explanation.metered == explanation.billed,
        "gap": explanation.metered - explanation.billed,
        "peak_day": max((day.quantity for day in explanation.days), default=0),
        "first_day": explanation.days[0].day if explanation.days else None,
        "last_day": explanation.days[-1].day if explanation.days else None,
        "before": _neighbour(invoice.lines.filter(position__lt=position).order_by("-position")),
        "after": _neighbour(invoice.lines.filter(position__gt=position).order_by("position")),
    }
    return render(request, "portal/invoice_line.html", context)


def _neighbour(lines: QuerySet[InvoiceLine]) -> int | None:
    position: int | None = lines.values_list("position", flat=True).first()
    return position
