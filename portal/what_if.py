"""Would another tariff have been cheaper? An organization's own past periods, under those offered.

Nothing is stored: a few periods are metered once and rated while the page is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import Organization
from accounts.permissions import Action
from billing import catalog, offers, side_by_side, subscriptions, what_if
from billing.catalog import TariffRefused
from billing.comparisons import Verdict
from billing.models import Subscription, Tariff
from billing.rating.break_even import Point, break_even_sentences, times
from billing.rating.money import from_minor
from billing.read_only import read_only
from billing.what_if import NOTES, Alternative, Sides
from portal.door import Entry, member_page

COUNTS = (("1", "The last one"), ("3", "The last three"), ("6", "The last six"))
PRICES = (("then", "As they were then"), ("now", "As they are now"))
DEFAULTS = {"periods": "3", "prices": "then"}
ITEMS_MAX = 100
NOW_SWATCH, OTHER_SWATCH = 1, 0


@dataclass(frozen=True, slots=True)
class Offered:
    """The tariffs to compare with, and those in another currency, which cannot be."""

    comparable: list[Tariff]
    foreign: list[Tariff]


class WhatIfForm(forms.Form):
    """Which tariff, how many periods, and at which of its prices."""

    tariff = forms.ChoiceField(label="Other tariff")
    periods = forms.ChoiceField(choices=COUNTS, label="Billing periods")
    prices = forms.ChoiceField(choices=PRICES, label="Its prices")

    def __init__(self, data: Mapping[str, object], offered: Offered) -> None:
        asked = {name: data[name] for name in data if name in self.base_fields}
        super().__init__({**DEFAULTS, **asked} if asked else None, initial=DEFAULTS)
        tariff = self.fields["tariff"]
        assert isinstance(tariff, forms.ChoiceField)
        tariff.choices = [(one.code, one.name) for one in offered.comparable]


@require_GET
@member_page(Action.SEE_MONEY)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The question and, once a tariff is chosen, the answer."""
    now = timezone.now()
    subscription = subscriptions.current(entry.organization, now)
    offered = _offered(entry.organization, subscription)
    form = WhatIfForm(request.GET.dict(), offered)
    context: dict[str, Any] = {"form": form, "offered": offered, "subscription": subscription}
    if form.is_bound and form.is_valid():
        with read_only():
            context |= _answer(entry.organization, form, offered, now)
    return render(request, "portal/what_if.html", context)


def _offered(organization: Organization, subscription: Subscription | None) -> Offered:
    """What may be seen besides the tariff the organization is on."""
    visible = offers.visible_to(organization)
    if subscription is not None:
        visible = visible.exclude(pk=subscription.tariff_id)
    currency = subscription.tariff.currency if subscription else organization.currency
    found = list(visible)
    return Offered(
        [one for one in found if one.currency == currency],
        [one for one in found if one.currency != currency],
    )


def _answer(
    organization: Organization, form: WhatIfForm, offered: Offered, now: datetime
) -> dict[str, Any]:
    asked = form.cleaned_data
    (tariff,) = (one for one in offered.comparable if one.code == asked["tariff"])
    found = _compare(organization, tariff, asked["prices"], int(asked["periods"]), now)
    if isinstance(found, str):
        return {"other": tariff, "refusal": found}
    compared = found.compared()
    points = [] if compared.unpriced else found.points()
    return {
        "other": tariff,
        "compared": compared,
        "currency": compared.currency,
        "size_minor": abs(compared.difference_minor),
        "notes": [NOTES[note] for note in compared.notes],
        "each": found.each(),
        "items": side_by_side.items(found)[:ITEMS_MAX],
        "sentences": break_even_sentences(points, tariff.name) if points else [],
        "points": [(times(point.factor), point) for point in points],
        "chart": _chart(points, tariff, compared.currency),
    }


def _compare(
    organization: Organization, tariff: Tariff, prices: str, count: int, now: datetime
) -> Sides | str:
    """Both sides, or a sentence why they cannot be compared."""
    source: Tariff | Mapping[str, object] = tariff
    if prices == "now":
        version = catalog.version_at(tariff, now)
        if version is None:
            return f"{tariff.name} has no prices now."
        source = version.document
    try:
        other = Alternative(source)
    except TariffRefused as refused:
        return f"{tariff.name} cannot be compared: {refused}"
    periods = what_if.last_periods(organization, count, now)
    if not periods:
        return "No billing period has ended yet, so there is nothing to compare."
    found = what_if.between(periods, other)
    return found if isinstance(found, Sides) else _why_not(found.verdict, tariff)


def _why_not(verdict: Verdict, tariff: Tariff) -> str:
    match verdict:
        case Verdict.OTHER_CURRENCY:
            return (
                f"One of these periods was billed in another currency than {tariff.currency}. "
                "Choose fewer periods."
            )
        case Verdict.NO_PRICES:
            return f"{tariff.name} had no prices then. Compare with its prices of now."
    return (
        f"The prices of {tariff.name} change with the size of a request, and your readings do not "
        "tell these sizes apart. Ask your operator."
    )


def _chart(points: list[Point], tariff: Tariff, currency: str) -> dict[str, object]:
    """What charts.js draws: a line for each tariff, amounts as text with every digit."""
    lines = [
        ("As it is", NOW_SWATCH, [point.old_minor for point in points]),
        (tariff.name, OTHER_SWATCH, [point.new_minor for point in points]),
    ]
    return {
        "kind": "line",
        "currency": currency,
        "across": "times what was used",
        "labels": [times(point.factor) for point in points],
        "series": [
            {
                "label": label,
                "swatch": swatch,
                "data": [f"{from_minor(minor, currency):f}" for minor in minors],
            }
            for label, swatch, minors in lines
        ],
    }
