"""Usage times tariff: the worked cases of utilities and of AI clouds, to the last digit."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from billing.rating.money import to_minor
from billing.rating.period import Period
from billing.rating.rate import Usage, rate
from tests.pure.tables import at, rows
from tests.pure.tariffs import (
    BEIJING,
    MTOK,
    component,
    costs,
    steps,
    terms,
    used,
    whole,
    written,
)

PRICE = steps((0, "3.00"), (1_000_000, "2.50"))
STEPS = """
tokens    | lines                              | cents
0         |                                    |   0
1_666     | 1_666 @ 3.00                       |   0
1_667     | 1_667 @ 3.00                       |   1
1_000_000 | 1_000_000 @ 3.00                   | 300
1_000_001 | 1_000_000 @ 3.00, 1 @ 2.50         | 300
3_000_000 | 1_000_000 @ 3.00, 2_000_000 @ 2.50 | 800
"""

BLOCKS = steps((0, "2.00"), (100 * MTOK, "1.60"), (500 * MTOK, "1.20"))
BLOCK_TABLE = """
tokens      | amount      | not, were all repriced at the block reached
100_000_000 | 200.00      | 200.00
100_000_001 | 200.0000016 | 160.0000016
120_000_000 | 232.00      | 192.00
600_000_000 | 960.00      | 720.00
"""

# gpt-5 as published: a class of service has its own prices, and is listed first.
GPT_5 = terms(
    component("batch-input", registers=["input"], price="0.625", service_classes=["batch"]),
    component("batch-cache", registers=["cache_read"], price="0.0625", service_classes=["batch"]),
    component("batch-output", registers=["output"], price="5", service_classes=["batch"]),
    component("prio-input", registers=["input"], price="2.50", service_classes=["priority"]),
    component("prio-cache", registers=["cache_read"], price="0.25", service_classes=["priority"]),
    component("prio-output", registers=["output"], price="20", service_classes=["priority"]),
    component("input", price="1.25"),
    component("cache_read", price="0.125"),
    component("output", price="10"),
)
CALLS = """
class    | input  | cache_read | output | amount
standard | 12_345 | 0          | 678    | 0.02221125
standard | 4_153  | 8_192      | 678    | 0.01299525
batch    | 4_153  | 8_192      | 678    | 0.006497625
priority | 4_153  | 8_192      | 678    | 0.0259905
"""

V4_PRO = (
    component("input", prices={"peak": "1.32", "off_peak": "0.66"}),
    component("output", prices={"peak": "3.96", "off_peak": "1.98"}),
)
DEEPSEEK = """
starts                    | amount | because
2026-09-24T09:00:00+08:00 | 1.716  | Thursday, peak
2026-09-24T11:45:00+08:00 | 1.716  | the last quarter-hour
2026-09-24T12:00:00+08:00 | 0.858  | lunch
2026-09-25T10:00:00+08:00 | 0.858  | Mid-Autumn, a Friday
2026-09-26T10:00:00+08:00 | 0.858  | Saturday
2026-09-20T10:00:00+08:00 | 0.858  | a Sunday made a workday is still no Monday
2026-09-28T10:00:00+08:00 | 1.716  | Monday
2026-09-28T01:00:00+00:00 | 1.716  | 09:00 in Beijing
2026-09-28T10:00:00+00:00 | 0.858  | 18:00 in Beijing
"""


UTILITY_DAYS = """
starts                    | ends                      | quarters | amount
2026-03-08T00:00:00-05:00 | 2026-03-09T00:00:00-04:00 | 92       | 31.2
2026-03-09T00:00:00-04:00 | 2026-03-10T00:00:00-04:00 | 96       | 36.8
2026-11-01T00:00:00-04:00 | 2026-11-02T00:00:00-05:00 | 100      | 32.8
2026-11-02T00:00:00-05:00 | 2026-11-03T00:00:00-05:00 | 96       | 36.8
"""
UTILITY = terms(
    component("input", prices={"peak": "6", "shoulder": "4", "off_peak": "2"}),
    calendar={
        "zone": "America/New_York",
        "default": "shoulder",
        "rules": [
            {
                "bucket": "peak",
                "days": ["mon", "tue", "wed", "thu", "fri"],
                "windows": [["14:00", "20:00"]],
            },
            {
                "bucket": "off_peak",
                "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                "windows": [["23:00", "07:00"]],
            },
        ],
    },
)


@pytest.mark.parametrize(("tokens", "lines", "cents"), rows(STEPS))
def test_each_token_pays_the_price_of_its_step(tokens: str, lines: str, cents: str) -> None:
    rated = rate([used(int(tokens))], whole(terms(component("input", steps=PRICE))))
    assert written(rated) == lines
    assert to_minor(costs(rated), "USD") == int(cents)


@pytest.mark.parametrize(("tokens", "amount", "repriced"), rows(BLOCK_TABLE))
def test_a_step_reprices_no_token_below_it(tokens: str, amount: str, repriced: str) -> None:
    rated = rate([used(int(tokens))], whole(terms(component("input", steps=BLOCKS))))
    assert costs(rated) == Decimal(amount)
    assert costs(rated) >= Decimal(repriced)


def test_a_step_is_reached_by_what_the_period_used_before() -> None:
    usage = [used(90 * MTOK, on="2026-09-01T00:00"), used(30 * MTOK, on="2026-09-30T23:45")]
    stretches = whole(terms(component("input", steps=BLOCKS)))
    assert written(rate(usage, stretches)) == "100_000_000 @ 2.00, 20_000_000 @ 1.60"
    assert costs(rate(usage, stretches)) - costs(rate(usage[:1], stretches)) == 52


def test_steps_count_the_component_across_its_models_and_registers() -> None:
    shared = terms(component("all", registers=["input", "output"], steps=PRICE))
    usage = [used(600_000, "output", model="a"), used(600_000, "input", model="b")]
    # In one segment input goes first, for the component names it first.
    assert [(line.register, line.quantity, line.step) for line in rate(usage, whole(shared))] == [
        ("output", 400_000, 0),
        ("output", 200_000, 1),
        ("input", 600_000, 0),
    ]


def test_steps_count_in_time_order() -> None:
    shared = terms(component("all", registers=["input", "output"], steps=PRICE), calendar=BEIJING)
    usage = [
        used(MTOK, "input", on="2026-09-24T04:00"),  # noon in Beijing
        used(MTOK, "output", on="2026-09-24T03:45"),  # just before
    ]
    assert written(rate(usage, whole(shared))) == "1_000_000 @ 2.50, 1_000_000 @ 3.00"


@pytest.mark.parametrize(("service", "plain", "cached", "output", "amount"), rows(CALLS))
def test_registers_are_disjoint_and_a_class_of_service_has_its_own_prices(
    service: str, plain: str, cached: str, output: str, amount: str
) -> None:
    quantities = {"input": int(plain), "cache_read": int(cached), "output": int(output)}
    usage = [
        used(quantity, register, service_class=service) for register, quantity in quantities.items()
    ]
    assert costs(rate(usage, whole(GPT_5))) == Decimal(amount)


def test_one_token_is_charged_exactly() -> None:
    cached = terms(
        component("half", registers=["cache_read"], price="0.0018125", service_classes=["batch"]),
        component("cache_read", price="0.003625"),
    )
    one = rate([used(1, "cache_read")], whole(cached))
    seven_half = rate([used(7, "cache_read", service_class="batch")], whole(cached))
    assert costs(one) == Decimal("0.000000003625")
    assert costs(seven_half) == Decimal("0.0000000126875")


def test_the_finest_price_fits_the_18_decimals_that_amounts_are_kept_with() -> None:
    (line,) = rate([used(1)], whole(terms(component("input", price="0.000000000001"))))
    assert line.amount == Decimal("1E-18")


def test_an_amount_is_exact_beyond_28_digits() -> None:
    stretches = whole(terms(component("input", price="999999999999.123456789012")))
    (line,) = rate([used(2**63 - 1)], stretches)
    exact = Fraction(2**63 - 1) * 999999999999123456789012 / 10**18
    assert Fraction(line.amount) == exact


def test_two_lines_are_equal_whatever_their_traces_say() -> None:
    (line,) = rate([used(1)], whole(terms(component("input", price="1"))))
    assert replace(line, trace={}) == line
    assert replace(line, quantity=2) != line
    assert replace(line, quantity=2).key == line.key != replace(line, step=1).key


@pytest.mark.parametrize(("starts", "amount", "because"), rows(DEEPSEEK))
def test_each_token_pays_the_price_of_its_local_hour(
    starts: str, amount: str, because: str
) -> None:
    usage = [used(MTOK, on=starts), used(100_000, "output", on=starts)]
    rated = rate(usage, whole(terms(*V4_PRO, calendar=BEIJING)))
    assert costs(rated) == Decimal(amount), because


@pytest.mark.parametrize(("starts", "ends", "quarters", "amount"), rows(UTILITY_DAYS))
def test_a_day_of_23_or_25_hours_is_billed_by_its_clock(
    starts: str, ends: str, quarters: str, amount: str
) -> None:
    day = Period(at(starts), at(ends))
    moments = [day.start + number * timedelta(minutes=15) for number in range(int(quarters))]
    usage = [used(100_000, on=moment.isoformat()) for moment in moments]
    assert usage[-1].end == day.end
    assert costs(rate(usage, whole(UTILITY, period=day))) == Decimal(amount)


MATCHES = """
model       | region | class    | component
qwen-plus   | cn     | standard | exact
qwen-plus   | us     | standard | overseas
qwen-plus   | us     | batch    | overseas
qwen-max    | cn     | batch    | family-batch
qwen-max    | cn     | standard | family
qwen-       | cn     | standard | family
qwen        | cn     | standard | unpriced
Qwen-max    | cn     | standard | unpriced
"""
FIRST_OF = terms(
    component(
        "overseas", models=["qwen-plus"], regions=["us", "eu"], registers=["input"], price="3"
    ),
    component("exact", models=["other", "qwen-plus"], registers=["input"], price="1"),
    component(
        "family-batch",
        models=["qwen-*"],
        service_classes=["batch"],
        registers=["input"],
        price="0.5",
    ),
    component("family", models=["qwen-*"], registers=["input"], price="2"),
)


@pytest.mark.parametrize(("model", "region", "service", "expected"), rows(MATCHES))
def test_the_first_component_that_matches_prices_the_usage(
    model: str, region: str, service: str, expected: str
) -> None:
    usage = used(1, model=model, region=region, service_class=service)
    assert [line.component for line in rate([usage], whole(FIRST_OF))] == [expected]


def test_usage_without_a_price_is_reported_and_costs_nothing() -> None:
    (line,) = rate([used(5, "audio")], whole(terms(component("input", price="1"))))
    assert (line.component, line.quantity, line.amount) == ("unpriced", 5, 0)
    assert (line.model, line.register) == ("m", "audio")


def test_requests_are_a_count_and_never_without_a_price() -> None:
    assert rate([used(5, "requests")], whole(terms(component("input", price="1")))) == []


def test_requests_are_priced_where_a_component_names_them() -> None:
    fee = component("requests", models=["m"], price="0.01", per=1)
    (line,) = rate([used(5, "requests"), used(7, "requests", model="n")], whole(terms(fee)))
    assert (line.model, line.quantity, line.amount) == ("m", 5, Decimal("0.05"))


def test_regions_and_classes_under_one_price_are_one_line() -> None:
    usage = [used(3, region="cn"), used(4, region="us"), used(5, service_class="batch")]
    (line,) = rate(usage, whole(terms(component("input", price="1"))))
    assert line.quantity == 12
    assert line.trace["segments"] == 1


def test_only_time_of_use_lines_carry_a_bucket() -> None:
    both = terms(V4_PRO[0], component("output", price="1"), calendar=BEIJING)
    usage = [
        used(1, register, on=on)
        for register in ("input", "output")
        for on in ("2026-09-24T01:00", "2026-09-24T04:00")
    ]
    lines = [(line.register, line.bucket, line.quantity) for line in rate(usage, whole(both))]
    assert lines == [("input", "off_peak", 1), ("input", "peak", 1), ("output", "", 2)]


def test_lines_come_in_the_order_of_the_document() -> None:
    of = terms(
        component("second", registers=["output"], steps=PRICE),
        component("first", registers=["input"], price="1"),
        allowances=[{"code": "free", "tokens": 1, "models": ["*"], "registers": ["input"]}],
    )
    usage = [used(1, "audio"), used(5), used(MTOK + 1, "output")]
    assert [(line.component, line.step) for line in rate(usage, whole(of))] == [
        ("allowance:free", 0),
        ("second", 0),
        ("second", 1),
        ("first", 0),
        ("unpriced", 0),
    ]


@pytest.mark.parametrize("quantity", [-1, True, 1.0, Decimal(1), "1"])
def test_a_quantity_is_a_whole_number_from_zero(quantity: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        used(quantity)  # type: ignore[arg-type]


@pytest.mark.parametrize("on", ["2026-08-31T23:45", "2026-10-01T00:00", "2026-09-30T23:50"])
def test_usage_outside_the_period_is_refused_and_never_lost(on: str) -> None:
    with pytest.raises(ValueError, match="within one segment"):
        rate([used(1, on=on)], whole(terms(component("input", price="1"))))


def test_usage_across_two_buckets_is_refused() -> None:
    morning = Usage(at("2026-09-24T00:45"), at("2026-09-24T01:15"), "m", "input", "", "", 1)
    with pytest.raises(ValueError, match="within one segment"):
        rate([morning], whole(terms(*V4_PRO, calendar=BEIJING)))
