"""The tariff, in words and drawings a buyer understands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.permissions import Action
from billing import catalog, costs, negotiations, subscriptions, terms_drawn
from billing.models import Subscription, Tariff, TariffVersion
from billing.rating.tariff import Terms
from billing.terms_drawn import Priced
from billing.terms_in_words import allowance_words, charge_sentences, modifier_sentences
from portal import calculator, price_groups, price_history, week
from portal.calculator import RequestForm
from portal.door import Entry, member_page
from portal.price_groups import Prices

FIND_MAX = 128


@dataclass(frozen=True, slots=True)
class Announced:
    """A tariff version to come, with the prices that differ from those before it."""

    version: TariffVersion
    zone: str
    prices: list[Prices]


@require_GET
@member_page(Action.SEE_MONEY)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The prices now and those announced, drawn, the week, and a calculator."""
    now = timezone.now()
    subscription = subscriptions.current(entry.organization, now)
    version = catalog.version_at(subscription.tariff, now) if subscription else None
    if subscription is None or version is None:
        return render(request, "portal/tariff_none.html", {"subscription": subscription})
    listed = catalog.terms_of(version)
    in_force = negotiations.terms_at(subscription, now)
    terms = in_force.terms if in_force else listed
    form = RequestForm(entry, now, request.GET.dict())
    wanted = request.GET.get("find", "").strip()[:FIND_MAX]
    zones = price_history.zones(subscription, terms)
    agreed = negotiations.at(subscription, now)
    context = {
        "subscription": subscription,
        "tariff": subscription.tariff,
        "version": version,
        "version_zone": price_history.zone_of(version.valid_from, zones),
        "prices": price_groups.listed(terms, _priced_so_far(subscription, terms, now), wanted),
        "announced": _announced(subscription.tariff, listed, zones, now),
        "period": subscriptions.open_period(subscription, now),
        "allowances": [(one, allowance_words(one)) for one in terms.allowances],
        "modifiers": modifier_sentences(listed),  # what was negotiated is said as discounts
        "charges": _charges(terms, listed),
        "shapes": {part.shape.NAME for part in terms.components},
        "week": week.strip(terms.calendar, now) if terms.calendar else None,
        "now": now,
        "form": form,
        "result": calculator.cost(entry, form),
        "currency": subscription.tariff.currency,
        "models": _named_models(terms),
        "classes": calculator.service_classes(terms),
        "agreed": agreed,
        "agreed_zone": price_history.zone_of(agreed.valid_from, zones) if agreed else "",
        "discounts": costs.discount_sentences(negotiations.agreement_at(subscription, now)),
        "history": price_history.of(subscription, listed, zones, now),
    }
    return render(request, "portal/tariff.html", context)


def _priced_so_far(subscription: Subscription, terms: Terms, now: datetime) -> Mapping[str, Priced]:
    """Where the open period stands; asked only where a drawing says it."""
    if any(map(terms_drawn.has_steps, terms.components)):
        return costs.priced_so_far(subscription, now)
    return {}


def _charges(terms: Terms, listed: Terms) -> list[tuple[str, bool]]:
    """A sentence for each charge, and whether it was negotiated."""
    sentences = zip(terms.charges, charge_sentences(terms), strict=True)
    return [(sentence, charge not in listed.charges) for charge, sentence in sentences]


def _announced(
    tariff: Tariff, terms: Terms, zones: price_history.Zones, now: datetime
) -> list[Announced]:
    versions, before = [], terms
    for later in _later(tariff, now):
        after = catalog.terms_of(later)
        known = costs.price_table(before)
        rows = [row for row in costs.price_table(after) if row not in known]
        zone = price_history.zone_of(later.valid_from, zones)
        versions.append(Announced(later, zone, price_groups.grouped(rows)))
        before = after
    return versions


def _later(tariff: Tariff, now: datetime) -> list[TariffVersion]:
    later = tariff.versions.filter(withdrawn_at=None, valid_from__gt=now)
    return list(later.order_by("valid_from")[:5])


def _named_models(terms: Terms) -> list[str]:
    named = (model for part in terms.components for model in part.models if model[-1] != "*")
    return list(dict.fromkeys(named))
