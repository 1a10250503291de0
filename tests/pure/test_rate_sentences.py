"""What a buyer reads can be checked by hand, and needs nothing but the line."""

import json
from dataclasses import replace
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from billing.rating.difference import still_owed
from billing.rating.rate import RatedLine, rate, sentences
from tests.pure.tables import rows
from tests.pure.tariffs import BEIJING, MTOK, component, steps, terms, used, whole

FREE = {"code": "welcome", "tokens": 1_000_000, "models": ["*"], "registers": ["output"]}
OF = terms(
    component("plus-in", models=["qwen-plus"], registers=["input"], price="0.40"),
    component(
        "plus-out", registers=["output"], steps=steps((0, "3.00"), (1_000, "2.50"), (5_000, "2"))
    ),
    component("cache_read", prices={"peak": "0.044", "off_peak": "0.022"}),
    component("requests", price="0.01", per=1),
    calendar=BEIJING,
    allowances=[FREE | {"registers": ["reasoning"]}],
)


def read(
    quantity: int, register: str, on: str = "2026-09-24T04:00", model: str = "qwen-plus"
) -> list[list[str]]:
    lines = rate([used(quantity, register, on=on, model=model)], whole(OF))
    return [sentences(line, "USD") for line in lines]


def test_a_line_says_quantity_price_and_amount() -> None:
    ((charge, tariff, when),) = read(12_345, "input")
    assert charge == "12,345 input tokens of qwen-plus at 0.40 USD per million = 0.004938 USD."
    assert tariff == "Tariff version v1, component plus-in."
    assert when == "Used from 2026-09-24 04:00:00 UTC until 2026-09-24 06:00:00 UTC."


def test_a_line_says_when_by_the_clocks_of_a_zone_that_is_asked_for() -> None:
    (line,) = rate([used(12_345, "input", on="2026-09-24T04:00", model="qwen-plus")], whole(OF))
    assert sentences(line, "USD", ZoneInfo("Asia/Kathmandu"))[-1] == (
        "Used from 2026-09-24 09:45 UTC+05:45 until 2026-09-24 11:45 UTC+05:45."
    )


def test_a_line_says_the_bounds_of_its_step() -> None:
    assert [line[2] for line in read(6_000, "output")] == [
        "Step 1 of 3: token 1 to 1,000 of the billing period.",
        "Step 2 of 3: token 1,001 to 5,000 of the billing period.",
        "Step 3 of 3: token 5,001 onwards of the billing period.",
    ]


def test_a_line_says_the_windows_of_its_bucket() -> None:
    ((charge, _, bucket, _),) = read(MTOK, "cache_read", "2026-09-24T01:00")
    assert (
        charge == "1,000,000 cache read tokens of qwen-plus at 0.044 USD per million = 0.044 USD."
    )
    assert bucket == (
        "Time of use peak: Mon Tue Wed Thu Fri 09:00-12:00 and 14:00-18:00 except holidays "
        "(Asia/Shanghai)."
    )
    ((_, _, other, _),) = read(MTOK, "cache_read")
    assert other == "Time of use off peak: all other time (Asia/Shanghai)."


def test_a_line_says_which_allowance_paid() -> None:
    of = terms(component("output", price="1"), allowances=[FREE])
    (line,) = rate([used(5, "output")], whole(of))
    charge, tariff, allowance, _ = sentences(line, "USD")
    assert charge == "5 output tokens of m free, from the allowance welcome."
    assert tariff == "Tariff version v1."
    assert allowance == "The allowance is 1,000,000 tokens in each billing period."


def test_a_line_says_that_nothing_prices_it() -> None:
    ((charge, *_),) = read(5, "audio")
    assert charge == "5 audio tokens of qwen-plus without charge: the tariff has no price for them."


def test_requests_are_counted_each() -> None:
    ((charge, *_),) = read(5, "requests")
    assert charge == "5 requests of qwen-plus at 0.01 USD each = 0.05 USD."


def test_a_correction_says_what_it_corrects() -> None:
    stretches = whole(OF)
    (line,) = still_owed(rate([used(7)], stretches), rate([used(9)], stretches))
    assert sentences(line, "USD")[-1] == "A correction: 7 in all, less 9 on earlier documents."
    assert sentences(line, "USD")[0].startswith("-2 input tokens")


AMOUNTS = """
quantity | price          | per       | currency | ends with
1        | 0.003625       | 1_000_000 | USD      | at 0.003625 USD per million = 0.000000003625 USD.
-5       | 1              | 1         | USD      | at 1.00 USD each = -5.00 USD.
1_234    | 1000.500000000 | 1         | CNY      | at 1,000.50 CNY each = 1,234,617.00 CNY.
3        | 120            | 1_000     | JPY      | at 120 JPY per thousand = 0.36 JPY.
1_000    | 120            | 1_000     | JPY      | at 120 JPY per thousand = 120 JPY.
2        | 0.5            | 10        | KWD      | at 0.500 KWD per 10 = 0.100 KWD.
"""


@pytest.mark.parametrize(("quantity", "price", "per", "currency", "ending"), rows(AMOUNTS))
def test_an_amount_has_all_its_digits_and_at_least_those_of_its_currency(
    quantity: str, price: str, per: str, currency: str, ending: str
) -> None:
    line = RatedLine("v1", "c", "m", "input", "", 0, int(quantity), Decimal(price), int(per), {})
    assert sentences(line, currency)[0].endswith(ending)


def test_a_line_read_back_from_json_says_the_same() -> None:
    usage = [used(6_000, "output"), used(9, "cache_read"), used(4, "reasoning"), used(1, "audio")]
    for line in rate(usage, whole(OF)):
        kept = replace(line, trace=json.loads(json.dumps(line.trace)))
        assert sentences(kept, "USD") == sentences(line, "USD")
