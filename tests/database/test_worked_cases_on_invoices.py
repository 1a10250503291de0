"""Worked cases from events through readings onto an issued invoice: what one request was."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from accounts.models import Organization
from billing import invoicing
from billing.models import InvoiceLine
from billing.rating.money import total
from billing.rating.period import Period
from console import reconciling
from metering import readings
from metering.usage.event import UsageEvent
from tests import build
from tests.meter import apply_all, database, empty_meter, store_events
from tests.pure.tariffs import component, factor, tiers
from tests.pure.vectors import figure

__all__ = ["database", "empty_meter"]

pytestmark = pytest.mark.usefixtures("empty_meter")

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
WHEN = datetime(2026, 9, 24, 12, 30, tzinfo=UTC)
ids = count(1)

QWEN_MAX: dict[str, Any] = {
    "currency": "USD",
    "components": [
        component(
            "input",
            registers=["input", "cache_read"],
            tiers=tiers((0, "1.2"), (32_000, "2.4"), (128_000, "3")),
        ),
        component(
            "output",
            registers=["output", "reasoning"],
            tiers=tiers((0, "6"), (32_000, "12"), (128_000, "15")),
        ),
    ],
    "modifiers": [factor("cached", "token_class", "0.2", registers=["cache_read"])],
}
QWEN_PLUS: dict[str, Any] = {
    "currency": "USD",
    "components": [
        component("input", price="0.8"),
        component(
            "thinking", registers=["output", "reasoning"], price="8", when={"thinking": True}
        ),
        component("output", registers=["output", "reasoning"], price="2"),
    ],
}
SPEAKING: dict[str, Any] = {
    "currency": "USD",
    "components": [
        component("heard", registers=["input"], price="3", when={"has": ["media_input"]}),
        component("read", registers=["input"], price="1"),
        component("audio", registers=["input_audio"], price="9"),
    ],
}
CASES = [
    (QWEN_MAX, [{"input": 32_000, "output": 1_000}], figure(4, "at_32000")),
    (QWEN_MAX, [{"input": 32_001, "output": 1_000}], figure(4, "at_32001")),
    (QWEN_MAX, [{"input": 10_000, "cache_read": 30_000, "output": 500}], figure(5, "amount")),
    # Each request by itself: two of 20,000 are not one of 40,000.
    (QWEN_MAX, [{"input": 20_000}, {"input": 20_000}, {"input": 40_000}], "0.144"),
    (QWEN_PLUS, [{"input": 10_000, "reasoning": 1_000, "output": 500}], figure(6, "thinking_cny")),
    (QWEN_PLUS, [{"input": 10_000, "output": 500}], figure(6, "non_thinking_500_out_cny")),
    (SPEAKING, [{"input": 1_000, "input_audio": 100}, {"input": 1_000}], "0.0049"),
]


def reported(usage: dict[str, int]) -> UsageEvent:
    return UsageEvent(f"e-{next(ids)}", "cases", WHEN, "m", usage)


def billed(organization: Organization) -> Decimal:
    lines = InvoiceLine.objects.filter(invoice__organization=organization, invoice__status="issued")
    return total(line.amount_exact for line in lines)


@pytest.mark.parametrize(("document", "requests", "amount"), CASES)
def test_a_request_is_billed_as_what_it_was(
    database: psycopg.Connection[Any],
    acme: Organization,
    document: dict[str, Any],
    requests: list[dict[str, int]],
    amount: str,
) -> None:
    """On time; again, late, as a difference; and the same once more after a void."""
    tariff = build.make_tariff(document=document)
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER, tariff=tariff)
    store_events(database, acme, [reported(usage) for usage in requests])
    apply_all()
    (september,) = invoicing.close_period(subscription.pk, OCTOBER)
    assert billed(acme) == Decimal(amount)
    store_events(database, acme, [reported(usage) for usage in requests])
    apply_all()
    invoicing.close_period(subscription.pk, NOVEMBER)
    assert billed(acme) == 2 * Decimal(amount)
    invoicing.void(september, "wrong address", NOVEMBER)
    invoicing.close_period(subscription.pk, NOVEMBER)
    assert billed(acme) == 2 * Decimal(amount)


def test_the_books_balance_beside_charges_and_packages(
    database: psycopg.Connection[Any], acme: Organization
) -> None:
    """Days, money and opened packages stand on lines, and no event is of them."""
    document = {
        "currency": "USD",
        "components": [component("input", size=7_000, price="0.7", per=1)],
        "charges": [
            {"code": "plan", "kind": "standing", "each": "day", "price": "1.5"},
            {"code": "least", "kind": "minimum", "amount": "60"},
        ],
    }
    tariff = build.make_tariff(document=document)
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER, tariff=tariff)
    store_events(database, acme, [reported({"input": 10_000})])
    apply_all()
    (invoice,) = invoicing.close_period(subscription.pk, OCTOBER)
    assert invoice.total_minor == 6_000
    periods = [(subscription, Period(SEPTEMBER, OCTOBER))]
    books = reconciling.books_of(acme, periods, source="cases", now=OCTOBER)
    assert (books.faults, books.invoiced["input"]) == ([], 10_000)
    assert books.registers() == ["input", "requests"]


def test_the_reference_lists_the_sizes_that_readings_tell_apart() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/tariff.md").read_text()
    *most, last = (f"{size:,}" for size in readings.input_limits())
    assert f"{', '.join(most)} and {last}." in " ".join(page.split())
