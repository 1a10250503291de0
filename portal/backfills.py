"""Backfills: opened, watched while they fill, closed or reverted by those who may."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Action
from metering import backfills, readings
from metering.backfills import REASON_MAX, BackfillRefused
from metering.ingest import doorbell
from metering.models import Backfill
from portal.door import Entry, member_page

SHOWN = 50
_DAY = forms.DateInput(attrs={"type": "date"})


class BackfillForm(forms.Form):
    """Which days, and why."""

    first = forms.DateField(label="First day", widget=_DAY)
    last = forms.DateField(label="Last day", widget=_DAY)
    reason = forms.CharField(max_length=REASON_MAX, help_text="Stands in the record for good.")

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or {}
        first, last = cleaned.get("first"), cleaned.get("last")
        if isinstance(first, date) and isinstance(last, date) and last < first:
            self.add_error("last", "The last day comes before the first.")
        return cleaned

    def span(self, entry: Entry) -> tuple[datetime, datetime]:
        """From the midnight that the first day begins with to the one that the last ends with."""
        first, last = self.cleaned_data["first"], self.cleaned_data["last"]
        return _midnight(first, entry), _midnight(last + timedelta(days=1), entry)


def _midnight(day: date, entry: Entry) -> datetime:
    return datetime.combine(day, time(), tzinfo=entry.zone)


@require_GET
@member_page(Action.SEE_USAGE)
def index(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The backfills, newest first, and the form for another one."""
    return _page(request, entry, BackfillForm())


@require_POST
@member_page(Action.CORRECT_USAGE)
def create(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Open a backfill."""
    form = BackfillForm(request.POST)
    if not form.is_valid():
        return _page(request, entry, form)
    start, end = form.span(entry)
    try:
        made = backfills.open_backfill(
            entry.organization,
            reason=form.cleaned_data["reason"],
            start=start,
            end=end,
            now=timezone.now(),
            actor=entry.user,
        )
    except BackfillRefused as refusal:
        form.add_error(None, str(refusal))
        return _page(request, entry, form)
    messages.success(request, f"Backfill {made.id} is open.")
    return redirect("portal:backfill", entry.organization.slug, made.id)


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry, number: int) -> HttpResponse:
    """One backfill: what was sent into it and what became of that."""
    backfill = _found(entry, number)
    context = {
        "backfill": backfill,
        "last_moment": _last_moment(backfill),
        "counts": backfills.counts([backfill])[entry.organization.pk, number],
        "usage": [
            (readings.register_label(name), quantity)
            for name, quantity in backfills.usage(entry.organization.pk, number).items()
        ],
    }
    return render(request, "portal/backfill.html", context)


@require_POST
@member_page(Action.CORRECT_USAGE)
def close(request: HttpRequest, entry: Entry, number: int) -> HttpResponse:
    """Let everything in it count."""
    return _step(
        request,
        entry,
        number,
        backfills.close,
        done="is closed: what is in it counts, and stands on the next invoice.",
        again="was closed before.",
    )


@require_POST
@member_page(Action.CORRECT_USAGE)
def revert(request: HttpRequest, entry: Entry, number: int) -> HttpResponse:
    """Let nothing in it count."""
    return _step(
        request,
        entry,
        number,
        backfills.revert,
        done="is reverted: nothing in it counts.",
        again="was reverted before.",
    )


def _step(
    request: HttpRequest,
    entry: Entry,
    number: int,
    step: Callable[..., bool],
    *,
    done: str,
    again: str,
) -> HttpResponse:
    _found(entry, number)
    try:
        changed = step(entry.organization, number, now=timezone.now(), actor=entry.user)
    except BackfillRefused as refusal:
        messages.error(request, str(refusal))
    else:
        if changed:
            doorbell.ring()
        said = messages.success if changed else messages.info
        said(request, f"Backfill {number} {done if changed else again}")
    return redirect("portal:backfill", entry.organization.slug, number)


def _found(entry: Entry, number: int) -> Backfill:
    try:
        return backfills.get(entry.organization.pk, number)
    except BackfillRefused:
        raise Http404 from None


def _last_moment(backfill: Backfill) -> datetime:
    """For people, who name the last day of a stretch and not the midnight after it."""
    return backfill.ends_at - timedelta(microseconds=1)


def _page(request: HttpRequest, entry: Entry, form: BackfillForm) -> HttpResponse:
    before = request.GET.get("before", "")
    cursor = int(before) if before.isascii() and before.isdigit() and len(before) < 18 else None
    organization_id = entry.organization.pk
    rows = backfills.find(organization_id, before=cursor, limit=SHOWN + 1)
    counts = backfills.counts(rows)
    context = {
        "form": form,
        "rows": [(row, _last_moment(row), counts[organization_id, row.id]) for row in rows[:SHOWN]],
        "older": rows[SHOWN - 1].id if len(rows) > SHOWN else None,
    }
    status = 422 if form.errors else 200
    return render(request, "portal/backfills.html", context, status=status)
