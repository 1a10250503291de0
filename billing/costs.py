"""What the open period costs so far, what it may come to, and what the tariff's prices are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from accounts.models import Organization
from billing import pricing, subscriptions, terms_drawn
from billing.earlier import Earlier
from billing.models import Subscription
from billing.rating import money
from billing.rating.charge import MINOR
from billing.rating.flat import Flat
from billing.rating.graduated import Graduated
from billing.rating.negotiated import Agreement
from billing.rating.package import Package
from billing.rating.paper import printed_minor
from billing.rating.period import QUARTER, Period, quarter_hour
from billing.rating.price_series import PriceSeries
from billing.rating.rate import RatedLine
from billing.rating.request_size import RequestSize
from billing.rating.scope import Scope
from billing.rating.tariff import Allowance, RateComponent, Terms, parse
from billing.rating.time_of_use import TimeOfUse
from billing.rating.volume import Volume
from billing.terms_drawn import Priced
from billing.terms_in_words import allowance_words, condition_words, model_words, size_words
from metering import readings

WEEK = timedelta(days=7)
DAY = timedelta(days=1)


class Basis(StrEnum):
    """What an expected amount was expected from; a page says so beside the figure."""

    LAST_WEEK = "the mean day of the last 7 days, for the days that remain"
    PERIOD_SO_FAR = "the mean day of the period so far, for the days that remain"
    TOO_EARLY = "no expectation yet: the period is less than a day old"


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model has cost in the open period, exactly and in whole minor units."""

    model: str  # "": charges that are of no model
    amount_exact: Decimal
    amount_minor: int


@dataclass(frozen=True, slots=True)
class CostSoFar:
    """The open period, rated as its invoice would be if it ended now: with the charges of the days
    gone by, and of a commitment nothing before its term ends.

    Without the differences that late usage of earlier periods may put on that invoice.
    """

    period: Period
    currency: str
    lines: list[RatedLine]
    amount_exact: Decimal
    amount_minor: int  # the sum of the lines, each rounded, as on the invoice
    by_model: list[ModelCost]  # dearest first
    expected_minor: int | None  # at the end of the period; None while it is too early to say
    basis: Basis
    elapsed: timedelta

    @property
    def elapsed_percent(self) -> int:
        return int(self.elapsed * 100 / (self.period.end - self.period.start))


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price as a buyer reads it: for what, when or from where on, how much."""

    component: str  # its code; "" for what an allowance makes free
    models: str
    registers: str
    condition: str
    price: Decimal
    per: int
    text: str


def so_far(organization: Organization, now: datetime) -> CostSoFar | None:
    """Rate the open period as far as it is metered. None without a subscription."""
    subscription = subscriptions.current(organization, now)
    if subscription is None:
        return None
    period = subscriptions.open_period(subscription, now)
    cut = quarter_hour(now) - WEEK
    (metered,) = pricing.meter([(subscription, period)], cut=cut)
    past = pricing.past_of(metered)
    used = metered.rated(past)
    ended = min(quarter_hour(now) + QUARTER, period.end)
    lines = used + metered.charged(used, past, until=ended)
    of_usage = money.total(line.amount for line in used)
    week_ago = money.total(line.amount for line in metered.rated(past, until=cut))
    expected, basis = _expected(period, now, of_usage, week_ago)
    return CostSoFar(
        period=period,
        currency=metered.currency,
        lines=lines,
        amount_exact=money.total(line.amount for line in lines),
        amount_minor=printed_minor(lines, metered.currency),
        by_model=_by_model(lines, metered.currency),
        expected_minor=None if expected is None else _with_charges(metered, used, past, expected),
        basis=basis,
        elapsed=min(max(now, period.start), period.end) - period.start,
    )


def priced_so_far(subscription: Subscription, now: datetime) -> dict[str, Priced]:
    """What each component has priced in the open period, as far as it is metered, by its code."""
    (metered,) = pricing.meter([(subscription, subscriptions.open_period(subscription, now))])
    return terms_drawn.so_far(metered.rated(pricing.past_of(metered)))


def price_table(terms: Terms | Mapping[str, object]) -> list[PriceRow]:
    """Every price of a tariff version's terms (or document), in the order they are tried."""
    terms = terms if isinstance(terms, Terms) else parse(terms)
    rows = [_allowance_row(allowance) for allowance in terms.allowances]
    for place, component in enumerate(terms.components):
        rows += component_rows(component, terms, _everything(component, terms.components[:place]))
    return rows


def _everything(component: RateComponent, before: Sequence[RateComponent]) -> str:
    """What "*" means at a component's place: the rest, where some models were priced before it."""
    named = (
        "*" not in one.models and not set(component.registers).isdisjoint(one.registers)
        for one in before
    )
    return "any other model" if "*" in component.models and any(named) else "any model"


def _expected(
    period: Period, now: datetime, exact: Decimal, week_ago: Decimal
) -> tuple[Decimal | None, Basis]:
    """Go on as the last week went; younger periods as they went so far. Steps of volume prices
    and allowances are in the amounts, so what is dear now counts as dear until the end."""
    elapsed, left = now - period.start, period.end - now
    if elapsed < DAY:
        return None, Basis.TOO_EARLY
    if elapsed < WEEK:
        return exact + _share(exact, left, elapsed), Basis.PERIOD_SO_FAR
    return exact + _share(exact - week_ago, left, WEEK), Basis.LAST_WEEK


def _share(amount: Decimal, part: timedelta, whole: timedelta) -> Decimal:
    """An estimate, so the 28 digits of a plain division are enough."""
    second = timedelta(seconds=1)
    return amount * (part // second) / (whole // second)


def _with_charges(
    metered: pricing.Metered, used: Sequence[RatedLine], past: Earlier, expected: Decimal
) -> int:
    """What the period comes to at its end: the expected usage, and the charges on all of it."""
    currency = metered.currency
    minor = money.to_minor(expected, currency)
    rest = RatedLine(
        version="",
        component="expected",
        model="",
        register=MINOR,
        bucket="",
        step=0,
        quantity=minor - printed_minor(used, currency),
        unit_price=money.from_minor(1, currency),
        per=1,
        trace={},
    )
    return minor + printed_minor(metered.charged([*used, rest], past), currency)


def _by_model(lines: Sequence[RatedLine], currency: str) -> list[ModelCost]:
    costs = []
    for model in {line.model for line in lines}:
        of_model = [line for line in lines if line.model == model]
        exact = money.total(line.amount for line in of_model)
        costs.append(ModelCost(model, exact, printed_minor(of_model, currency)))
    return sorted(costs, key=lambda cost: (-cost.amount_exact, cost.model))


def _allowance_row(allowance: Allowance) -> PriceRow:
    return PriceRow(
        component="",
        models=model_words(allowance.models, "any model"),
        registers=_registers(allowance.registers),
        condition=allowance_words(allowance),
        price=Decimal(0),
        per=1,
        text="free",
    )


def component_rows(
    component: RateComponent, terms: Terms, everything: str = "any model"
) -> Iterator[PriceRow]:
    """The prices of one component, with the calendar and in the currency of its terms."""
    for condition, price in _prices(component, terms):
        parts = [condition, *_guards(component)]
        yield PriceRow(
            component=component.code,
            models=model_words(component.models, everything),
            registers=_registers(component.registers),
            condition="; ".join(part for part in parts if part),
            price=price,
            per=component.shape.per,
            text=f"{_amount(price, terms.currency)} per {unit_words(component)}",
        )


def _prices(component: RateComponent, terms: Terms) -> Iterator[tuple[str, Decimal]]:
    match component.shape:
        case Flat(price=price):
            yield "", price
        case Graduated(steps=steps):
            ends = [step.start for step in steps[1:]]
            for step, end in zip(steps, [*ends, None], strict=True):
                yield _step(step.start, end), step.price
        case TimeOfUse(prices=prices):
            for bucket, price in prices:
                yield _bucket(terms, bucket), price
        case Volume(steps=steps):
            ends = [step.start for step in steps[1:]]
            for step, end in zip(steps, [*ends, None], strict=True):
                yield (
                    f"all of it, where a period comes to {size_words(step.start, end)}",
                    step.price,
                )
        case RequestSize(tiers=tiers):
            ends = [tier.start for tier in tiers[1:]]
            for tier, end in zip(tiers, [*ends, None], strict=True):
                yield f"input of the request {size_words(tier.start, end)}", tier.price
        case Package(size=size, price=price):
            yield f"a package of {size:,}, paid whole when it is opened", price
        case PriceSeries(prices=prices):
            yield "by the interval; the last price that is known", _last_known(prices)


def _last_known(prices: Sequence[Decimal | None]) -> Decimal:
    return next(price for price in reversed(prices) if price is not None)


def _step(start: int, end: int | None) -> str:
    if end is None:
        return f"above {start:,} in a billing period" if start else ""
    return f"{start + 1:,} to {end:,} in a billing period"


def _bucket(terms: Terms, bucket: str) -> str:
    """Say when a bucket is, in the calendar's zone; its name alone once there is no calendar."""
    name = bucket.replace("_", "-")
    if terms.calendar is None:
        return name
    zone = terms.calendar.zone.key
    rules = [rule for rule in terms.calendar.rules if rule.bucket == bucket]
    when = "; ".join(
        f"{_weekdays(rule.days)} "
        + ", ".join("-".join(window.as_document()) for window in rule.windows)
        + (", not on holidays" if rule.except_holidays else "")
        for rule in rules
    )
    return f"{name}: {when or 'all other time'} ({zone})"


def _weekdays(days: Sequence[str]) -> str:
    named = [day.capitalize() for day in days]
    if len(days) == 7:
        return "daily"
    return f"{named[0]}-{named[-1]}" if tuple(days) == _WORKDAYS else " ".join(named)


_WORKDAYS = ("mon", "tue", "wed", "thu", "fri")


def discount_sentences(agreement: Agreement) -> list[str]:
    """What is taken off listed prices, one sentence for each discount."""
    return [
        f"{discount.percent.normalize():f}% off the listed price of {_discounted(discount.scope)}."
        for discount in agreement.discounts
    ]


def _discounted(scope: Scope) -> str:
    """In words, what a discount is on."""
    usage = _registers(scope.registers) if scope.registers else "everything"
    parts = [f"{usage} of {model_words(scope.models or ('*',), 'any model')}"]
    if scope.regions is not None:
        parts.append("in " + ", ".join(scope.regions))
    if scope.service_classes is not None:
        parts.append("served as " + ", ".join(scope.service_classes))
    return ", ".join([*parts, *condition_words(scope.when)])


def _guards(component: RateComponent) -> Iterator[str]:
    if component.negotiated:
        yield "negotiated"
    if component.regions is not None:
        yield "in " + ", ".join(component.regions)
    if component.service_classes is not None:
        yield "served as " + ", ".join(component.service_classes)
    yield from condition_words(component.when)


def _registers(registers: Sequence[str]) -> str:
    return ", ".join(readings.register_label(register) for register in registers)


def what_is_priced(component: RateComponent) -> str:
    """The kinds of usage of a component, and what the request must have been."""
    return "; ".join([_registers(component.registers), *_guards(component)])


def unit_words(component: RateComponent) -> str:
    """What a component's price is for: 1M tokens, an image, a package."""
    if isinstance(component.shape, Package):
        return "package"
    unit = readings.unit_label(component.registers[0])
    if component.shape.per == 1:
        return unit
    short = {1_000: "1K", 1_000_000: "1M"}
    many = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
    return f"{short.get(component.shape.per, f'{component.shape.per:,}')} {many}"


def _amount(price: Decimal, currency: str) -> str:
    """A price with all its digits, and at least those of the currency."""
    whole, _, decimals = f"{price:,f}".partition(".")
    decimals = decimals.rstrip("0").ljust(money.minor_digits(currency), "0")
    return f"{whole}.{decimals} {currency}" if decimals else f"{whole} {currency}"
