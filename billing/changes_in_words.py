"""What changed in prices as a buyer reads it: models and kinds of usage, where a diff has codes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from billing import costs
from billing.rating.allowance import Allowance
from billing.rating.changes import Change, changes
from billing.rating.money import written
from billing.rating.negotiated import Agreement
from billing.rating.tariff import RateComponent, Terms
from billing.terms_in_words import (
    allowance_words,
    charge_sentence,
    model_words,
    modifier_sentence,
)

_PRICE = re.compile(r"price(?: \((?P<step>.+)\))?|(?P<bucket>.+) \(prices\)")
_EDGE = re.compile(r"(from|above)( \(.+\))?")  # where a step begins; its price says it too


Prices = Terms | Agreement


def sentences(before: Prices, after: Prices, listed: Terms) -> list[str]:
    """Say what the second has different, in its own order. `listed`: the tariff both are of."""
    said = _Said(_named(before, listed), _named(after, listed), listed)
    found = changes(before.as_document(), after.as_document())
    return [sentence for change in found for sentence in said.of(change)]


def _named(prices: Prices, listed: Terms) -> Mapping[str, RateComponent | str]:
    """By what a diff calls them: the components, and sentences for what else has a code."""
    besides: Iterable[tuple[str, str]] = (
        ((f"modifier {one.code}", modifier_sentence(one)) for one in prices.modifiers)
        if isinstance(prices, Terms)
        else zip(
            (f"discount {one.code}" for one in prices.discounts),
            costs.discount_sentences(prices),
            strict=True,
        )
    )
    return {
        **dict(besides),
        **{f"component {one.code}": one for one in prices.components},
        **{f"allowance {one.code}": _free(one) for one in prices.allowances},
        **{f"charge {one.code}": charge_sentence(one, listed.currency) for one in prices.charges},
    }


def _free(allowance: Allowance) -> str:
    models = model_words(allowance.models, "all models together")
    return f"free are {allowance_words(allowance)}, for {models}."


@dataclass(frozen=True, slots=True)
class _Said:
    before: Mapping[str, RateComponent | str]
    after: Mapping[str, RateComponent | str]
    listed: Terms

    def of(self, change: Change) -> Iterator[str]:
        old, new = self.before.get(change.subject), self.after.get(change.subject)
        whole = new if change.kind == "added" else old
        if not change.field and isinstance(whole, RateComponent):
            yield f"{_KINDS[change.kind]}: {self._whole(whole)}."
        elif not change.field and isinstance(whole, str):
            yield f"{_KINDS[change.kind]}: {whole}"
        elif isinstance(old, RateComponent) and isinstance(new, RateComponent):
            yield from self._field(change, old, new)
        else:
            yield _capital(change.sentence)

    def _whole(self, component: RateComponent) -> str:
        prices = (
            f"{row.text} ({row.condition})" if row.condition else row.text
            for row in costs.component_rows(component, self.listed)
        )
        return f"{_name(component)}: {', '.join(prices)}"

    def _field(self, change: Change, old: RateComponent, new: RateComponent) -> Iterator[str]:
        place = _PRICE.fullmatch(change.field)
        if place is not None:
            where = place["step"] or (place["bucket"] or "").replace(" ", "-")
            of = f"{_name(new)}, {where}" if where else _name(new)
            yield f"{of}: {self._price(change, old, new)}."
        elif change.kind == "changed" or not _EDGE.fullmatch(change.field):
            yield replace(change, subject=_name(new)).sentence

    def _price(self, change: Change, old: RateComponent, new: RateComponent) -> str:
        units = costs.unit_words(old), costs.unit_words(new)
        if change.kind == "added":
            return f"new, {self._amount(change.after)} per {units[1]}"
        if change.kind == "removed":
            return f"gone, {self._amount(change.before)} per {units[0]}"
        was = self._amount(change.before) + (f" per {units[0]}" if units[0] != units[1] else "")
        percent = "" if change.percent is None else f" ({change.percent:+,f}%)"
        return f"{was} becomes {self._amount(change.after)} per {units[1]}{percent}"

    def _amount(self, price: object) -> str:
        return written(Decimal(str(price)), self.listed.currency)


_KINDS = {"added": "New", "removed": "Gone"}


def _name(component: RateComponent) -> str:
    models = model_words(component.models, "any model")
    return f"{costs.what_is_priced(component)} of {models}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
