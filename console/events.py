"""Looking events up: what was stored, as it was stored, and what became of its batch."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import Organization
from console.entrance import staff_only
from metering import readings
from metering.readings import FoundEvent

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

    def find(self) -> list[FoundEvent]:
        """The newest events that match."""
        values = self.cleaned_data
        return readings.find_events(
            values["organization"].pk,
            event_id=values["event_id"] or None,
            source=values["source"] or None,
            model=values["model"] or None,
            project_id=values.get("project_id"),
            batch_id=values["batch"],
            start=values["start"],
            end=values["end"],
            limit=SHOWN_MAX,
        )


@require_GET
@staff_only
def search(request: HttpRequest) -> HttpResponse:
    """Show the form and, once it names an organization, what it finds."""
    asked = "organization" in request.GET
    form = SearchForm(request.GET if asked else None)
    found = form.find() if asked and form.is_valid() else None
    context = {
        **admin.site.each_context(request),
        "title": "Events",
        "form": form,
        "asked": found is not None,
        "found": [(event, _raw(event)) for event in found or []],
        "shown_max": SHOWN_MAX,
        "offered": Organization.objects.order_by("name").values_list("slug", "name")[:OFFERED_MAX],
        "organization": form.cleaned_data["organization"] if found is not None else None,
    }
    return render(request, "console/events.html", context)


def _raw(event: FoundEvent) -> str:
    fields = {
        name: getattr(event, name)
        for name in event.__slots__
        if getattr(event, name) not in (None, "")
    }
    return json.dumps(fields, indent=2, ensure_ascii=False, default=_text)


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
