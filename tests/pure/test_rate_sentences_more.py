"""What a buyer reads about tiers, blocks, discounts, free quotas and charges."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from billing.rating.bill import bill
from billing.rating.charge import Facts
from billing.rating.events import Event, rate_events
from billing.rating.rate import rate, sentences
from billing.rating.tariff import Terms
from tests.pure.tables import at
from tests.pure.tariffs import MTOK, component, factor, steps, terms, tiers, used, whole


def of_call(of: Terms, service_class: str = "", **usage: int) -> list[list[str]]:
    event = Event("e", at("2026-09-24T12:30"), "m", usage, service_class=service_class)
    return [sentences(line, "USD") for line in rate_events([event], whole(of))]


def test_a_tier_is_said_by_the_size_of_the_input() -> None:
    of = terms(component("input", tiers=tiers((0, "1"), (32_000, "2"), (128_000, "3"))))
    said = [of_call(of, input=size)[0][2] for size in (32_000, 32_001, 200_000)]
    assert said == [
        "Tier 1 of 3: requests whose input was 1 to 32,000 tokens, cached ones included.",
        "Tier 2 of 3: requests whose input was 32,001 to 128,000 tokens, cached ones included.",
        "Tier 3 of 3: requests whose input was above 128,000 tokens, cached ones included.",
    ]


def test_a_volume_step_is_said_for_the_whole_period() -> None:
    blocks = steps((0, "2.00"), (100 * MTOK, "1.60"))
    of = terms(component("input", steps=blocks, shape="volume"))
    assert of_call(of, input=120 * MTOK)[0][2] == (
        "Step 2 of 2: the whole billing period comes to 100,000,001 or more, and every token pays "
        "its price."
    )


def test_a_discount_is_said_with_the_price_before() -> None:
    of = terms(
        component("input", registers=["input", "cache_read"], price="2.40"),
        modifiers=[
            factor("cached", "token_class", "0.1", registers=["cache_read"]),
            factor("batch", "service_class", "0.5", service_classes=["batch"]),
        ],
    )
    charge, _, why, _ = of_call(of, "batch", cache_read=MTOK)[0]
    assert charge == "1,000,000 cache read tokens of m at 0.12 USD per million = 0.12 USD."
    assert why == "The price is 2.40 USD x 0.1 (cached), x 0.5 (batch)."


def test_a_condition_is_said_as_what_the_request_was() -> None:
    when = {"thinking": True, "input_above": 1_000, "lacks": ["media_input"]}
    of = terms(component("thinking", registers=["output"], price="8", when=when))
    assert of_call(of, input=2_000, reasoning=5, output=7)[0][0].startswith("7 output tokens")
    lines = of_call(of, input=2_000, reasoning=5, output=7)
    assert (
        "For requests with an input above 1,000 tokens and reasoning and no media input."
        in (lines[0])
    )


def test_packages_and_prices_of_an_interval_are_said() -> None:
    packs = terms(component("input", size=MTOK, price="3.00", per=1))
    contents, pack = of_call(packs, input=2_300_000)
    assert pack[0] == "3 packages of m at 3.00 USD each = 9.00 USD."
    assert contents[2] == "Sold in packages of 1,000,000; one that is opened is paid whole."
    series = {"start": "2026-09-24T12:30:00Z", "step_minutes": 30, "prices": ["3.10"]}
    spot = terms(component("input", series=series))
    assert "The price of its interval of 30 minutes." in of_call(spot, input=MTOK)[0]
    (late,) = rate([used(1, on="2026-09-24T13:00")], whole(spot))
    assert "The price is not published yet: the last one known stands in for it." in sentences(
        late, "USD"
    )


def test_a_free_quota_says_whose_it_is_and_until_when() -> None:
    quota = {
        "code": "free",
        "tokens": 1_000_000,
        "models": ["*"],
        "registers": ["input"],
        "each_model": True,
        "once": True,
        "expires": "2026-12-01T00:00:00Z",
    }
    of = terms(component("input", price="1"), allowances=[quota])
    assert of_call(of, input=5)[0][2] == (
        "The allowance is 1,000,000 tokens for each model once, until 2026-12-01 00:00:00 UTC."
    )


CHARGES: list[dict[str, Any]] = [
    {
        "code": "peak",
        "kind": "demand",
        "price": "0.90",
        "window_minutes": 15,
        "minimum_tpm": 500_000,
        "ratchet": {"percent": 80, "months": 11},
    },
    {"code": "plan", "kind": "standing", "each": "day", "price": "1.50"},
    {"code": "cost", "kind": "pass_through", "models": ["*"], "markup_percent": "20"},
    {"code": "service", "kind": "fee", "percent": "5", "of": ["plan"]},
    {"code": "least", "kind": "minimum", "amount": "1000.00"},
    {
        "code": "cache",
        "kind": "ladder",
        "standard": "0.90",
        "down": [{"to": "0.70", "percent": "0.5"}],
    },
    {"code": "year", "kind": "commitment", "amount": "12000"},
]


@pytest.mark.parametrize(
    ("basis", "said"),
    [
        (
            {},
            (
                "Demand: the highest mean of 2 minutes was 35 tokens a minute; billed 35. "
                "That window began at 2026-09-02 07:17 UTC+08:00."
            ),
        ),
        (
            {"basis": "coincident"},
            (
                "Demand: the mean of the 2 minutes of the whole system's peak was 15 tokens a "
                "minute; billed 15. That window began at 2026-09-02 07:16 UTC+08:00."
            ),
        ),
        (
            {"basis": "each_meter"},
            "Demand: the highest mean of 2 minutes was 40 tokens a minute; billed 40.",
        ),
    ],
    ids=["account", "coincident", "each_meter"],
)
def test_a_demand_says_when_its_window_began(basis: dict[str, str], said: str) -> None:
    """The sum of each key's own peak has no window of its own."""
    charge = {
        "code": "peak", "kind": "demand", "price": "1", "window_minutes": 2, "step_minutes": 1,
    }  # fmt: skip
    of = terms(component("input", price="1"), charges=[charge | basis])
    start = datetime(2026, 9, 1, 23, 16, tzinfo=UTC)
    loads = {
        "one": {start: 10, start + timedelta(minutes=1): 20},
        "two": {start + timedelta(minutes=2): 50},
    }
    facts = Facts(ZoneInfo("UTC"), load=loads, system_peaks={"peak": start})
    (line,) = bill([], whole(of), facts).lines
    assert " ".join(sentences(line, "USD", ZoneInfo("Asia/Shanghai"))[2:]) == said


def test_a_charge_says_the_numbers_it_follows_from() -> None:
    of = terms(component("input", price="1"), charges=CHARGES)
    facts = Facts(
        ZoneInfo("UTC"),
        peaks_before={"peak": [980_000]},
        provider_cost_micros={"m": 1_000_000},
        occupancy=Decimal("0.85"),
        terms_ending=frozenset({"year"}),
        spent_before_minor={"year": 900_000},
    )
    said = {line.component: sentences(line, "USD") for line in bill([], whole(of), facts).lines}
    assert [(text[0], text[2]) for text in said.values()] == [
        (
            "784,000 tokens a minute at 0.90 USD per thousand = 705.60 USD.",
            (
                "Demand: the highest mean of 15 minutes was 0 tokens a minute; earlier peaks set "
                "a floor of 784,000; the least is 500,000; billed 784,000."
            ),
        ),
        (
            "30 local days at 1.50 USD each = 45.00 USD.",
            "30 of the billing period's 30 local days.",
        ),
        (
            "1,000,000 millionths of the provider's cost of m at 1.20 USD per million = 1.20 USD.",
            "The provider's cost with a markup of 20%.",
        ),
        ("Fee: 2.25 USD.", "A fee of 5% of 45.00 USD."),
        (
            "Minimum: 245.95 USD.",
            "The billing period costs at least 1,000.00 USD; its other lines come to 754.05 USD.",
        ),
        ("Ladder: 17.67 USD.", "A factor of 0.85 is worth 2.5% of 706.80 USD."),
        (
            "Commitment: 1,982.33 USD.",
            "12,000.00 USD were promised for the term; 10,017.67 USD were spent.",
        ),
    ]
    assert said["plan"][1] == "Tariff version v1, component plan."
