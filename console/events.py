"""Looking events up: what was stored, as it was stored, and what became of its batch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.models import Organization
from billing import searching, trail
from billing.fates import Fate
from billing.searching import ToldPage
from console.entrance import staff_only
from metering import readings
from metering.readings import EventPlace, EventSearch

SHOWN_MAX = 100
OFFERED_MAX = 200  # of the organizations, while typing; any other can be typed out


def _instant() -> UnfoldAdminTextInputWidget:
    return UnfoldAdminTextInputWidget({"type": "datetime-local"})


class SearchForm(forms.Form):
    """Which events to look for; only the organization must be named."""

    organization = forms.ModelChoiceField(
        Organization.objects.all(),
        to_field_name="slug",
        widget=UnfoldAdminTextInputWidget({"list": "organizations", "autocomplete": "off"}),
        help_text="Its slug.",
        error_messages={"invalid_choice": "No organization has this slug."},
    )
    event_id = forms.CharField(
        label="Event id", required=False, max_length=256, widget=UnfoldAdminTextInputWidget
    )
    source = forms.CharField(required=False, max_length=256, widget=UnfoldAdminTextInputWidget)
    model = forms.CharField(required=False, max_length=256, widget=UnfoldAdminTextInputWidget)
    project = forms.SlugField(
        required=False, widget=UnfoldAdminTextInputWidget, help_text="Its slug."
    )
    api_key = forms.CharField(
        label="API key", required=False, max_length=256, widget=UnfoldAdminTextInputWidget
    )
    agent = forms.CharField(required=False, max_length=256, widget=UnfoldAdminTextInputWidget)
    session = forms.CharField(required=False, max_length=256, widget=UnfoldAdminTextInputWidget)
    fate = forms.ChoiceField(
        required=False,
        choices=[("", "any"), *((fate.value, fate.value) for fate in Fate)],
        widget=UnfoldAdminSelectWidget,
    )
    batch = forms.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, widget=UnfoldAdminTextInputWidget
    )
    start = forms.DateTimeField(
        label="Happened from", required=False, widget=_instant(), help_text="UTC"
    )
    end = forms.DateTimeField(
        label="Until", required=False, widget=_instant(), help_text="UTC, not included"
    )

    def clean(self) -> dict[str, Any]:
        """Turn the project's slug into the project."""
        values: dict[str, Any] = super().clean() or {}
        slug, organization = values.get("project"), values.get("organization")
        if slug and organization:
            values["project_id"] = (
                organization.projects.filter(slug=slug).values_list("pk", flat=True).first()
            )
            if values["project_id"] is None:
                self.add_error("project", f"{organization} has no project {slug}.")
        start, end = values.get("start"), values.get("end")
        if start and end and end <= start:
            self.add_error("end", "This must lie after the start.")
        return values

    def find(self, before: EventPlace | None, now: datetime) -> ToldPage:
        """The newest events that match; with `before`, those older than that one."""
        values = self.cleaned_data
        search = EventSearch(
            event_id=values["event_id"] or None,
            source=values["source"] or None,
            model=values["model"] or None,
            project_id=values.get("project_id"),
            batch_id=values["batch"],
            api_key=values["api_key"] or None,
            agent=values["agent"] or None,
            session=values["session"] or None,
            start=values["start"],
            end=values["end"],
            before=before,
        )
        fate = Fate(values["fate"]) if values["fate"] else None
        return searching.event_page(values["organization"], search, fate, now, limit=SHOWN_MAX)


@require_GET
@staff_only
def search(request: HttpRequest) -> HttpResponse:
    """Show the form and, once it names an organization, what it finds."""
    asked = "organization" in request.GET
    form = SearchForm(request.GET if asked else None)
    page = (
        form.find(EventPlace.named(request.GET.get("before", "")), timezone.now())
        if asked and form.is_valid()
        else None
    )
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Events",
        "form": form,
        "page": page,
        "offered": Organization.objects.order_by("name").values_list("slug", "name")[:OFFERED_MAX],
    }
    if page is not None:
        context |= {
            "organization": form.cleaned_data["organization"],
            "found": page.events,
            "older": _older(request, page),
        }
    return render(request, "console/events.html", context)


@require_GET
@staff_only
def show(request: HttpRequest, organization_id: int, batch_id: int, ordinal: int) -> HttpResponse:
    """One event of any organization, followed to its invoice line."""
    place = EventPlace.named(f"{batch_id}-{ordinal}")
    organization = get_object_or_404(Organization, pk=organization_id)
    event = place and readings.event_at(organization.pk, place)
    if event is None:
        raise Http404
    context = {
        **admin.site.each_context(request),
        "title": f"Event {event.id}",
        "organization": organization,
        "event": event,
        "trail": trail.follow(organization, event, timezone.now()),
    }
    return render(request, "console/event.html", context)


def _older(request: HttpRequest, page: ToldPage) -> str:
    if page.next is None:
        return ""
    asked = request.GET.copy()
    asked["before"] = str(page.next)
    return asked.urlencode()
