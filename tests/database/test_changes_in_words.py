"""What changed in prices, as a buyer reads it."""

from __future__ import annotations

from typing import Any

import pytest

from billing.changes_in_words import sentences
from billing.rating.negotiated import parse_agreement
from billing.rating.tariff import Terms, parse

MTOK = 1_000_000


def one(code: str = "in", **fields: Any) -> dict[str, object]:
    usual = {"code": code, "models": ["qwen-*"], "registers": ["input"], "per": MTOK}
    return usual | {"shape": "flat", "price": "0.40"} | fields


def by_steps(*pairs: tuple[int, str]) -> dict[str, object]:
    steps = [{"from": start, "price": price} for start, price in pairs]
    fields = {name: value for name, value in one().items() if name != "price"}
    return fields | {"shape": "graduated", "steps": steps}


def by_hour(**prices: str) -> dict[str, object]:
    fields = {name: value for name, value in one().items() if name != "price"}
    return fields | {"shape": "time_of_use", "prices": prices}


def terms(*components: dict[str, object], **fields: Any) -> Terms:
    return parse({"currency": "USD", "components": list(components)} | fields)


CALENDAR = {
    "zone": "UTC",
    "default": "off_peak",
    "rules": [{"bucket": "peak", "days": ["mon"], "windows": [["09:00", "12:00"]]}],
}
FREE = {"code": "hello", "tokens": 1_000, "models": ["*"], "registers": ["input"]}
BATCH = {"code": "batch", "kind": "service_class", "service_classes": ["batch"], "factor": "0.5"}
DAILY = {"code": "plan", "kind": "standing", "each": "day", "price": "1.5"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            terms(one()),
            terms(one(price="0.5")),
            ["Input of qwen-…: 0.40 USD becomes 0.50 USD per 1M tokens (+25.0%)."],
        ),
        (
            terms(one()),
            terms(one(price="0.0005", per=1_000)),
            [
                "Input of qwen-…, per: 1,000,000 becomes 1,000.",
                (
                    "Input of qwen-…: 0.40 USD per 1M tokens becomes 0.0005 USD per 1K tokens "
                    "(+25.0%)."
                ),
            ],
        ),
        (
            terms(by_steps((0, "2"), (100, "1"))),
            terms(by_steps((0, "2"), (100, "1.5"))),
            ["Input of qwen-…, from 100: 1.00 USD becomes 1.50 USD per 1M tokens (+50.0%)."],
        ),
        (
            terms(by_steps((0, "2"), (100, "1"))),
            terms(by_steps((0, "2"), (500, "1"))),
            [
                "Input of qwen-…, from 500: new, 1.00 USD per 1M tokens.",
                "Input of qwen-…, from 100: gone, 1.00 USD per 1M tokens.",
            ],
        ),
        (
            terms(by_hour(peak="2", off_peak="1"), calendar=CALENDAR),
            terms(by_hour(peak="2", off_peak="0"), calendar=CALENDAR),
            ["Input of qwen-…, off-peak: 1.00 USD becomes 0.00 USD per 1M tokens (-100.0%)."],
        ),
        (
            terms(one()),
            terms(one(), one("out", registers=["output"], models=["*"])),
            ["New: Output of any model: 0.40 USD per 1M tokens."],
        ),
        (
            terms(one(), by_steps((0, "2"), (100, "1")) | {"code": "blocks"}),
            terms(one()),
            [
                (
                    "Gone: Input of qwen-…: 2.00 USD per 1M tokens (1 to 100 in a billing period), "
                    "1.00 USD per 1M tokens (above 100 in a billing period)."
                )
            ],
        ),
        (
            terms(one()),
            terms(one(models=["qwen-*", "qwq"])),
            ["Input of qwen-…, qwq, models: qwq added."],
        ),
        (
            terms(one()),
            terms(one(), allowances=[FREE], modifiers=[BATCH], charges=[DAILY]),
            [
                (
                    "New: free are the first 1,000 tokens of each billing period, for all models "
                    "together."
                ),
                "New: x 0.5 for what is served as batch (batch).",
                "New: Standing charge (plan): 1.50 USD for each local day.",
            ],
        ),
        (
            terms(one(), charges=[DAILY]),
            terms(one(), charges=[DAILY | {"price": "2"}]),
            ["Charge plan, price: 1.5 becomes 2 (+33.3%)."],
        ),
        (terms(one()), terms(one(price="0.400")), []),
    ],
)
def test_a_change_is_said_by_what_is_bought(before: Terms, after: Terms, said: list[str]) -> None:
    assert sentences(before, after, after) == said


def test_what_was_negotiated_is_said_the_same_way() -> None:
    listed = terms(by_hour(peak="2", off_peak="1"), calendar=CALENDAR)
    discount = {"code": "volume", "models": ["qwen-*"], "percent": "10"}
    before = parse_agreement({"discounts": [discount]})
    after = parse_agreement({"components": [by_hour(peak="1.5", off_peak="1")]})
    assert sentences(before, after, listed) == [
        (
            "New: Input of qwen-…: 1.00 USD per 1M tokens (off-peak: all other time (UTC)), "
            "1.50 USD per 1M tokens (peak: Mon 09:00-12:00 (UTC))."
        ),
        "Gone: 10% off the listed price of everything of qwen-….",
    ]


def test_terms_by_the_hour_are_said_after_the_tariff_has_lost_its_calendar() -> None:
    """An agreement that is over need not fit the version in force, and its change is still told."""
    agreed = parse_agreement({"components": [by_hour(peak="1.5", off_peak="1")]})
    assert sentences(parse_agreement({}), agreed, terms(one())) == [
        "New: Input of qwen-…: 1.00 USD per 1M tokens (off-peak), 1.50 USD per 1M tokens (peak)."
    ]
