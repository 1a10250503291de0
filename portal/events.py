"""One request on the bill: events found by any mark, and each followed to its invoice line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import searching, trail
from billing.fates import Fate
from billing.searching import ToldPage
from metering import readings
from metering.readings import EventPlace, EventSearch
from portal.door import Entry, member_page
from portal.usage_form import WITHIN_REACH
from portal.window import Window

SHOWN = 50
INSTANTS_WITHIN_REACH = [
    MinValueValidator(datetime(1970, 1, 2, tzinfo=UTC)),
    MaxValueValidator(datetime(2200, 12, 30, tzinfo=UTC)),
]


def _day(label: str) -> forms.DateField:
    widget = forms.DateInput(attrs={"type": "date"})
    return forms.DateField(required=False, label=label, widget=widget, validators=WITHIN_REACH)


def _instant(label: str) -> forms.DateTimeField:
    return forms.DateTimeField(
        required=False, label=label, widget=forms.HiddenInput, validators=INSTANTS_WITHIN_REACH
    )


def _text(label: str) -> forms.CharField:
    return forms.CharField(required=False, max_length=256, label=label)


class EventForm(forms.Form):
    """Which events; nothing needs to be said."""

    event = _text("Event id")
    source = _text("Source")
    model = _text("Model")
    project = forms.ChoiceField(required=False)
    api_key = _text("API key")
    agent = _text("Agent")
    session = _text("Session")
    fate = forms.ChoiceField(
        required=False, choices=[("", "any"), *((fate.value, fate.value) for fate in Fate)]
    )
    batch = forms.IntegerField(required=False, min_value=1, max_value=10**18 - 1)
    first = _day("Happened from")
    last = _day("To")
    start = _instant("From this instant")  # both from a link, such as that of a billing period
    end = _instant("Until this instant")

    def __init__(self, data: Mapping[str, object], entry: Entry) -> None:
        super().__init__({name: data[name] for name in data})
        self.entry = entry
        self.projects = dict(entry.organization.projects.order_by("name").values_list("slug", "pk"))
        names = entry.organization.projects.order_by("name").values_list("slug", "name")
        self.fields["project"].choices = [("", "all"), *names]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or {}
        first, last = cleaned.get("first"), cleaned.get("last")
        if not self.errors.keys().isdisjoint(("start", "end")):  # hidden, so it is said here
            self.add_error("first", "The address names no instants such as 2026-11-01T00:00:00Z.")
        if first and last and last < first:
            self.add_error("last", "The last day comes before the first.")
        return cleaned

    def search(self, before: EventPlace | None) -> EventSearch:
        """What is asked, in the words of the meter. Call it on a valid form only."""
        asked = self.cleaned_data
        start, end = self._window()
        return EventSearch(
            event_id=asked["event"] or None,
            source=asked["source"] or None,
            model=asked["model"] or None,
            project_id=self.projects.get(asked["project"]),
            batch_id=asked["batch"],
            api_key=asked["api_key"] or None,
            agent=asked["agent"] or None,
            session=asked["session"] or None,
            start=start,
            end=end,
            before=before,
        )

    @property
    def wanted_fate(self) -> Fate | None:
        """The fate that is asked for. Look at it on a valid form only."""
        return Fate(self.cleaned_data["fate"]) if self.cleaned_data["fate"] else None

    def asked(self) -> dict[str, object]:
        """The fields that say something, for the address of the next page."""
        return {name: value for name, value in self.cleaned_data.items() if value}

    def _window(self) -> tuple[datetime | None, datetime | None]:
        """Within the days and the instants that are asked for."""
        asked, zone = self.cleaned_data, self.entry.zone
        first, last = asked["first"], asked["last"]
        starts = [asked["start"], Window(first, first, zone).start if first else None]
        ends = [asked["end"], Window(last, last, zone).end if last else None]
        return max(filter(None, starts), default=None), min(filter(None, ends), default=None)


@require_GET
@member_page(Action.SEE_USAGE)
def index(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The newest events that match, each with its fate."""
    form = EventForm(request.GET.dict(), entry)
    before = EventPlace.named(request.GET.get("before", ""))
    context: dict[str, object] = {"form": form, "before": before}
    if form.is_valid():
        page = searching.event_page(
            entry.organization, form.search(before), form.wanted_fate, timezone.now(), limit=SHOWN
        )
        context |= {
            "page": page,
            "rows": [(event, fate, shown_usage(event.usage)) for event, fate in page.events],
            "older": _older(page, form),
            "asked": form.asked(),
        }
    return render(request, "portal/events.html", context)


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry, batch_id: int, ordinal: int) -> HttpResponse:
    """One event, from what was sent to what it came to."""
    place = EventPlace.named(f"{batch_id}-{ordinal}")
    event = place and readings.event_at(entry.organization.pk, place)
    if event is None:
        raise Http404
    followed = trail.follow(entry.organization, event, timezone.now())
    context = {
        "event": event,
        "trail": followed,
        "quarter_end": readings.period_end(event.quarter_hour, "quarter_hour", "UTC"),
        "quarter_day": event.quarter_hour.astimezone(entry.zone).date(),
    }
    return render(request, "portal/event.html", context)


def shown_usage(usage: Mapping[str, int]) -> list[tuple[str, int]]:
    """Registers by their names for people."""
    return [(readings.register_label(name).lower(), quantity) for name, quantity in usage.items()]


def _older(page: ToldPage, form: EventForm) -> str:
    return urlencode({**form.asked(), "before": page.next}) if page.next else ""
