"""Usage that no price was found for, and which name may have been meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from django.db.models import Q

from billing import negotiations
from billing.models import CatalogModel, ModelAlias, Subscription
from billing.rating.period import QUARTER, quarter_hour
from billing.rating.tariff import Terms
from metering import readings

LOOKS_BACK = timedelta(days=7)
SUGGESTIONS_MAX = 3
_LIKENESS = 0.6


@dataclass(frozen=True, slots=True)
class Unpriced:
    """Tokens of one model that an organization used and that nothing prices now."""

    subscription: Subscription
    model: str
    registers: tuple[str, ...]
    tokens: int
    suggestions: list[str]  # sentences


def of(subscription: Subscription, now: datetime) -> list[Unpriced]:
    """What an organization used in the last seven days that its terms do not price now."""
    in_force = negotiations.terms_at(subscription, now)
    terms = in_force.terms if in_force else None
    tokens: Counter[str] = Counter()
    registers: dict[str, set[str]] = {}
    end = quarter_hour(now) + QUARTER
    week = [readings.Slice(end - LOOKS_BACK, end)]
    for used in readings.usage_in(subscription.organization_id, week):
        if readings.is_token(used.register) and not _is_priced(terms, used):
            tokens[used.model] += used.quantity
            registers.setdefault(used.model, set()).add(used.register)
    named = _named(terms)
    return [
        Unpriced(subscription, model, tuple(sorted(registers[model])), count, suggest(model, named))
        for model, count in tokens.most_common()
    ]


def suggest(name: str, priced: Iterable[str] = ()) -> list[str]:
    """Which models a name may mean: as an alias, or by its spelling. Prices follow from neither."""
    alias = ModelAlias.objects.filter(name=name).select_related("model").first()
    if alias is not None:
        return [f"It is an alias of {alias.model}."]
    known = [*priced, *CatalogModel.objects.filter(_likely(name)).values_list("name", flat=True)]
    known += ModelAlias.objects.filter(_likely(name)).values_list("name", flat=True)
    others = dict.fromkeys(one for one in known if one != name)
    close = get_close_matches(name, list(others), n=SUGGESTIONS_MAX, cutoff=_LIKENESS)
    return [f"Did you mean {one}?" for one in close]


def _likely(name: str) -> Q:
    """Names that begin alike: a typing error in the first two letters is rare, names are many."""
    return Q(name__istartswith=name[:2]) | Q(name__icontains=name)


def _is_priced(terms: Terms | None, used: readings.SliceUsage) -> bool:
    return terms is not None and terms.component_for(
        used.model, used.register, used.region, used.service_class,
        used.input_band, used.thinking, used.attributes,
    ) is not None  # fmt: skip


def _named(terms: Terms | None) -> Sequence[str]:
    components = terms.components if terms else ()
    return [model for one in components for model in one.models if not model.endswith("*")]
