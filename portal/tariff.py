"""The tariff, in words a buyer understands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import catalog, costs, negotiations, subscriptions
from billing.costs import PriceRow
from billing.models import Tariff, TariffVersion
from billing.rating.graduated import Graduated
from billing.rating.price_series import PriceSeries
from billing.rating.tariff import Terms
from billing.terms_in_words import allowance_words, charge_sentences, modifier_sentences
from portal import calculator, price_history, week
from portal.calculator import RequestForm
from portal.door import Entry, member_page


@dataclass(frozen=True, slots=True)
class Prices:
    """The price rows of the same models."""

    models: str
    rows: list[tuple[PriceRow, str]]  # and what the price is for, "1M tokens"


@dataclass(frozen=True, slots=True)
class Version:
    """A tariff version as the page shows it."""

    version: TariffVersion
    prices: list[Prices]


@require_GET
@member_page(Action.SEE_MONEY)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The prices now and those announced, the week, and a calculator."""
    now = timezone.now()
    subscription = subscriptions.current(entry.organization, now)
    version = catalog.version_at(subscription.tariff, now) if subscription else None
    if subscription is None or version is None:
        return render(request, "portal/tariff_none.html", {"subscription": subscription})
    listed = catalog.terms_of(version)
    in_force = negotiations.terms_at(subscription, now)
    terms = in_force.terms if in_force else listed
    form = RequestForm(entry, now, request.GET.dict())
    context = {
        "subscription": subscription,
        "tariff": subscription.tariff,
        "current": _version(version, terms),
        "announced": _announced(subscription.tariff, listed, now),
        "period": subscriptions.open_period(subscription, now),
        "allowances": [(one, allowance_words(one)) for one in terms.allowances],
        "modifiers": modifier_sentences(listed),  # what was negotiated is said as discounts
        "charges": charge_sentences(terms),
        "by_volume": any(isinstance(part.shape, Graduated) for part in terms.components),
        "by_interval": any(isinstance(part.shape, PriceSeries) for part in terms.components),
        "week": week.strip(terms.calendar, now) if terms.calendar else None,
        "now": now,
        "form": form,
        "result": calculator.cost(entry, form),
        "currency": subscription.tariff.currency,
        "models": _named_models(terms),
        "classes": calculator.service_classes(terms),
        "agreed": negotiations.at(subscription, now),
        "discounts": costs.discount_sentences(negotiations.agreement_at(subscription, now)),
        "history": price_history.of(subscription, now),
    }
    return render(request, "portal/tariff.html", context)


def _version(version: TariffVersion, terms: Terms, known: Sequence[PriceRow] = ()) -> Version:
    rows = [row for row in costs.price_table(terms) if row not in known]
    return Version(version, _grouped(rows))


def _grouped(rows: Sequence[PriceRow]) -> list[Prices]:
    """One group per models, and the first row that matches still applies: no row moves up past
    one that may price the same usage."""
    groups: list[Prices] = []
    for row in rows:
        rivals = (any(_rivals(row, other) for other, _ in group.rows) for group in groups)
        barred = max((place for place, rival in enumerate(rivals) if rival), default=0)
        same = (group for group in groups[barred:] if group.models == row.models)
        group = next(same, None)
        if group is None:
            group = Prices(row.models, [])
            groups.append(group)
        group.rows.append((row, row.text.partition(" per ")[2]))
    return groups


def _rivals(row: PriceRow, other: PriceRow) -> bool:
    same_register = set(row.registers.split(", ")) & set(other.registers.split(", "))
    pairs = product(row.models.split(", "), other.models.split(", "))
    return bool(same_register) and any(_meet(*pair) for pair in pairs)


def _meet(name: str, other: str) -> bool:
    """Whether some model goes by both: names, beginnings ("qwen…") or any model at all."""
    if name.startswith("any ") or other.startswith("any "):
        return True
    begins, other_begins = name.removesuffix("…"), other.removesuffix("…")
    return (
        name == other
        or (name != begins and other_begins.startswith(begins))
        or (other != other_begins and begins.startswith(other_begins))
    )


def _announced(tariff: Tariff, terms: Terms, now: datetime) -> list[Version]:
    """The versions to come, each with the prices that differ from those before it."""
    versions, before = [], terms
    for later in _later(tariff, now):
        after = catalog.terms_of(later)
        versions.append(_version(later, after, known=costs.price_table(before)))
        before = after
    return versions


def _later(tariff: Tariff, now: datetime) -> list[TariffVersion]:
    later = tariff.versions.filter(withdrawn_at=None, valid_from__gt=now)
    return list(later.order_by("valid_from")[:5])


def _named_models(terms: Terms) -> list[str]:
    named = (model for part in terms.components for model in part.models if model[-1] != "*")
    return list(dict.fromkeys(named))
