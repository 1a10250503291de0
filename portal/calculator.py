"""What would this request cost? Answered by the same rating that makes invoices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from zoneinfo import ZoneInfo

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import catalog, negotiations, subscriptions
from billing.models import TariffVersion
from billing.rating import money
from billing.rating.bill import bill_request
from billing.rating.charge import Facts
from billing.rating.event import Event
from billing.rating.line import UNPRICED
from billing.rating.period import QUARTER, Period, quarter_hour
from billing.rating.rate import PricedTerms, RatedLine
from billing.rating.tariff import Terms
from metering import readings
from portal.door import Entry, member_page

REGISTERS = ("input", "cache_read", "cache_write", "output", "reasoning")
TOKENS_MAX = 10**9
MANY = 1_000
FIELDS = ("model", *REGISTERS, "service_class", "at")


class RequestForm(forms.Form):
    """One request: a model, how many tokens of each kind, and when."""

    model = forms.CharField(
        max_length=128, widget=forms.TextInput(attrs={"list": "models", "autocomplete": "off"})
    )
    service_class = forms.CharField(
        max_length=40,
        required=False,
        label="Served as",
        widget=forms.TextInput(attrs={"list": "classes", "autocomplete": "off"}),
    )
    at = forms.DateTimeField(
        required=False,
        label="Local time",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        validators=[
            MinValueValidator(datetime(1970, 1, 2, tzinfo=UTC)),
            MaxValueValidator(datetime(2200, 12, 30, tzinfo=UTC)),
        ],
    )

    def __init__(self, entry: Entry, now: datetime, data: Mapping[str, object]) -> None:
        self.now = now
        start = {"at": now.astimezone(entry.zone).strftime("%Y-%m-%dT%H:%M")}
        asked = {name: data[name] for name in data if name in FIELDS}
        super().__init__({**start, **asked} if asked else None, initial=start)
        for register, initial in zip(REGISTERS, (2000, 0, 0, 500, 0), strict=True):
            self.fields[register] = forms.IntegerField(
                min_value=0,
                max_value=TOKENS_MAX,
                required=False,
                initial=initial,
                label=readings.register_label(register),
            )
        self.order_fields(FIELDS)
        self._zone = entry.zone

    def clean_at(self) -> datetime:
        at: datetime | None = self.cleaned_data["at"]
        return at.replace(tzinfo=self._zone) if at else self.now


@dataclass(frozen=True, slots=True)
class Cost:
    """What the request costs before any allowance, at the first step of volume prices."""

    version: TariffVersion
    lines: list[tuple[str, RatedLine, str]]  # the kind of token, the line, what made its price
    amount: Decimal
    number: int
    many: Decimal
    bucket: str
    unpriced: bool


@require_GET
@member_page(Action.SEE_MONEY)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Only the answer, for htmx; the tariff page shows the same without it."""
    form = RequestForm(entry, timezone.now(), request.GET.dict())
    context = {"form": form, "result": cost(entry, form), "currency": entry.organization.currency}
    return render(request, "portal/cost.html", context)


def cost(entry: Entry, form: RequestForm) -> Cost | None:
    """Rate the form's request. None: nothing valid was asked, or no tariff holds then."""
    if not form.is_bound or not form.is_valid():
        return None
    at: datetime = form.cleaned_data["at"]
    subscription = subscriptions.current(entry.organization, at) or subscriptions.current(
        entry.organization, form.now
    )
    version = catalog.version_at(subscription.tariff, at) if subscription else None
    if version is None:
        form.add_error("at", "No tariff version is in force then.")
        return None
    assert subscription is not None
    in_force = negotiations.terms_at(subscription, at)
    terms = in_force.terms if in_force else catalog.terms_of(version)
    lines = _rate(form.cleaned_data, at, terms, str(version.number), entry.zone)
    amount = money.total(line.amount for line in lines)
    return Cost(
        version=version,
        lines=[(readings.register_label(line.register), line, _notes(line)) for line in lines],
        amount=amount,
        number=MANY,
        many=_times(amount, MANY),
        bucket=next((line.bucket for line in lines if line.bucket), "").replace("_", "-"),
        unpriced=any(line.component == UNPRICED for line in lines),
    )


def _times(amount: Decimal, number: int) -> Decimal:
    with localcontext(money.EXACT):
        return amount * number


def _rate(
    asked: Mapping[str, object], at: datetime, terms: Terms, version: str, zone: ZoneInfo
) -> list[RatedLine]:
    usage = {name: asked[name] for name in REGISTERS if asked.get(name)}
    event = Event(
        id="",
        occurred_at=at,
        model=str(asked["model"]),
        usage={name: int(str(quantity)) for name, quantity in usage.items()},
        service_class=str(asked.get("service_class") or ""),
    )
    start = quarter_hour(at)
    stretch = PricedTerms(version, Period(start, start + QUARTER), terms)
    return bill_request(event, [stretch], Facts(zone)).lines


def _notes(line: RatedLine) -> str:
    """What made the price: the tier of the whole request, and what the listed price was times."""
    tier, factors = line.trace.get("tier"), line.trace.get("modifiers")
    parts = [f"tier {tier['number']} of {tier['of']}"] if isinstance(tier, dict) else []
    if isinstance(factors, list):
        parts.append(f"{line.trace['base_price']} listed")
        parts += [f"x {factor['factor']} ({factor['code']})" for factor in factors]
    return ", ".join(parts)


def service_classes(terms: Terms) -> list[str]:
    """The service classes that make a difference, in the order of the document."""
    named = [one.service_classes for one in terms.components]
    named += [one.scope.service_classes for one in terms.modifiers]
    return list(dict.fromkeys(name for names in named for name in names or ()))
