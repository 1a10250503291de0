"""The oracle: what stands on invoices is the pure rating of the raw events, to the last digit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count, product
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing import catalog, invoicing, upstream
from billing.drafting import billed
from billing.feeds.listing import Listed, ListedModel, Listing
from billing.lines import rated
from billing.models import Invoice, ProviderCost, Subscription
from billing.rating.bill import add_load, charged
from billing.rating.charge import Facts, UpstreamCost
from billing.rating.event import Event
from billing.rating.events import rate_events
from billing.rating.line import ALLOWANCE, LineKey, RatedLine
from billing.rating.money import round_half_up
from billing.rating.paper import printed_minor
from billing.rating.period import Period
from billing.rating.rate import PricedTerms
from billing.rating.tariff import parse
from metering.usage.event import UsageEvent
from tests import build
from tests.meter import apply_all, database, empty, empty_meter, store_events
from tests.pure.tariffs import BEIJING, component, factor, steps, tiers

__all__ = ["database", "empty_meter"]

pytestmark = pytest.mark.usefixtures("empty_meter")

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
PERIODS = (Period(SEPTEMBER, OCTOBER), Period(OCTOBER, NOVEMBER))
CHANGE = datetime(2026, 9, 24, 5, 30, tzinfo=UTC)  # the second version, within a peak of Beijing
# Few instants, models and quantities, so that steps, grants and segments are crossed again.
INSTANTS = [
    moment + offset
    for moment in (SEPTEMBER, CHANGE - timedelta(minutes=15), CHANGE, OCTOBER, NOVEMBER)
    for offset in (timedelta(0), timedelta(minutes=7), timedelta(hours=3, seconds=-1))
    if moment + offset < NOVEMBER
]
SERIES = {
    "start": "2026-09-24T00:00:00Z",
    "step_minutes": 360,
    "prices": ["1", None, "-0.5", "2", None],
}
RISING = steps((0, "3"), (30_000, "2.5"), (90_000, "2.1"))
TIERS = tiers((0, "1"), (16_000, "2"), (32_000, "3.1"))
OWN_TIERS = tiers((0, "1.1"), (998, "2.3"), (16_500, "2.9"))  # the meter knows of no such sizes
# The first that matches prices: what asks for more stands before what takes all.
COMPONENTS = [
    component("spot", models=["spot"], registers=["input"], series=SERIES),
    component("long", registers=["input"], price="3", when={"input_above": 16_000}),
    component("thought", registers=["output", "reasoning"], price="8", when={"thinking": True}),
    component("seen", registers=["output"], price="5", when={"has": ["media_input"]}),
    component("steps", models=["plus"], registers=["output", "input"], steps=RISING),
    component("middle", registers=["output"], price="7", when={"input_above": 8_500}),
    component("own-sizes", registers=["output", "input"], tiers=OWN_TIERS),
    component("sizes", registers=["input", "output"], tiers=TIERS),
    component("hours", registers=["input"], prices={"peak": "2", "off_peak": "1"}),
    component("packs", registers=["input"], size=7_000, price="0.7", per=1),
    component("whole", registers=["input", "output"], shape="volume", steps=RISING),
    component("media", registers=["input_image", "output_audio"], price="6"),
    component("calls", registers=["requests"], price="0.03", per=1_000),
    component("all", registers=["output", "input", "cache_read", "reasoning"], price="1.0001"),
]
PLACES = [part["code"] for part in COMPONENTS]
MODIFIERS = [
    factor("batch", "service_class", "0.5", "all", service_classes=["batch"]),
    factor("cached", "token_class", "0.2", "all", registers=["cache_read"]),
    factor("big", "negotiated", "0.9", when={"input_above": 32_000}),
]
FREE = {"models": ["*"], "registers": ["input", "output"]}
ALLOWANCES = [
    FREE | {"code": "monthly", "tokens": 9_000},
    FREE | {"code": "welcome", "tokens": 50_000, "once": True},
    FREE | {"code": "each", "tokens": 20_000, "once": True, "each_model": True},
    FREE | {"code": "part", "tokens": 11_000, "prorate": True},
]
CHARGES = [
    {"code": "plan", "kind": "standing", "each": "day", "price": "1.5"},
    {"code": "rent", "kind": "standing", "each": "period", "price": "10"},
    {"code": "support", "kind": "fee", "percent": "5.5", "free_requests": 2},
    {"code": "wire", "kind": "fee", "price": "0.3"},
    {"code": "least", "kind": "minimum", "amount": "60"},
    {"code": "peak", "kind": "demand", "price": "0.9", "window_minutes": 30, "step_minutes": 15},
    {"code": "burst", "kind": "demand", "price": "0.9", "window_minutes": 1},
    {
        "code": "slide",
        "kind": "demand",
        "price": "0.9",
        "window_minutes": 9,
        "step_minutes": 2,
        "basis": "each_meter",
    },
    {"code": "keys", "kind": "demand", "price": "0.9", "window_minutes": 15, "basis": "each_meter"},
    {"code": "pair", "kind": "commitment", "amount": "150", "months": 2},
    {"code": "cost", "kind": "pass_through", "models": ["*"], "markup_percent": "12.5"},
    {"code": "cost-of-plus", "kind": "pass_through", "models": ["pl*"], "markup_percent": "0"},
]
REGISTERS = ["input", "cache_read", "output", "reasoning", "input_image", "output_audio"]
# What the upstream takes for a million, before and after an instant, of small and large requests.
DEARER = datetime(2026, 9, 24, 6, 0, tzinfo=UTC)
UPSTREAM = {
    (is_later, above): Decimal(f"0.{place}37")
    for place, (is_later, above) in enumerate(product((False, True), (0, 16_384)), start=1)
}


def some(pool: list[dict[str, Any]], most: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.sampled_from(pool), max_size=most, unique_by=itemgetter("code"))


def in_place(components: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(components, key=lambda part: PLACES.index(part["code"]))


documents = st.builds(
    lambda components, modifiers, allowances, charges: {
        "currency": "USD",
        "calendar": BEIJING,
        "allowances": allowances,
        "components": components,
        "modifiers": modifiers,
        "stacking": {"all": "multiply"} if modifiers else {},
        "charges": charges,
    },
    some(COMPONENTS, 6).filter(bool).map(in_place),
    st.sampled_from([[], MODIFIERS]),
    some(ALLOWANCES, 3),
    some(CHARGES, 4),
).map(lambda document: {name: value for name, value in document.items() if value})
events = st.lists(
    st.builds(
        lambda at, model, key, service_class, usage: UsageEvent(
            "", "oracle", at, model, usage, api_key=key, service_class=service_class
        ),
        st.sampled_from(INSTANTS),
        st.sampled_from(["plus", "spot"]),
        st.sampled_from([None, "one", "two"]),
        st.sampled_from([None, "batch"]),
        st.dictionaries(
            st.sampled_from(REGISTERS),
            st.sampled_from([1, 999, 8_000, 16_000, 16_001, 33_000]),
            min_size=2,
        ),
    ),
    min_size=2,
    max_size=12,
)
numbers = count(1)
# Whatever chance leaves out: usage passed on at cost, of requests of both sizes, in both months.
AT_COST = {
    "currency": "USD",
    "calendar": BEIJING,
    "components": [component("own-sizes", registers=["output", "input"], tiers=OWN_TIERS)],
    "charges": CHARGES[-2:],
}
PASSED_ON = [
    UsageEvent("", "oracle", at, model, {"input": size, "output": 999}, api_key="one")
    for at in INSTANTS
    for model, size in (("plus", 16_000), ("plus", 33_000), ("spot", 33_000))
]
# And peaks within quarter-hours: usage of every second minute, more and more of it.
FINE = {**AT_COST, "charges": [one for one in CHARGES if one["code"] in {"burst", "slide"}]}
COARSE = {**AT_COST, "charges": [one for one in CHARGES if one["code"] == "keys"]}
BURSTS = [
    UsageEvent("", "oracle", start + timedelta(minutes=minute, seconds=59), "plus",
               {"input": 100 * minute + number}, api_key=key)
    for number, start in enumerate((SEPTEMBER, CHANGE + timedelta(days=3), OCTOBER))
    for minute in range(0, 40, 2)
    for key in ("one", None)
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Oracle:
    """Periods rated from events by the engine alone."""

    code: str
    first: dict[str, Any]
    second: dict[str, Any]
    events: list[Event]

    def lines(self) -> list[list[RatedLine]]:
        drained: Counter[tuple[str, str]] = Counter()
        found: list[list[RatedLine]] = []
        for period in PERIODS:
            stretches = self._stretches(period)
            inside = [event for event in self.events if event.occurred_at in period]
            lines = rate_events(inside, stretches, drained=drained)
            spent = sum(printed_minor(before, "USD") for before in found)
            lines += charged(lines, stretches, self._facts(period, inside, spent))
            for line in lines:
                if line.component == ALLOWANCE + "welcome":
                    drained["welcome", ""] += line.quantity
                if line.component == ALLOWANCE + "each":
                    drained["each", line.model] += line.quantity
            found.append(lines)
        return found

    def _stretches(self, period: Period) -> list[PricedTerms]:
        first, second = parse(self.first), parse(self.second)
        if CHANGE not in period:
            return [PricedTerms(f"{self.code}@2", period, second)]
        return [
            PricedTerms(f"{self.code}@1", Period(period.start, CHANGE), first),
            PricedTerms(f"{self.code}@2", Period(CHANGE, period.end), second),
        ]

    def _facts(self, period: Period, inside: list[Event], spent_minor: int) -> Facts:
        load: dict[str, dict[datetime, int]] = {}
        for event in inside:
            add_load(load, event)
        return Facts(
            zone=ZoneInfo("UTC"),
            whole=period,
            load=load,
            provider_costs=self._costs(period, inside),
            requests=len(inside),
            spent_before_minor={"pair": spent_minor},
            terms_ending=frozenset({"pair"} if period == PERIODS[1] else ()),
        )

    def _costs(
        self, period: Period, inside: list[Event]
    ) -> dict[datetime, dict[str, UpstreamCost]]:
        """Event by event, at the price of its instant and size; rounded once, to millionths."""
        found: dict[datetime, dict[str, UpstreamCost]] = {}
        for stretch in self._stretches(period):
            micros: Counter[str] = Counter()
            for event in inside:
                if event.occurred_at in stretch.period:
                    large = 16_384 if event.input_tokens > 16_384 else 0
                    price = UPSTREAM[event.occurred_at >= DEARER, large]
                    micros[event.model] += Fraction(price) * sum(event.usage.values())
            found[stretch.period.start] = {
                model: UpstreamCost(round_half_up(Fraction(cost))) for model, cost in micros.items()
            }
        return found


def buy_upstream() -> None:
    """Both models at the prices above, each register alike."""
    for is_later, starts_at in ((False, SEPTEMBER), (True, DEARER)):
        prices = tuple(
            Listed("up", model, register, UPSTREAM[is_later, above], above, starts_at)
            for model in ("plus", "spot")
            for register in REGISTERS
            for above in (0, 16_384)
        )
        models = tuple(ListedModel("up", model) for model in ("plus", "spot"))
        made = upstream.propose(
            Listing("list", "1", "d" * 64, prices, models, ()), actor=None, now=starts_at
        )
        who = build.make_user(email=f"buyer-{starts_at:%d}@cloud.example")
        upstream.approve(made.proposals.values_list("pk", flat=True), actor=who, now=starts_at)


def quantities(lines: list[RatedLine]) -> dict[LineKey, int]:
    total: Counter[LineKey] = Counter()
    for line in lines:
        total[line.key] += line.quantity
    return {key: quantity for key, quantity in total.items() if quantity}


def to_event(reported: UsageEvent) -> Event:
    return Event(
        id=reported.id,
        occurred_at=reported.occurred_at,
        model=reported.model,
        usage=reported.usage,
        service_class=reported.service_class or "",
        meter=reported.api_key or "",
    )


def subscribed(organization: Organization, first: dict[str, Any]) -> Subscription:
    tariff = build.make_tariff(
        code=organization.slug, document=first, valid_from=SEPTEMBER - timedelta(days=1)
    )
    return build.make_subscription(organization=organization, starts_at=SEPTEMBER, tariff=tariff)


def on_documents(subscription: Subscription) -> list[dict[LineKey, int]]:
    return [quantities(lines) for lines in billed([(subscription, period) for period in PERIODS])]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents, documents, events, st.integers(0, 12), st.integers(0, 12))
@example(AT_COST, AT_COST, PASSED_ON, 10, 25)
@example(FINE, FINE, BURSTS, 10, 90)
@example(COARSE, FINE, BURSTS, 50, 90)
@example(FINE, COARSE, BURSTS, 50, 90)
def test_invoices_are_the_rating_of_the_events_to_the_last_digit(
    database: psycopg.Connection[Any],
    first: dict[str, Any],
    second: dict[str, Any],
    reported: list[UsageEvent],
    early: int,
    late: int,
) -> None:
    """Some events come before the second version is published, which may tell requests apart that
    the readings did not; some after September's close: differences on October's invoice."""
    empty()
    if not ProviderCost.objects.exists():
        buy_upstream()
    reported = [one._replace(id=f"e{number}") for number, one in enumerate(reported)]
    slug = f"oracle-{next(numbers)}"
    organization = build.make_organization(name=slug, slug=slug)
    subscription = subscribed(organization, first)
    oracle = Oracle(slug, first, second, [to_event(one) for one in reported])
    early = min(early, late)
    store_in_turn(database, organization, reported[:early])
    catalog.publish_approved(subscription.tariff, second, CHANGE, SEPTEMBER, correcting=False)
    store_in_turn(database, organization, reported[early:late])
    (september,) = invoicing.close_period(subscription.pk, OCTOBER)
    store_in_turn(database, organization, reported[late:])
    (october,) = invoicing.close_period(subscription.pk, NOVEMBER)

    expected = oracle.lines()
    assert on_documents(subscription) == [quantities(lines) for lines in expected]
    if all(one.occurred_at >= OCTOBER for one in reported[late:]):
        assert [september.total_minor, october.total_minor] == [
            printed_minor(lines, "USD") for lines in expected
        ]
    void_and_again(subscription, october)


def void_and_again(subscription: Subscription, october: Invoice) -> None:
    """A document taken back is written again, line by line the same."""
    before = [rated(line) for line in october.lines.order_by("position")]
    invoicing.void(october, "wrong address", NOVEMBER)
    (again,) = invoicing.close_period(subscription.pk, NOVEMBER)
    assert [rated(line) for line in again.lines.order_by("position")] == before
    assert (again.total_minor, again.replaces_id) == (october.total_minor, october.pk)


def store_in_turn(
    database: psycopg.Connection[Any], organization: Organization, reported: list[UsageEvent]
) -> None:
    if reported:
        store_events(database, organization, reported)
    apply_all()
