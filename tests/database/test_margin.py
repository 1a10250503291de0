"""Margin: the same readings, once at the tariff's prices and once at the upstream's costs."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from accounts import people
from accounts.models import Organization
from billing import margin, unpriced, upstream
from billing.feeds.listing import Listed, ListedModel, Listing
from billing.models import Subscription
from billing.rating.period import Period
from tests import build

pytestmark = pytest.mark.django_db

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
TENTH = datetime(2026, 11, 10, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MTOK = 1_000_000


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """Acme at 1.00 a million, whatever the model."""
    return build.make_subscription(organization=acme, starts_at=NOVEMBER)


def cost(price: str, at: datetime, register: str = "input") -> None:
    """Let gpt-5, also called gpt-5-chat, cost so much at its upstream."""
    model = ListedModel("up", "gpt-5", aliases=("gpt-5-chat",))
    listed = Listed("up", "gpt-5", register, Decimal(price))
    listing = Listing("list", "1", "d" * 64, (listed,), (model,), ())
    made = upstream.propose(listing, actor=None, now=at)
    who = people.create_verified(f"{at:%d}-{register}@cloud.example", "correct horse", staff=True)
    upstream.approve(list(made.proposals.values_list("pk", flat=True)), actor=who, now=at)


def use(of: Subscription, day: datetime, quantity: int, **what: str) -> None:
    build.make_reading(organization=of.organization, starts_at=day, quantity=quantity, **what)


def test_margin_is_revenue_less_cost_to_the_last_digit(subscription: Subscription) -> None:
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, 3 * MTOK)
    found = margin.of(subscription, Period(NOVEMBER, DECEMBER))
    (row,) = found.models
    assert (row.provider, row.revenue, row.cost, row.percent) == (
        "up", Decimal(3), Decimal("0.75"), 75,
    )  # fmt: skip
    assert (found.revenue, found.cost) == (Decimal(3), Decimal("0.75"))
    assert row.known_since == (NOVEMBER, NOVEMBER)


def test_usage_costs_what_the_upstream_charged_when_it_was_used(
    subscription: Subscription,
) -> None:
    cost("0.25", NOVEMBER)
    cost("0.10", TENTH)
    use(subscription, NOVEMBER, 2 * MTOK)
    use(subscription, TENTH, 5 * MTOK)
    (row,) = margin.of(subscription, Period(NOVEMBER, DECEMBER)).models
    assert row.cost == Decimal("1.00")
    assert row.known_since == (NOVEMBER, TENTH)


def test_an_alias_costs_what_its_model_does(subscription: Subscription) -> None:
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, 4 * MTOK, model="gpt-5-chat")
    (row,) = margin.of(subscription, Period(NOVEMBER, DECEMBER)).models
    assert (row.model, row.cost) == ("gpt-5-chat", Decimal(1))


def test_tokens_without_a_cost_are_counted_and_leave_no_margin(
    subscription: Subscription,
) -> None:
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, MTOK)
    use(subscription, NOVEMBER, 7, register="output")
    found = margin.of(subscription, Period(NOVEMBER, DECEMBER))
    assert [row.uncosted_tokens for row in found.models] == [7]
    assert found.known == []


# usage without a price


def test_usage_without_a_price_is_listed_with_what_may_have_been_meant(
    acme: Organization,
) -> None:
    cost("0.25", NOVEMBER)
    document = build.flat_document()
    (component,) = document["components"]  # type: ignore[misc]
    component |= {"models": ["gpt-5", "qwen-plus"]}
    tariff = build.make_tariff(document=document)
    subscription = build.make_subscription(organization=acme, starts_at=NOVEMBER, tariff=tariff)
    for model, quantity in (("gpt-5-chat", 5), ("qwen-puls", 4), ("zzz", 3), ("gpt-5", 9)):
        use(subscription, TENTH, quantity, model=model)
    rows = unpriced.of(subscription, TENTH)
    assert [(row.model, row.tokens, row.suggestions) for row in rows] == [
        ("gpt-5-chat", 5, ["It is an alias of gpt-5."]),
        ("qwen-puls", 4, ["Did you mean qwen-plus?"]),
        ("zzz", 3, []),
    ]
