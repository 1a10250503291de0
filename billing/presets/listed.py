"""List prices of providers, by model, with where and when they were read.

Qwen in Singapore: LiteLLM's catalogue of 2025-09 to 2026; in Beijing: help.aliyun.com, read in
October 2026. A cache hit is a fifth of the input; a batch, at half, cancels it. OpenAI, Anthropic
and Gemini: genai-prices 0.2.3 with the pages it names, read on 2026-11-24. Sizes are decimal: 32K
is 32,000.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from billing.presets.preset import (
    INPUT,
    OUTPUT,
    Preset,
    PresetVersion,
    by_size,
    factor,
    flat,
)

HELD_FROM = datetime(2026, 11, 24, tzinfo=UTC)
QWEN_SINGAPORE = "https://github.com/BerriAI/litellm"
QWEN_BEIJING = "https://help.aliyun.com/zh/model-studio/models"
OPENAI = "https://developers.openai.com/api/docs/pricing"
ANTHROPIC = "https://www.anthropic.com/pricing#api"
GEMINI = "https://ai.google.dev/gemini-api/docs/pricing"

_Tiers = Sequence[tuple[int, str]]
_BATCH = factor("batch", "service_class", "0.5", service_classes=["batch"])
# With Alibaba one discount applies and no other: a batch cancels that of the cache.
_ALIBABA = [
    factor("batch", "service_class", "0.5", group="discounts", service_classes=["batch"]),
    factor("cache-hit", "token_class", "0.2", group="discounts", registers=["cache_read"]),
]


def _qwen(
    model: str, sizes: Sequence[int], prices: Sequence[Sequence[str]]
) -> list[dict[str, object]]:
    """One model: prices of input, output and, where it differs, output of requests that think."""
    tiers: list[_Tiers] = [list(zip(sizes, of, strict=True)) for of in prices]
    components = [by_size(f"{model}-input", model, INPUT, tiers[0])]
    if len(tiers) > 2:
        components.append(by_size(f"{model}-thinking", model, OUTPUT, tiers[2], thinking=True))
    return [*components, by_size(f"{model}-output", model, OUTPUT, tiers[1])]


_SINGAPORE = [
    *_qwen("qwen3-max", (0, 32_000, 128_000), (("1.2", "2.4", "3"), ("6", "12", "15"))),
    *_qwen("qwen-plus", (0, 256_000), (("0.4", "1.2"), ("1.2", "3.6"), ("4", "12"))),
    *_qwen("qwen3.5-plus", (0, 256_000), (("0.4", "0.5"), ("2.4", "3"))),
    *_qwen("qwen-flash", (0, 256_000), (("0.05", "0.25"), ("0.4", "2"))),
    *_qwen(
        "qwen3-coder-plus",
        (0, 32_000, 128_000, 256_000),
        (("1", "1.8", "3", "6"), ("5", "9", "15", "60")),
    ),
]
_BEIJING = [
    *_qwen(
        "qwen-plus",
        (0, 128_000, 256_000),
        (("0.8", "2.4", "4.8"), ("2", "20", "48"), ("8", "24", "64")),
    ),
    *_qwen("qwen-flash", (0, 128_000, 256_000), (("0.2", "0.6", "1.2"), ("1.5", "6", "12"))),
]


def _alibaba(currency: str, components: Sequence[object]) -> dict[str, object]:
    return {
        "currency": currency,
        "components": list(components),
        "modifiers": _ALIBABA,
        "stacking": {"discounts": "exclusive_priority"},
    }


def _long(model: str, above: int, prices: Mapping[str, tuple[str, str]]) -> list[dict[str, object]]:
    """A model whose prices change once with the size of the request: by register, short, long."""
    return [
        by_size(
            f"{model}-{register}",
            model,
            OUTPUT if register == "output" else [register],
            [(0, short), (above, long)],
        )
        for register, (short, long) in prices.items()
    ]


_OPENAI = [
    flat("gpt-5-input", "gpt-5", ["input", "cache_write"], "1.25"),
    flat("gpt-5-cache-read", "gpt-5", ["cache_read"], "0.125"),
    flat("gpt-5-output", "gpt-5", OUTPUT, "10"),
    *_long(
        "gpt-5.6-luna",
        272_000,
        {
            "input": ("0.2", "0.4"),
            "cache_read": ("0.02", "0.04"),
            "cache_write": ("0.25", "0.5"),
            "output": ("1.2", "1.8"),
        },
    ),
]
_ANTHROPIC = [
    flat("sonnet-input", "claude-sonnet-4-6", ["input"], "3"),
    flat("sonnet-cache-read", "claude-sonnet-4-6", ["cache_read"], "0.3"),
    flat("sonnet-cache-write", "claude-sonnet-4-6", ["cache_write"], "3.75"),
    flat("sonnet-cache-write-1h", "claude-sonnet-4-6", ["cache_write_1h"], "6"),
    flat("sonnet-output", "claude-sonnet-4-6", OUTPUT, "15"),
]
_GEMINI = [
    *_long(
        "gemini-2.5-pro",
        200_000,
        {
            "input": ("1.25", "2.5"),
            "cache_read": ("0.125", "0.25"),
            "output": ("10", "15"),
        },
    ),
]


def _preset(name: str, document: dict[str, object], source: str, read: str, says: str) -> Preset:
    return Preset(
        name=name,
        currency=str(document["currency"]),
        description=f"Illustrative. {says} {read}.",
        versions=(PresetVersion(HELD_FROM, None, document, source),),
    )


def _batched(components: Sequence[object]) -> dict[str, object]:
    return {"currency": "USD", "components": list(components), "modifiers": [_BATCH]}


LISTED: Mapping[str, Preset] = {
    "qwen-singapore-usd": _preset(
        "Qwen, Singapore (USD)",
        _alibaba("USD", _SINGAPORE),
        QWEN_SINGAPORE,
        "As in LiteLLM's catalogue of 2025-09 to 2026",
        "Five Qwen models by the size of the request; qwen-plus dearer where it thinks; a cache "
        "hit is a fifth of the input, a batch half of everything and no cache discount.",
    ),
    "qwen-beijing-cny": _preset(
        "Qwen, Beijing (CNY)",
        _alibaba("CNY", _BEIJING),
        QWEN_BEIJING,
        "As published, read in October 2026",
        "qwen-plus and qwen-flash in the book of mainland China, with the same rules.",
    ),
    "openai-usd": _preset(
        "OpenAI (USD)",
        _batched(_OPENAI),
        OPENAI,
        "As in genai-prices, read on 2026-11-24",
        "gpt-5, and gpt-5.6-luna with its price for requests above 272,000; a batch at half.",
    ),
    "anthropic-usd": _preset(
        "Anthropic (USD)",
        _batched(_ANTHROPIC),
        ANTHROPIC,
        "As in genai-prices, read on 2026-11-24",
        "claude-sonnet-4-6 with cache reads and writes; a batch at half, on top of them.",
    ),
    "gemini-usd": _preset(
        "Gemini (USD)",
        {"currency": "USD", "components": _GEMINI},
        GEMINI,
        "As in genai-prices, read on 2026-11-24",
        "gemini-2.5-pro with its price for requests above 200,000.",
    ),
}
