"""The tariff in words, and what a request would cost, by the rating that makes invoices."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization, User
from billing import catalog, negotiations, quoting
from billing.models import Tariff
from billing.rating import money
from tests import build
from tests.conftest import NOW
from tests.web.portal_acme import OCTOBER, at_now, signed_in, text_of

__all__ = ["at_now"]
pytestmark = pytest.mark.usefixtures("at_now")
TARIFF = "/o/acme/tariff/"

DOCUMENT: dict[str, object] = {
    "currency": "USD",
    "calendar": {
        "zone": "Asia/Shanghai",
        "default": "off_peak",
        "rules": [
            {
                "bucket": "peak",
                "days": ["mon", "tue", "wed", "thu", "fri"],
                "windows": [["09:00", "12:00"], ["14:00", "18:00"]],
            }
        ],
    },
    "allowances": [
        {"code": "hello", "tokens": 1_000_000, "models": ["small"], "registers": ["input"]}
    ],
    "components": [
        {
            "code": "deep", "models": ["deep-*"], "registers": ["input"], "per": 1_000_000,
            "shape": "time_of_use", "prices": {"peak": "0.87", "off_peak": "0.435"},
        },
        {
            "code": "small", "models": ["small"], "registers": ["input"], "per": 1_000_000,
            "shape": "graduated",
            "steps": [{"from": 0, "price": "2"}, {"from": 5_000_000, "price": "1.50"}],
        },
        {
            "code": "out", "models": ["deep-*", "small"], "registers": ["output"],
            "per": 1_000_000, "shape": "flat", "price": "6",
        },
    ],
}  # fmt: skip


@pytest.fixture
def tariff(acme: Organization) -> Tariff:
    tariff = build.make_tariff(code="cloud", document=DOCUMENT)
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)
    return tariff


def test_a_buyer_reads_prices_steps_times_and_what_is_free(tariff: Tariff, bob: User) -> None:
    page = text_of(signed_in(bob), TARIFF)
    assert "Free are the first 1,000,000 tokens of each billing period, for small." in page
    assert "It is peak now; off-peak begins Nov 18, 2026, 18:00 there." not in page
    # 10:07 UTC is 18:07 in Shanghai: the afternoon's peak is just over.
    assert "It is off-peak now; peak begins Nov 19, 2026, 09:00 there." in page
    assert "Each token pays the price of the step it falls in" in page
    assert "Input peak: Mon-Fri 09:00-12:00, 14:00-18:00 (Asia/Shanghai) $0.87 per 1M" in page
    assert "Input 1 to 5,000,000 in a billing period $2.00 per 1M tokens" in page
    assert "Input above 5,000,000 in a billing period $1.50 per 1M tokens" in page
    assert "This week" in page


def test_the_strip_of_the_week_can_be_heard(tariff: Tariff, bob: User) -> None:
    html = signed_in(bob).get(TARIFF).content.decode()
    heard = (
        "off-peak 00:00 to 09:00; peak 09:00 to 12:00; off-peak 12:00 to 14:00; "
        "peak 14:00 to 18:00; off-peak 18:00 to 24:00"
    )
    assert html.count(f'aria-label="{heard}"') == 5
    assert html.count('aria-label="off-peak 00:00 to 24:00"') == 2


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("model=deep-r1&input=2000&output=500&at=2026-11-18T02:00", "$0.00474 1,000"),
        ("model=deep-r1&input=2000&output=500&at=2026-11-18T10:30", "$0.00387 1,000"),
        ("model=small&input=1000000", "$2.00 1,000"),
        ("model=small&input=6000000", "$11.50 1,000"),
    ],
)
def test_a_request_costs_what_an_invoice_would_say(
    tariff: Tariff, bob: User, query: str, answer: str
) -> None:
    """Acme's zone is UTC: 02:00 there is 10:00 in Shanghai, peak; 10:30 is 18:30, off-peak."""
    for path in (f"{TARIFF}?{query}", f"{TARIFF}cost/?{query}"):
        page = text_of(signed_in(bob), path)
        assert answer in page
        assert "such requests" in page


def test_usage_without_a_price_says_so(tariff: Tariff, bob: User) -> None:
    page = text_of(signed_in(bob), f"{TARIFF}cost/?model=unheard-of&input=5")
    assert "The tariff has no price for some of this" in page


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("input=5", "Model: This field is required."),
        ("model=small&input=-5", "Input: Ensure this value is greater than or equal to 0."),
        ("model=small&input=1.5", "Input: Enter a whole number."),
        ("model=small&at=whenever", "Local time: Enter a valid date/time."),
        ("model=small&input=5&at=1999-01-01T00:00", "No tariff version is in force then."),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    tariff: Tariff, bob: User, query: str, complaint: str
) -> None:
    assert complaint in text_of(signed_in(bob), f"{TARIFF}cost/?{query}")


def test_announced_prices_show_only_what_changes(tariff: Tariff, bob: User) -> None:
    later = {**DOCUMENT, "components": [dict(part) for part in DOCUMENT["components"]]}  # type: ignore[attr-defined]
    later["components"][2]["price"] = "7"
    catalog.add_version(tariff, later, datetime(2027, 1, 1, tzinfo=UTC), NOW)
    page = text_of(signed_in(bob), TARIFF)
    announced = page[page.index("From Jan 1, 2027, 00:00") :]
    assert "Output always $7.00 per 1M tokens" in announced
    assert "$0.87" not in announced


def test_without_a_tariff_the_page_says_whom_to_ask(acme: Organization, bob: User) -> None:
    assert "No tariff yet" in text_of(signed_in(bob), TARIFF)


def test_prices_that_are_not_yet_valid_are_no_prices(acme: Organization, bob: User) -> None:
    tariff = build.make_tariff(valid_from=NOW.replace(minute=0, second=0) + timedelta(days=3))
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)
    assert "has no prices now" in text_of(signed_in(bob), TARIFF)


@pytest.mark.parametrize("at", ["0001-01-01T00:00", "9999-12-31T23:59"])
def test_no_cost_is_asked_for_at_the_ends_of_the_calendar(
    acme: Organization, alice: User, at: str
) -> None:
    build.make_subscription(organization=acme, starts_at=OCTOBER)
    path = f"{TARIFF}cost/?model=gpt-5&input=5&at={at}"
    assert "Ensure this value is" in text_of(signed_in(alice), path)


def test_an_organization_sees_the_prices_it_negotiated(alice: User, tariff: Tariff) -> None:
    (subscription,) = tariff.subscriptions.all()
    ours = {"code": "ours", "models": ["small"], "registers": ["input"], "shape": "flat"}
    negotiations.agree(
        subscription,
        {
            "components": [{**ours, "per": 1_000_000, "price": "1.25"}],
            "discounts": [{"code": "out", "registers": ["output"], "percent": "50"}],
        },
        OCTOBER,
        NOW,
        reference="Letter of May",
        correcting=True,
    )
    page = text_of(signed_in(alice), TARIFF)
    assert "You negotiated terms of your own (Letter of May)" in page
    assert "50% off the listed price of Output of any model." in page
    assert "negotiated:out" not in page
    assert "New: 50% off the listed price of Output of any model." in page
    assert "New: Input of small: 1.25 USD per 1M tokens." in page
    asked = f"{TARIFF}?model=small&input=1000000&output=1000000"
    assert "4.25" in text_of(signed_in(alice), asked)


def test_an_allowance_for_all_models_is_not_read_as_one_for_each(
    acme: Organization, bob: User
) -> None:
    allowance = {"code": "hello", "tokens": 1_000_000, "models": ["*"], "registers": ["input"]}
    tariff = build.make_tariff(code="shared", document={**DOCUMENT, "allowances": [allowance]})
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)
    page = text_of(signed_in(bob), TARIFF)
    assert "the first 1,000,000 tokens of each billing period, for all models together." in page


def test_what_changed_in_the_prices_is_listed_from_when(alice: User, tariff: Tariff) -> None:
    later = copy.deepcopy(DOCUMENT)
    later["components"][2]["price"] = "7.50"  # type: ignore[index]
    version = catalog.correct(tariff, later, NOW.replace(day=2, hour=0, minute=0, second=0), NOW)
    page = text_of(signed_in(alice), TARIFF)
    said = "Output of deep-…, small: 6.00 USD becomes 7.50 USD per 1M tokens (+25.0%)."
    assert f"From Nov 2, 2026, 00:00 (UTC) in force {version} Published Nov 18, 2026" in page
    assert said in page
    assert "over cloud@1 Your prices began with this version." in page


def test_a_version_to_come_is_listed_as_announced(alice: User, tariff: Tariff) -> None:
    later = copy.deepcopy(DOCUMENT)
    later["components"][2]["price"] = "7"  # type: ignore[index]
    catalog.add_version(tariff, later, datetime(2027, 1, 1, tzinfo=UTC), NOW)
    page = text_of(signed_in(alice), TARIFF)
    assert "From Jan 1, 2027, 00:00 (UTC) announced cloud@2 Output of deep-…, small: 6.00" in page


def test_a_version_that_was_over_before_the_subscription_began_is_not_listed(
    acme: Organization, alice: User
) -> None:
    tariff = build.make_tariff(code="old")
    catalog.add_version(tariff, build.flat_document(price="2"), OCTOBER - timedelta(days=9), NOW)
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)
    page = text_of(signed_in(alice), TARIFF)
    assert "old@1" not in page
    assert "in force old@2 Your prices began with this version." in page


def test_the_calculator_knows_the_tier_of_the_whole_request_and_every_factor(
    acme: Organization, alice: User
) -> None:
    """40,000 tokens of input, cached ones included, are above 32,000: all of them at that tier."""
    tiers = [{"above": 0, "price": "1"}, {"above": 32_000, "price": "2"}]
    component = {"code": "in", "models": ["*"], "registers": ["input", "cache_read"]}
    document = {
        "currency": "USD",
        "components": [{**component, "shape": "request_size", "per": 10**6, "tiers": tiers}],
        "modifiers": [
            {
                "code": "batch",
                "kind": "service_class",
                "service_classes": ["batch"],
                "factor": "0.5",
            }
        ],
        "charges": [{"code": "plan", "kind": "standing", "each": "day", "price": "1.5"}],
    }
    tariff = build.make_tariff(document=document)
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)
    asked = "?model=m&input=10000&cache_read=30000&output=0&service_class=batch"
    page = text_of(signed_in(alice), f"{TARIFF}{asked}")
    assert "$0.04 1,000 such requests: $40.00" in page
    assert "30,000 at $1.00 per 1,000,000: tier 2 of 2, 2 listed, x 0.5 (batch) $0.03" in page
    assert "Standing charge (plan): 1.50 USD for each local day." in page
    assert "x 0.5 for what is served as batch (batch)." in page


def test_each_version_is_told_beside_the_one_that_ends_where_it_begins(
    alice: User, tariff: Tariff
) -> None:
    """A correction before an announced version is what that one will change from."""
    announced, correction = copy.deepcopy(DOCUMENT), copy.deepcopy(DOCUMENT)
    announced["components"][2]["price"] = "7"  # type: ignore[index]
    correction["components"][2]["price"] = "5"  # type: ignore[index]
    catalog.add_version(tariff, announced, datetime(2027, 1, 1, tzinfo=UTC), NOW)
    catalog.correct(tariff, correction, NOW.replace(day=2, hour=0, minute=0, second=0), NOW)
    page = text_of(signed_in(alice), TARIFF)
    versions = page[page.index("What changed from which instant") :]
    assert "cloud@2 Output of deep-…, small: 5.00 USD becomes 7.00 USD" in versions
    assert "small: 6.00 USD becomes 5.00 USD" in versions
    assert versions.count("Your prices began") == 1


FULL: dict[str, object] = {
    **DOCUMENT,
    "components": [
        *DOCUMENT["components"],  # type: ignore[misc]
        {
            "code": "sized", "models": ["sized"], "registers": ["input", "cache_read"],
            "per": 1_000_000, "shape": "request_size",
            "tiers": [{"above": 0, "price": "1"}, {"above": 32_000, "price": "2"}],
        },
        {
            "code": "thinking", "models": ["sized"], "registers": ["output", "reasoning"],
            "when": {"thinking": True}, "per": 1_000, "shape": "flat", "price": "0.04",
        },
        {
            "code": "packs", "models": ["packed"], "registers": ["input"], "per": 1,
            "shape": "package", "size": 1_000, "price": "0.5",
        },
    ],
    "modifiers": [
        {"code": "batch", "kind": "service_class", "service_classes": ["batch"], "factor": "0.5"}
    ],
    "charges": [{"code": "plan", "kind": "standing", "each": "day", "price": "1.5"}],
}  # fmt: skip


@pytest.mark.parametrize("model", ["deep-r1", "small", "sized", "packed", "unheard-of"])
@pytest.mark.parametrize(
    "usage",
    [
        {"input": 2_000, "output": 500},
        {"input": 6_000_000},
        {"input": 10_000, "cache_read": 22_000, "output": 7},
        {"input": 10_000, "cache_read": 22_001, "output": 7, "reasoning": 3},
    ],
)
@pytest.mark.parametrize("at", ["2026-11-18T02:00", "2026-11-18T10:30"])
@pytest.mark.parametrize("service_class", ["", "batch"])
def test_the_page_and_the_api_answer_alike(
    acme: Organization, alice: User, model: str, usage: dict[str, int], at: str, service_class: str
) -> None:
    tariff = build.make_tariff(code="full", document=FULL)
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)
    asked = {"model": model, "usage": usage, "occurred_at": f"{at}:00Z"}
    body = asked | ({"service_class": service_class} if service_class else {})
    quoted = quoting.quote(acme, body, NOW)
    shown = signed_in(alice).get(
        f"{TARIFF}cost/", {"model": model, **usage, "service_class": service_class, "at": at}
    )
    result = shown.context["result"]
    assert [(line.key[1:], line.quantity) for _, line, _ in result.lines] == [
        (line.key[1:], line.quantity) for line in quoted.bill.lines
    ]
    assert result.amount == money.total(line.amount for line in quoted.bill.lines)


def test_the_page_asks_no_more_for_more_versions(alice: User, tariff: Tariff) -> None:
    client, (subscription,) = signed_in(alice), tariff.subscriptions.all()

    def publish(month: int) -> None:
        document = copy.deepcopy(DOCUMENT)
        document["components"][2]["price"] = f"{month}.5"  # type: ignore[index]
        start = datetime(2027, month, 1, tzinfo=UTC)
        catalog.add_version(tariff, document, start, NOW)
        discount = {"discounts": [{"code": "out", "percent": f"{month}"}]}
        negotiations.agree(subscription, discount, start, NOW, reference="x")

    def questions() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert client.get(TARIFF).status_code == 200
        return len(asked)

    publish(1)
    questions()  # fills the caches
    few = questions()
    for month in range(2, 7):
        publish(month)
    assert questions() == few
