"""The first tariffs of every installation: illustrative, for a price is somebody's dated fact.

Published prices were read in October 2026 from the pages named as their sources. Where a book has
no published price for a model, or none in its currency, the figure is made up to be plausible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.presets.preset import MTOK, OUTPUT, Preset, PresetVersion, flat

STANDARD_FROM = datetime(2020, 1, 1, tzinfo=UTC)  # before any usage that could be replayed


@dataclass(frozen=True, slots=True)
class _Prices:
    """Per million tokens: what was read from a cache, what was not, what was written."""

    cache_read: str
    input: str
    output: str
    cache_write: str = ""  # empty: as input

    def components(self, model: str, code: str) -> list[dict[str, object]]:
        return [
            flat(f"{code}-input", model, ("input",), self.input),
            flat(f"{code}-cache-read", model, ("cache_read",), self.cache_read),
            flat(f"{code}-cache-write", model, ("cache_write",), self.cache_write or self.input),
            flat(f"{code}-output", model, OUTPUT, self.output),
        ]


# gpt-5, claude-sonnet-4-5, qwen-plus, qwen-max (as qwen3-max up to 32K), deepseek-r1 and
# deepseek-v4-pro as published; qwen-turbo, kimi-k2 and llama-3.1-70b illustrative.
_USD = {
    "qwen-max": _Prices("0.24", "1.20", "6.00"),
    "qwen-plus": _Prices("0.08", "0.40", "1.20"),
    "qwen-turbo": _Prices("0.01", "0.05", "0.20"),
    "deepseek-r1": _Prices("0.14", "0.55", "2.19"),
    "deepseek-v4-pro": _Prices("0.003625", "0.435", "0.87"),
    "gpt-5": _Prices("0.125", "1.25", "10.00"),
    "claude-sonnet-4-5": _Prices("0.30", "3.00", "15.00", cache_write="3.75"),
    "kimi-k2": _Prices("0.15", "0.60", "2.50"),
    "llama-3.1-70b": _Prices("0.10", "0.40", "0.40"),
}
_OTHER_USD = _Prices("0.125", "0.50", "1.50")
# qwen-plus, qwen-max and deepseek-v4-pro (off-peak) as published; the others illustrative.
_CNY = {
    "qwen-max": _Prices("0.50", "2.50", "10.00"),
    "qwen-plus": _Prices("0.16", "0.80", "2.00"),
    "qwen-turbo": _Prices("0.06", "0.30", "0.60"),
    "deepseek-r1": _Prices("1.00", "4.00", "16.00"),
    "deepseek-v4-pro": _Prices("0.15", "4.50", "13.50"),
    "gpt-5": _Prices("0.90", "9.00", "72.00"),
    "claude-sonnet-4-5": _Prices("2.20", "22.00", "108.00", cache_write="27.50"),
    "kimi-k2": _Prices("1.00", "4.00", "16.00"),
    "llama-3.1-70b": _Prices("0.70", "2.80", "2.80"),
}
_OTHER_CNY = _Prices("0.90", "3.60", "10.80")

DEEPSEEK_PRICES = "https://api-docs.deepseek.com/quick_start/pricing"
DEEPSEEK_PEAK_FROM = datetime(2026, 8, 16, 16, tzinfo=UTC)
# Statutory holidays of 2026 in China; the days that are worked in exchange count as any weekday.
_HOLIDAYS = (
    *(f"2026-01-{day:02}" for day in (1, 2, 3)),
    *(f"2026-02-{day:02}" for day in range(15, 24)),
    *(f"2026-04-{day:02}" for day in (4, 5, 6)),
    *(f"2026-05-{day:02}" for day in range(1, 6)),
    *(f"2026-06-{day:02}" for day in (19, 20, 21)),
    *(f"2026-09-{day:02}" for day in (25, 26, 27)),
    *(f"2026-10-{day:02}" for day in range(1, 8)),
)
_PEAK = {
    "zone": "Asia/Shanghai",
    "default": "off_peak",
    "holidays": list(_HOLIDAYS),
    "rules": [
        {
            "bucket": "peak",
            "days": ["mon", "tue", "wed", "thu", "fri"],
            "except": ["holiday"],
            "windows": [["09:00", "12:00"], ["14:00", "18:00"]],
        }
    ],
}


def _graduated(
    code: str, model: str, registers: Sequence[str], steps: Sequence[tuple[int, str]]
) -> dict[str, object]:
    return {
        "code": code,
        "models": [model],
        "registers": list(registers),
        "shape": "graduated",
        "per": MTOK,
        "steps": [{"from": start, "price": price} for start, price in steps],
    }


def _time_of_use(
    code: str, model: str, registers: Sequence[str], off_peak: str, peak: str
) -> dict[str, object]:
    return {
        "code": code,
        "models": [model],
        "registers": list(registers),
        "shape": "time_of_use",
        "per": MTOK,
        "prices": {"off_peak": off_peak, "peak": peak},
    }


def _standard(
    currency: str,
    prices: Mapping[str, _Prices],
    other: _Prices,
    plus_output: Sequence[tuple[int, str]],
) -> Preset:
    by_volume = _graduated("qwen-plus-output", "qwen-plus", OUTPUT, plus_output)
    components = [by_volume]
    for model, of_model in [*prices.items(), ("*", other)]:
        flat = of_model.components(model, model if model != "*" else "other")
        components += [one for one in flat if one["code"] != by_volume["code"]]
    registers = ["input", "cache_read", "cache_write", "output", "reasoning"]
    document = {
        "currency": currency,
        "allowances": [
            {"code": "free-monthly", "tokens": MTOK, "models": ["*"], "registers": registers}
        ],
        "components": components,
    }
    return Preset(
        name=f"Standard ({currency})",
        currency=currency,
        description=(
            "Illustrative. A price per model and kind of token, one price that falls with volume "
            "(output of qwen-plus), the first million tokens of each billing period free, and a "
            "price for any other model."
        ),
        versions=(PresetVersion(STANDARD_FROM, None, document),),
    )


def _deepseek() -> Preset:
    flat: list[dict[str, object]] = [
        *_Prices("0.003625", "0.435", "0.87").components("deepseek-v4-pro", "v4-pro"),
        *_Prices("0.0028", "0.14", "0.28").components("deepseek-v4-flash", "v4-flash"),
    ]
    read, missed = ("cache_read",), ("input", "cache_write")
    by_time = [
        _time_of_use("v4-pro-cache-hit", "deepseek-v4-pro", read, "0.022", "0.044"),
        _time_of_use("v4-pro-cache-miss", "deepseek-v4-pro", missed, "0.66", "1.32"),
        _time_of_use("v4-pro-output", "deepseek-v4-pro", OUTPUT, "1.98", "3.96"),
        _time_of_use("v4-flash-cache-hit", "deepseek-v4-flash", read, "0.007", "0.014"),
        _time_of_use("v4-flash-cache-miss", "deepseek-v4-flash", missed, "0.22", "0.44"),
        _time_of_use("v4-flash-output", "deepseek-v4-flash", OUTPUT, "0.66", "1.32"),
    ]
    return Preset(
        name="DeepSeek, time of use (USD)",
        currency="USD",
        description=(
            "Illustrative. DeepSeek's own prices for v4-pro and v4-flash as published: one price "
            "until 2026-08-16 16:00 UTC; since then twice the price on weekdays 09:00-12:00 and "
            "14:00-18:00 Beijing time, except statutory holidays. Other models are not priced."
        ),
        versions=(
            PresetVersion(
                datetime(2026, 1, 1, tzinfo=UTC),
                DEEPSEEK_PEAK_FROM,
                {"currency": "USD", "components": flat},
                DEEPSEEK_PRICES,
            ),
            PresetVersion(
                DEEPSEEK_PEAK_FROM,
                None,
                {"currency": "USD", "calendar": _PEAK, "components": by_time},
                DEEPSEEK_PRICES,
            ),
        ),
    )


STANDARD: Mapping[str, Preset] = {
    "standard-usd": _standard(
        "USD", _USD, _OTHER_USD, [(0, "1.20"), (100 * MTOK, "1.08"), (1_000 * MTOK, "0.96")]
    ),
    # No conversion: a book of its own that happens to show the same figures.
    "standard-eur": _standard(
        "EUR", _USD, _OTHER_USD, [(0, "1.20"), (100 * MTOK, "1.08"), (1_000 * MTOK, "0.96")]
    ),
    "standard-cny": _standard(
        "CNY", _CNY, _OTHER_CNY, [(0, "2.00"), (100 * MTOK, "1.80"), (1_000 * MTOK, "1.60")]
    ),
    "deepseek-tou-usd": _deepseek(),
}
