"""What the open period costs so far, and prices in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import Organization
from billing import catalog, costs, invoicing
from billing.models import Subscription, Tariff
from billing.presets import PRESETS
from tests import build

pytestmark = pytest.mark.django_db

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
MTOK = 1_000_000


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """One dollar per million tokens."""
    return build.make_subscription(organization=acme, starts_at=SEPTEMBER)


def use(organization: Organization, day: int, mtok: int, model: str = "gpt-5") -> None:
    """So many million tokens at noon of a day of September."""
    at = datetime(2026, 9, day, 12, tzinfo=UTC)
    build.make_reading(organization=organization, starts_at=at, quantity=mtok * MTOK, model=model)


def test_without_a_subscription_there_is_no_cost(acme: Organization, now: datetime) -> None:
    assert costs.so_far(acme, now) is None


def test_the_cost_so_far_is_what_the_invoice_would_say_now(
    acme: Organization, subscription: Subscription
) -> None:
    use(acme, 3, 5)
    use(acme, 4, 7, model="kimi-k2")
    cost = costs.so_far(acme, OCTOBER - timedelta(minutes=1))
    assert cost is not None
    assert (cost.period.start, cost.period.end) == (SEPTEMBER, OCTOBER)
    assert (cost.amount_exact, cost.amount_minor, cost.currency) == (Decimal(12), 1200, "USD")
    assert [(one.model, one.amount_minor) for one in cost.by_model] == [
        ("kimi-k2", 700),
        ("gpt-5", 500),
    ]
    (invoice,) = invoicing.close_period(subscription.pk, OCTOBER)
    assert invoice.total_minor == cost.amount_minor


def test_the_next_period_starts_from_nothing(
    acme: Organization, subscription: Subscription
) -> None:
    use(acme, 3, 5)
    cost = costs.so_far(acme, OCTOBER)
    assert cost is not None
    assert (cost.amount_minor, cost.expected_minor) == (0, None)
    assert cost.elapsed == timedelta(0)


EXPECTED = [  # day of September, expected, from what
    (datetime(2026, 9, 1, 23, tzinfo=UTC), None, costs.Basis.TOO_EARLY),
    # 4 dollars in 4 days: 30 in 30 days.
    (datetime(2026, 9, 5, tzinfo=UTC), 3000, costs.Basis.PERIOD_SO_FAR),
    # 1 a day for 10 days, then 3 a day: 10 + 30, and 10 days more at 3.
    (datetime(2026, 9, 21, tzinfo=UTC), 7000, costs.Basis.LAST_WEEK),
]


@pytest.mark.parametrize(("now", "expected", "basis"), EXPECTED)
def test_the_expected_cost_goes_on_as_the_last_week_went(
    acme: Organization,
    subscription: Subscription,
    now: datetime,
    expected: int | None,
    basis: costs.Basis,
) -> None:
    for day in range(1, now.day):
        use(acme, day, 1 if day <= 10 else 3)
    cost = costs.so_far(acme, now)
    assert cost is not None
    assert (cost.expected_minor, cost.basis) == (expected, basis)


def test_elapsed_is_a_share_of_the_period(acme: Organization, subscription: Subscription) -> None:
    cost = costs.so_far(acme, SEPTEMBER + timedelta(days=15))
    assert cost is not None
    assert (cost.elapsed, cost.elapsed_percent) == (timedelta(days=15), 50)


def test_a_price_table_says_steps_in_whole_tokens_and_what_is_free() -> None:
    rows = costs.price_table(PRESETS["standard-usd"].versions[0].document)
    assert (rows[0].models, rows[0].text) == ("any model", "free")
    assert rows[0].condition == "the first 1,000,000 tokens of each billing period"
    plus = [(row.condition, row.text) for row in rows if row.models == "qwen-plus"][:3]
    assert plus == [
        ("1 to 100,000,000 in a billing period", "1.20 USD per 1M tokens"),
        ("100,000,001 to 1,000,000,000 in a billing period", "1.08 USD per 1M tokens"),
        ("above 1,000,000,000 in a billing period", "0.96 USD per 1M tokens"),
    ]
    assert rows[-1].models == "any other model"


def test_any_other_model_is_said_only_where_some_were_priced_before() -> None:
    def models(code: str) -> list[str]:
        return [row.models for row in costs.price_table(PRESETS[code].versions[0].document)]

    assert models("flat-usd") == ["any model", "any model"]
    assert models("standard-usd").count("any other model") == 4


def test_a_price_table_says_peak_hours_in_the_calendars_own_zone() -> None:
    catalog.ensure_presets(SEPTEMBER)
    version = catalog.version_at(Tariff.objects.get(code="deepseek-tou-usd"), OCTOBER)
    assert version is not None
    rows = costs.price_table(catalog.terms_of(version))
    assert [(row.models, row.condition, row.text) for row in rows[:2]] == [
        (
            "deepseek-v4-pro",
            "off-peak: all other time (Asia/Shanghai)",
            "0.022 USD per 1M tokens",
        ),
        (
            "deepseek-v4-pro",
            "peak: Mon-Fri 09:00-12:00, 14:00-18:00, not on holidays (Asia/Shanghai)",
            "0.044 USD per 1M tokens",
        ),
    ]
