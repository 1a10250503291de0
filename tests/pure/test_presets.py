"""Every preset prices a request as its source says, worked by hand."""

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from billing import carrying
from billing.presets import PRESETS
from billing.rating.bill import bill
from billing.rating.charge import Facts
from billing.rating.period import Period
from billing.rating.rate import PricedTerms, Usage, rate
from billing.rating.tariff import Terms, parse
from tests.pure.tables import at

NOVEMBER = Period(at("2026-11-24"), at("2026-12-01"))
DAY = at("2026-11-25T12:00")


def terms_of(code: str) -> Terms:
    return parse(PRESETS[code].versions[-1].document)


def price(
    code: str, model: str, *, service_class: str = "standard", band: int = 0,
    thinking: bool = False, **quantities: int,
) -> str:  # fmt: skip
    """What one request comes to; every quantity in tokens."""
    period = Period(NOVEMBER.start, NOVEMBER.end)
    from_, until = at("2026-11-25T12:00"), at("2026-11-25T12:15")
    usage = [
        Usage(from_, until, model, register, "", service_class, quantity, band, thinking)
        for register, quantity in quantities.items()
    ]
    lines = rate(usage, [PricedTerms("p@1", period, terms_of(code))])
    assert "unpriced" not in {line.component for line in lines}
    return f"{sum(line.amount for line in lines).normalize():f}"


def test_qwen_in_singapore_by_size_cache_thinking_and_batch() -> None:
    of = "qwen-singapore-usd"
    # 20,000 x 1.2 + 10,000 x 0.24 + 1,000 x 6, a million
    small = {"input": 20_000, "cache_read": 10_000, "output": 1_000}
    assert price(of, "qwen3-max", **small) == "0.0324"
    # the same in a batch: (30,000 x 1.2 + 1,000 x 6) / 2, the cache discount cancelled
    assert price(of, "qwen3-max", service_class="batch", **small) == "0.021"
    assert price(of, "qwen3-max", band=32_000, input=32_001, output=1_000) == "0.0888024"
    assert price(of, "qwen-plus", input=1_000_000, output=1_000_000) == "1.6"
    assert price(of, "qwen-plus", thinking=True, output=400_000, reasoning=600_000) == "4"
    assert price(of, "qwen-flash", band=256_000, input=300_000, output=2_000) == "0.079"


def test_qwen_in_beijing_is_a_book_of_its_own() -> None:
    of = "qwen-beijing-cny"
    assert price(of, "qwen-plus", input=1_000_000, output=1_000_000) == "2.8"
    assert price(of, "qwen-plus", thinking=True, input=1_000_000, output=1_000_000) == "8.8"
    assert price(of, "qwen-flash", band=128_000, cache_read=1_000_000, output=0) == "0.12"


def test_openai_with_cached_input_and_long_requests() -> None:
    # 4,153 x 1.25 + 8,192 x 0.125 + 678 x 10, a million
    usage = {"input": 4_153, "cache_read": 8_192, "output": 678}
    assert price("openai-usd", "gpt-5", **usage) == "0.01299525"
    assert price("openai-usd", "gpt-5", service_class="batch", **usage) == "0.006497625"
    luna = {"input": 300_000, "output": 1_000}
    assert price("openai-usd", "gpt-5.6-luna", band=272_000, **luna) == "0.1218"


def test_anthropic_multiplies_the_batch_with_the_cache() -> None:
    # (1,000 x 3 + 10,000 x 0.3 + 2,000 x 3.75 + 2,000 x 6 + 500 x 15) a million = 0.033
    usage = {
        "input": 1_000, "cache_read": 10_000, "cache_write": 2_000, "cache_write_1h": 2_000,
        "output": 500,
    }  # fmt: skip
    assert price("anthropic-usd", "claude-sonnet-4-6", **usage) == "0.033"
    batch = price("anthropic-usd", "claude-sonnet-4-6", service_class="batch", **usage)
    assert batch == "0.0165"


def test_gemini_doubles_its_input_above_two_hundred_thousand() -> None:
    assert price("gemini-usd", "gemini-2.5-pro", input=200_000, output=1_000) == "0.26"
    long = price("gemini-usd", "gemini-2.5-pro", band=200_000, input=200_001, output=1_000)
    assert long == "0.5150025"


def test_a_plain_tariff_has_two_prices() -> None:
    assert price("flat-usd", "any", input=1_000_000, reasoning=1_000_000) == "2"


def test_an_industrial_bill_is_energy_demand_days_and_the_promise() -> None:
    period = Period(at("2026-11-01"), at("2026-12-01"))
    usage = [
        Usage(DAY, at("2026-11-25T12:15"), "m", "input", "", "standard", 9_600_000),
        Usage(at("2026-11-25T22:00"), at("2026-11-25T22:15"), "m", "input", "", "", 1_000_000),
    ]
    load = {"key": {DAY: 9_600_000}}
    facts = Facts(ZoneInfo("UTC"), load=load, terms_ending=frozenset({"year"}))
    found = bill(usage, [PricedTerms("i@1", period, terms_of("industrial-usd"))], facts)
    # 9.6 x 0.40; 1 x 0.20; 9,600,000 / 15 minutes = 640,000 a minute x 0.90 a thousand;
    # 30 x 1.50; and what 12,000.00 exceed all that
    by_code = {}
    for paper in found.paper:
        code = paper.lines[0].component
        by_code[code] = by_code.get(code, 0) + paper.minor
    assert by_code == {
        "input": 384 + 20,
        "peak-load": 57_600,
        "connection": 4_500,
        "year": 1_200_000 - 404 - 57_600 - 4_500,
    }
    assert found.net_minor == 1_200_000


def test_a_prepaid_tariff_gives_a_million_once() -> None:
    of = [PricedTerms("p@1", NOVEMBER, terms_of("prepaid-usd"))]
    usage = [Usage(DAY, at("2026-11-25T12:15"), "m", "input", "", "", 3_000_000)]
    first = rate(usage, of)
    assert sum(line.amount for line in first) == Decimal(1)
    drained = {("welcome", ""): 1_000_000}
    assert sum(line.amount for line in rate(usage, of, drained=drained)) == Decimal("1.5")


@pytest.mark.parametrize("code", PRESETS)
def test_every_preset_can_be_billed_from_readings(code: str) -> None:
    for version in PRESETS[code].versions:
        assert carrying.refusals(parse(version.document)) == []
