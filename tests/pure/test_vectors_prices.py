"""Worked cases of prices: registers, tiers, discounts and free quota."""

from decimal import Decimal

from billing.rating.events import Event, rate_events
from billing.rating.line import RatedLine
from billing.rating.money import to_minor
from billing.rating.rate import rate
from billing.rating.tariff import Terms
from tests.pure.tables import at
from tests.pure.tariffs import (
    MTOK,
    component,
    costs,
    factor,
    steps,
    terms,
    tiers,
    used,
    whole,
)
from tests.pure.vectors import figure

WHEN = at("2026-09-24T12:30")


def call(
    of: Terms, service_class: str = "standard", model: str = "m", **usage: int
) -> list[RatedLine]:
    """Rate one request."""
    event = Event("e", WHEN, model, usage, service_class=service_class)
    return rate_events([event], whole(of))


def price(of: Terms, service_class: str = "standard", model: str = "m", **usage: int) -> Decimal:
    return costs(call(of, service_class, model, **usage))


def expected(number: int, name: str) -> Decimal:
    return Decimal(figure(number, name))


def classes(**factors: str) -> list[dict]:
    return [
        factor(name, "service_class", of, service_classes=[name]) for name, of in factors.items()
    ]


GPT_5 = terms(
    component("input", price="1.25"),
    component("cache_read", price="0.125"),
    component("output", price="10"),
    modifiers=classes(batch="0.5", flex="0.5", priority="2"),
)


def test_tv_01_two_registers_have_two_prices() -> None:
    lines = call(GPT_5, input=12_345, output=678)
    assert costs(lines) == expected(1, "exact")
    assert to_minor(costs(lines), "USD") == 2
    assert expected(1, "billed_line") == Decimal("0.02")


def test_tv_02_a_cached_token_is_not_also_an_input_token() -> None:
    usage = {"input": 12_345 - 8_192, "cache_read": 8_192, "output": 678}
    for service_class in ("standard", "batch", "flex", "priority"):
        assert price(GPT_5, service_class, **usage) == expected(2, service_class)
    twice = price(GPT_5, input=12_345, cache_read=8_192, output=678)
    assert twice != expected(2, "standard")


QWEN_FLASH = terms(
    component("input", tiers=tiers((0, "0.05"), (256_000, "0.25"))),
    component("output", tiers=tiers((0, "0.4"), (256_000, "2"))),
)


def test_tv_03_the_whole_request_pays_the_tier_it_reaches() -> None:
    assert price(QWEN_FLASH, input=300_000, output=2_000) == expected(3, "amount")
    sliced = terms(
        component("input", steps=steps((0, "0.05"), (256_000, "0.25"))),
        component("output", price="0.4"),
    )
    wrong = price(sliced, input=300_000, output=2_000)
    assert wrong == expected(3, "graduated_wrong")
    assert wrong != expected(3, "amount")


# qwen3-max in Singapore. A cache read is an input token at a fifth, of a batch at half; with
# Alibaba the batch cancels the discount of the cache.
MAX_PARTS = (
    component(
        "input",
        registers=["input", "cache_read", "cache_read_explicit", "cache_write"],
        tiers=tiers((0, "1.2"), (32_000, "2.4"), (128_000, "3")),
    ),
    component(
        "output",
        registers=["output", "reasoning"],
        tiers=tiers((0, "6"), (32_000, "12"), (128_000, "15")),
    ),
)
ALIBABA = [
    factor("batch", "service_class", "0.5", "discounts", service_classes=["batch"]),
    factor("implicit", "token_class", "0.2", "discounts", registers=["cache_read"]),
    factor("explicit", "token_class", "0.1", "discounts", registers=["cache_read_explicit"]),
    factor("create", "token_class", "1.25", "discounts", registers=["cache_write"]),
]
QWEN_MAX = terms(*MAX_PARTS, modifiers=ALIBABA, stacking={"discounts": "exclusive_priority"})


def test_tv_04_a_tier_ends_with_its_upper_bound() -> None:
    assert price(QWEN_MAX, input=32_000, output=1_000) == expected(4, "at_32000")
    assert price(QWEN_MAX, input=32_001, output=1_000) == expected(4, "at_32001")


def test_tv_05_cached_tokens_count_for_the_tier() -> None:
    lines = call(QWEN_MAX, input=10_000, cache_read=30_000, output=500)
    assert costs(lines) == expected(5, "amount")
    assert {line.step for line in lines} == {1}
    first_tier = Decimal("0.0222")  # had only the 10,000 uncached tokens counted
    assert costs(lines) != first_tier


def test_tv_06_thinking_prices_the_whole_output() -> None:
    qwen_plus = terms(
        component("input", price="0.8"),
        component(
            "thinking", registers=["output", "reasoning"], price="8", when={"thinking": True}
        ),
        component("output", registers=["output", "reasoning"], price="2"),
        currency="CNY",
    )
    thought = price(qwen_plus, input=10_000, reasoning=1_000, output=500)
    assert thought == expected(6, "thinking_cny")
    assert thought != expected(6, "split_wrong_cny")
    silent = price(qwen_plus, input=10_000, output=500)
    assert silent == expected(6, "non_thinking_500_out_cny")


def test_tv_07_creating_a_cache_costs_more_and_reading_it_less() -> None:
    create = price(QWEN_MAX, input=5_000, cache_write=15_000, output=300)
    hit = price(QWEN_MAX, input=5_000, cache_read_explicit=15_000, output=300)
    plain = price(QWEN_MAX, input=20_000, output=300)
    assert create == expected(7, "create")
    assert hit == expected(7, "hit")
    assert plain == expected(7, "uncached")
    assert create + hit == expected(7, "two_calls_cached")
    assert plain * 2 == expected(7, "two_calls_uncached")


CLAUDE = terms(
    component(
        "input",
        registers=["input", "cache_read", "cache_write"],
        tiers=tiers((0, "3"), (200_000, "6")),
    ),
    component("output", tiers=tiers((0, "15"), (200_000, "22.5"))),
    modifiers=[
        factor("read", "token_class", "0.1", "all", registers=["cache_read"]),
        factor("write", "token_class", "1.25", "all", registers=["cache_write"]),
        factor("batch", "service_class", "0.5", "all", service_classes=["batch"]),
    ],
    stacking={"all": "multiply"},
)


def test_tv_08_whether_discounts_stack_is_the_providers_policy() -> None:
    cached = {"input": 10_000, "cache_read": 30_000, "output": 500}
    assert price(QWEN_MAX, "batch", **cached) == expected(8, "alibaba_batch")
    both = terms(*MAX_PARTS, modifiers=ALIBABA, stacking={"discounts": "multiply"})
    assert price(both, "batch", **cached) != expected(8, "alibaba_batch")
    long = {"input": 60_000, "cache_read": 150_000, "cache_write": 40_000, "output": 3_000}
    assert price(CLAUDE, **long) == expected(8, "claude_realtime")
    assert price(CLAUDE, "batch", **long) == expected(8, "claude_batch")


def test_tv_09_a_free_quota_drains_input_first_and_leaves_the_tier_alone() -> None:
    quota = {
        "code": "free", "tokens": 1_000_000, "models": ["*"], "registers": ["input", "output"],
        "service_classes": ["standard"], "each_model": True, "once": True,
        "expires": "2026-12-01T00:00:00Z",
    }  # fmt: skip
    of = terms(
        *MAX_PARTS, modifiers=ALIBABA, stacking={"discounts": "multiply"}, allowances=[quota]
    )
    event = Event(
        "e", WHEN, "qwen3-max", {"input": 60_000, "output": 2_000}, service_class="standard"
    )
    lines = rate_events([event], whole(of), drained={("free", "qwen3-max"): 950_000})
    paid = {line.register: line.quantity for line in lines if line.amount}
    assert sum(line.quantity for line in lines if not line.amount) == expected(9, "free_tokens")
    assert paid == {
        "input": int(expected(9, "billed_input")),
        "output": int(expected(9, "billed_output")),
    }
    assert costs(lines) == expected(9, "amount")
    assert to_minor(costs(lines), "USD") == expected(9, "billed_line") * 100
    batch = Event("b", WHEN, "qwen3-max", {"input": 60_000, "output": 2_000}, service_class="batch")
    assert all(line.amount for line in rate_events([batch], whole(of)))  # no free quota in batches


AFTER_MEDIA, AS_AUDIO = {"has": ["media_input"]}, {"has": ["audio_output"]}
OMNI = terms(
    component("text-in", registers=["input"], per=1_000, price="0.0004"),
    component("image-in", registers=["input_image"], per=1_000, price="0.0015"),
    component("as-audio", registers=["output"], per=1_000, price="0", when=AS_AUDIO),
    component("after-media", registers=["output"], per=1_000, price="0.0045", when=AFTER_MEDIA),
    component("text-out", registers=["output"], per=1_000, price="0.0016"),
    component("audio-out", registers=["output_audio"], per=1_000, price="0.05"),
    currency="CNY",
    modifiers=classes(batch="0.5"),
)


def test_tv_10_media_in_and_audio_out_reprice_the_text() -> None:
    usage = {"input": 1_000, "input_image": 1_000, "output": 1_000, "output_audio": 1_000}
    assert price(OMNI, **usage) == expected(10, "cny")
    assert price(OMNI, "batch", **usage) == expected(10, "batch_cny")
    text_only = price(OMNI, input=0, input_image=1_000, output=1_000) - Decimal("0.0015")
    assert text_only == Decimal("0.0045")
    assert price(OMNI, output=1_000) == Decimal("0.0016")


def test_tv_12_a_stock_is_quantity_times_time() -> None:
    gemini = terms(
        component("input", price="1.25"),
        component("cache_read", price="0.125"),
        component("output", price="10"),
        component("cache_token_hours", price="4.50"),
    )
    held = [used(250_000, "cache_token_hours"), used(100_000, "input")]
    calls = [used(1_000_000, "cache_read"), used(5_000, "input"), used(8_000, "output")]
    storage = costs(rate(held[:1], whole(gemini)))
    assert storage == expected(12, "storage_only")
    assert costs(rate(held + calls, whole(gemini))) == expected(12, "amount")


def test_tv_58_a_token_costs_what_it_costs_to_the_last_digit() -> None:
    v4_pro = terms(component("cache_read", price="0.003625"), modifiers=classes(off_peak="0.5"))
    assert price(v4_pro, cache_read=1) == expected(58, "one")
    assert price(v4_pro, "off_peak", cache_read=7) == expected(58, "seven_half")


def test_tv_67_a_batch_can_cost_more_than_a_cached_call() -> None:
    plain = price(QWEN_MAX, input=40_000, output=500)
    cached = price(QWEN_MAX, input=10_000, cache_read=30_000, output=500)
    batch = price(QWEN_MAX, "batch", input=40_000, output=500)
    assert (plain, cached, batch) == (
        expected(67, "standard"),
        expected(67, "cached"),
        expected(67, "batch"),
    )
    assert batch > cached


def test_a_modified_line_says_its_price_before_and_why() -> None:
    (line,) = call(GPT_5, "batch", input=MTOK)
    assert line.unit_price == Decimal("0.625")
    assert line.trace["base_price"] == "1.25"
    assert line.trace["modifiers"] == [{"code": "batch", "kind": "service_class", "factor": "0.5"}]
