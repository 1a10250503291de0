"""Jumps: what in new terms is so far from the old that a second person should look at it.

Compared is what usage would cost, not how it is written: a component under another name, another
order or a new discount changes a price as surely as its own field does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import NamedTuple

from billing.rating.charges import charge_document
from billing.rating.flat import Flat
from billing.rating.graduated import Graduated
from billing.rating.modifier import modified
from billing.rating.package import Package
from billing.rating.price_series import PriceSeries
from billing.rating.request_size import RequestSize
from billing.rating.scope import ANY, Scope, What, When
from billing.rating.tariff import RateComponent, Terms
from billing.rating.time_of_use import TimeOfUse
from billing.rating.volume import Volume

# How often one component is looked at, at most; two documents of 300 components stay below.
LOOKS_MAX = 3_000_000


@dataclass(frozen=True, slots=True)
class Jump:
    """One reason for a second look. `rule`: rise, fall, zero, unpriced, unit, currency, allowance,
    charge, or too_large where there is too much to compare."""

    rule: str
    subject: str
    detail: str

    @property
    def sentence(self) -> str:
        return f"{self.subject}: {self.detail}."

    def as_json(self) -> dict[str, str]:
        return {"rule": self.rule, "subject": self.subject, "sentence": self.sentence}


class _Priced(NamedTuple):
    component: RateComponent
    prices: dict[str, Fraction]  # of one unit, after modifiers, by step, tier or bucket


def jumps(before: Terms, after: Terms, factor: int) -> list[Jump]:
    """Return every price that rises or falls more than factor times, and what comes near to it:
    a new zero, usage no longer priced, another unit or currency, more free tokens, other charges.
    """
    found: list[Jump] = []
    if before.currency != after.currency:
        detail = f"{before.currency} becomes {after.currency}"
        return [Jump("currency", "the currency", detail)]
    probes = _probes(before, after)
    if len(probes) * (len(before.components) + len(after.components)) > LOOKS_MAX:
        found.append(Jump("too_large", "the document", "is too large to compare price by price"))
        probes = []
    for what in probes:
        old, new = _priced(before, what), _priced(after, what)
        if old is not None:
            found += _of_price(_usage(what), old, new, factor)
    found += _of_allowances(before, after, factor)
    found += _of_charges(before, after, factor)
    return list(dict.fromkeys(found))


def _of_price(subject: str, old: _Priced, new: _Priced | None, factor: int) -> Iterator[Jump]:
    if new is None:
        yield Jump("unpriced", subject, "has no price any more, and would not be charged")
        return
    if old.component.shape.per != new.component.shape.per:
        per = f"{old.component.shape.per:,} becomes per {new.component.shape.per:,}"
        yield Jump("unit", subject, f"the price per {per}")
    for was, becomes in _pairs(old.prices, new.prices):
        said = f"{_per_million(was)} becomes {_per_million(becomes)} a million"
        if becomes <= 0 < was:
            yield Jump("zero", subject, f"{said}: nothing would be charged")
        elif was <= 0 < becomes:
            yield Jump("rise", subject, f"{said}: it was free")
        elif becomes > was * factor > 0:
            yield Jump("rise", subject, f"{said}, more than {factor} times as much")
        elif 0 < becomes * factor < was:
            yield Jump("fall", subject, f"{said}, less than 1/{factor} of it")


def _pairs(
    before: Mapping[str, Fraction], after: Mapping[str, Fraction]
) -> list[tuple[Fraction, Fraction]]:
    """Return the prices to compare: like with like, or else lowest and highest."""
    if before.keys() == after.keys():
        return [(before[key], after[key]) for key in before]
    old, new = before.values(), after.values()
    return [(min(old), min(new)), (max(old), max(new))]


def _of_allowances(before: Terms, after: Terms, factor: int) -> Iterator[Jump]:
    old = {one.code: one.tokens for one in before.allowances}
    for one in after.allowances:
        subject, was = f"allowance {one.code}", old.get(one.code)
        if was is None:
            yield Jump("allowance", subject, f"{one.tokens:,} tokens become free")
        elif one.tokens > was * factor:
            detail = f"{was:,} free tokens become {one.tokens:,}, more than {factor} times as many"
            yield Jump("allowance", subject, detail)


def _of_charges(before: Terms, after: Terms, factor: int) -> Iterator[Jump]:
    old, new = ({one.code: charge_document(one) for one in of.charges} for of in (before, after))
    for code in dict.fromkeys([*new, *old]):
        subject = f"charge {code}"
        if code not in old:
            yield Jump("charge", subject, "is new")
        elif code not in new:
            yield Jump("charge", subject, "is gone")
        else:
            was, becomes = dict(_amounts(old[code])), dict(_amounts(new[code]))
            for name in was.keys() & becomes.keys():
                if _leaps(was[name], becomes[name], factor):
                    detail = f"{name} {was[name]:f} becomes {becomes[name]:f}"
                    yield Jump("charge", subject, detail)


def _leaps(was: Decimal, becomes: Decimal, factor: int) -> bool:
    if was <= 0 or becomes <= 0:
        return was != becomes
    return becomes > was * factor or becomes * factor < was


def _amounts(value: object, path: str = "") -> Iterator[tuple[str, Decimal]]:
    match value:
        case Mapping():
            for name, item in value.items():
                yield from _amounts(item, f"{path} {name}".strip())
        case list():
            for index, item in enumerate(value):
                yield from _amounts(item, f"{path} {index + 1}".strip())
        case str() if value.replace(".", "", 1).isdecimal() and value.isascii():
            yield path, Decimal(value)
        case int() if not isinstance(value, bool):
            yield path, Decimal(value)


def _priced(terms: Terms, what: What) -> _Priced | None:
    found = terms.component_for(*what)
    if found is None:
        return None
    _, component = found
    factors = terms.modifiers_for(what, component)
    per = component.shape.per
    prices = {
        key: Fraction(modified(price, factors)) / per for key, price in unit_prices(component)
    }
    return _Priced(component, prices)


def unit_prices(component: RateComponent) -> Iterator[tuple[str, Decimal]]:
    """Yield every price a component may charge for `per` units, and where it does."""
    match component.shape:
        case Flat(price=price):
            yield "", price
        case Graduated(steps=steps) | Volume(steps=steps):
            yield from ((str(step.start), step.price) for step in steps)
        case RequestSize(tiers=tiers):
            yield from ((str(tier.start), tier.price) for tier in tiers)
        case TimeOfUse(prices=prices):
            yield from prices
        case Package(size=size, price=price):
            yield "", price / size
        case PriceSeries(prices=known):
            published = [price for price in known if price is not None]
            yield "lowest", min(published)
            yield "highest", max(published)


def _probes(*terms: Terms) -> list[What]:
    """Return usage of every kind that some component or modifier tells apart."""
    components = [one for of in terms for one in of.components]
    scopes = [one.scope for of in terms for one in of.modifiers]
    models = {model for one in components for model in one.models}
    models |= {model for scope in scopes for model in scope.models or ()}
    registers = list(dict.fromkeys(register for one in components for register in one.registers))
    kinds = {kind for one in components for kind in _kinds(_scope(one))}
    kinds |= {kind for scope in scopes for kind in _kinds(scope)} | {("", "", ANY)}
    return [
        What(
            model.removesuffix("*"), register, region, service_class,
            when.input_above, bool(when.thinking), when.has,
        )
        for model, register, (region, service_class, when) in product(
            sorted(models), registers, sorted(kinds, key=repr)
        )
    ]  # fmt: skip


def _scope(component: RateComponent) -> Scope:
    return Scope(
        component.models,
        component.registers,
        component.regions,
        component.service_classes,
        component.when,
    )


def _kinds(scope: Scope) -> Iterable[tuple[str, str, When]]:
    return product(scope.regions or ("",), scope.service_classes or ("",), (scope.when,))


def _usage(what: What) -> str:
    kind = [what.region, what.service_class]
    kind += [f"input above {what.input_band:,}"] if what.input_band else []
    kind += ["with reasoning"] if what.thinking else []
    kind += [name.replace("_", " ") for name in what.attributes]
    said = ", ".join(word for word in kind if word)
    words = f"{what.register.replace('_', ' ')} of {what.model or 'any other model'}"
    return f"{words} ({said})" if said else words


def _per_million(price: Fraction) -> str:
    """Write the price of a million units; exact where it has an end, else to 12 decimals."""
    million = price * 1_000_000
    value = Decimal(million.numerator) / Decimal(million.denominator)
    text = f"{round(value, 12):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
