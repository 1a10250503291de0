"""Allowances drain before anything is priced, in an order nobody can argue about."""

from decimal import Decimal

import pytest

from billing.rating.rate import rate
from tests.pure.tariffs import BEIJING, MTOK, component, costs, steps, terms, used, whole

PRICES = (component("input", price="2.4"), component("output", price="12"))


def allowance(tokens: int, code: str = "free", **fields: list[str]) -> dict[str, object]:
    return {
        "code": code,
        "tokens": tokens,
        "models": ["*"],
        "registers": ["input", "output"],
        **fields,
    }


def free(lines: list) -> list[tuple[str, str, int]]:
    return [(line.component, line.register, line.quantity) for line in lines if not line.amount]


def test_an_allowance_drains_the_registers_in_the_order_given() -> None:
    usage = [used(2_000, "output"), used(60_000, "input")]
    input_first = rate(usage, whole(terms(*PRICES, allowances=[allowance(50_000)])))
    assert free(input_first) == [("allowance:free", "input", 50_000)]
    assert costs(input_first) == Decimal("0.048")  # 10,000 of input and all 2,000 of output
    reverse = allowance(50_000, registers=["output", "input"])
    output_first = rate(usage, whole(terms(*PRICES, allowances=[reverse])))
    assert free(output_first) == [
        ("allowance:free", "input", 48_000),
        ("allowance:free", "output", 2_000),
    ]


def test_an_allowance_drains_in_time_order() -> None:
    peak_is_dear = component("input", prices={"peak": "2", "off_peak": "1"})
    usage = [
        used(100, on="2026-09-24T04:00"),  # noon in Beijing, off-peak, later
        used(100, on="2026-09-24T03:45"),  # peak, earlier
    ]
    of = terms(peak_is_dear, calendar=BEIJING, allowances=[allowance(150)])
    lines = rate(usage, whole(of))
    assert [(line.bucket, line.quantity) for line in lines] == [("", 150), ("off_peak", 50)]


def test_allowances_drain_one_after_the_other() -> None:
    both = [allowance(30, "first"), allowance(100, "second", registers=["input"])]
    lines = rate([used(60), used(5, "output")], whole(terms(*PRICES, allowances=both)))
    assert free(lines) == [("allowance:first", "input", 30), ("allowance:second", "input", 30)]
    assert costs(lines) == Decimal("0.00006")


def test_an_allowance_keeps_to_its_models() -> None:
    of = terms(*PRICES, allowances=[allowance(100, models=["qwen-*"])])
    lines = rate([used(10, model="qwen-max"), used(10, model="other")], whole(of))
    assert [(line.component, line.model) for line in lines] == [
        ("allowance:free", "qwen-max"),
        ("input", "other"),
    ]


def test_drained_tokens_do_not_climb_the_steps() -> None:
    stepped = component("input", steps=steps((0, "3"), (100, "2")))
    lines = rate([used(250)], whole(terms(stepped, allowances=[allowance(100)])))
    assert [(line.component, line.step, line.quantity) for line in lines] == [
        ("allowance:free", 0, 100),
        ("input", 0, 100),
        ("input", 1, 50),
    ]


def test_an_allowance_does_not_hide_usage_that_has_no_price() -> None:
    of = terms(*PRICES, allowances=[allowance(100, registers=["audio", "input"])])
    assert free(rate([used(10, "audio"), used(200)], whole(of))) == [
        ("allowance:free", "input", 100),
        ("unpriced", "audio", 10),
    ]


@pytest.mark.parametrize("quantity", [MTOK - 1, MTOK, MTOK + 1])
def test_an_allowance_ends_exactly(quantity: int) -> None:
    lines = rate([used(quantity)], whole(terms(*PRICES, allowances=[allowance(MTOK)])))
    paid = sum(line.quantity for line in lines if line.component == "input")
    assert paid == max(0, quantity - MTOK)
