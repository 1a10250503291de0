"""The usage explorer's question: which window, in which steps, split by what, of what alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from metering import readings
from portal.door import Entry
from portal.window import DAYS_MAX, PRESETS, STEPS, Window, preset

GROUPS = (
    ("model", "Model"),
    ("project", "Project"),
    ("api_key", "API key"),
    ("agent", "Agent"),
    ("register", "Kind of token"),
    ("region", "Region"),
    ("service_class", "Service class"),
)
GROUP_NAMES = dict(GROUPS)
DEFAULTS = {"window": "7d", "step": "day", "by": "model", "then": ""}
# As the API: beyond, the calendar itself ends, and nothing was metered there.
WITHIN_REACH = [MinValueValidator(date(1970, 1, 2)), MaxValueValidator(date(2200, 12, 30))]
CHOICES_MAX = 300  # of a filter; a name that is not listed can still stand in the address


class UsageForm(forms.Form):
    """Every field has a default, so that the bare address shows something."""

    window = forms.ChoiceField(choices=PRESETS, required=False)
    first = forms.DateField(
        required=False,
        label="From",
        widget=forms.DateInput(attrs={"type": "date"}),
        validators=WITHIN_REACH,
    )
    last = forms.DateField(
        required=False,
        label="To",
        widget=forms.DateInput(attrs={"type": "date"}),
        validators=WITHIN_REACH,
    )
    step = forms.ChoiceField(choices=STEPS, required=False)
    by = forms.ChoiceField(choices=GROUPS, required=False, label="Split by")
    then = forms.ChoiceField(
        choices=(("", "nothing else"), *GROUPS), required=False, label="and by"
    )
    model = forms.CharField(required=False, max_length=128)
    project = forms.CharField(required=False, max_length=128)
    api_key = forms.CharField(required=False, max_length=128, label="API key")
    agent = forms.CharField(required=False, max_length=128)
    register = forms.CharField(required=False, max_length=128, label="Kind of token")
    region = forms.CharField(required=False, max_length=128)
    service_class = forms.CharField(required=False, max_length=128)

    def __init__(self, data: Mapping[str, object], entry: Entry, now: datetime) -> None:
        self.zone = entry.zone
        self.today: date = now.astimezone(entry.zone).date()
        super().__init__({**DEFAULTS, **{name: data[name] for name in data}})

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or {}
        for name, default in DEFAULTS.items():
            cleaned[name] = cleaned.get(name) or default
        chosen = self.chosen_window(cleaned)
        if chosen.last < chosen.first:
            self.add_error("last", "The last day comes before the first.")
        days_max = DAYS_MAX[str(cleaned["step"])]
        if chosen.days > days_max:
            step = dict(STEPS)[str(cleaned["step"])].lower()
            self.add_error(
                "step",
                f"By {step} at most {days_max} days can be shown, not {chosen.days}. "
                "Choose longer steps or fewer days.",
            )
        return cleaned

    def chosen_window(self, cleaned: Mapping[str, object]) -> Window:
        """The window asked for; with dates alone, those dates."""
        first, last = cleaned.get("first"), cleaned.get("last")
        if cleaned["window"] != "dates":
            return preset(str(cleaned["window"]), self.today, self.zone)
        assert first is None or isinstance(first, date)
        assert last is None or isinstance(last, date)
        last = last or max(self.today, first or self.today)
        return Window(first or last, last, self.zone)

    def query(self) -> readings.Query:
        """The question in the words of the meter. Call it on a valid form only."""
        cleaned = self.cleaned_data
        chosen = self.chosen_window(cleaned)
        then = [cleaned["then"]] if cleaned["then"] not in ("", cleaned["by"]) else []
        return readings.Query(
            start=chosen.start,
            end=chosen.end,
            step=cleaned["step"],
            zone=self.zone.key,
            group_by=(cleaned["by"], *then),
            filters=self.filters(),
        )

    def filters(self) -> dict[str, list[str]]:
        """The fields that usage is narrowed to."""
        asked = {name: self.cleaned_data.get(name, "") for name, _ in GROUPS}
        return {name: [value] for name, value in asked.items() if value}
