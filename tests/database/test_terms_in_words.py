"""What a tariff says besides its listed prices, as a buyer reads it."""

from __future__ import annotations

from typing import Any

from billing import costs
from billing.rating.tariff import Terms, parse
from billing.terms_in_words import charge_sentences, modifier_sentences
from tests.build import flat_document


def terms(**fields: Any) -> Terms:
    return parse(flat_document() | fields)


def test_free_tokens_say_how_often_whose_and_until_when() -> None:
    free = {"code": "new", "tokens": 1_000_000, "models": ["qwen-*"], "registers": ["input"]}
    fields = {"once": True, "each_model": True, "expires": "2026-12-01T00:00:00Z"}
    row, *_ = costs.price_table(terms(allowances=[free | fields]))
    assert (row.models, row.condition) == (
        "qwen-…",
        "the first 1,000,000 tokens of each model, once, until 2026-12-01 00:00 UTC",
    )


def test_factors_say_what_they_are_on_and_which_exclude_each_other() -> None:
    of_group = {"group": "g"}
    modifiers = [
        {"code": "batch", "kind": "service_class", "service_classes": ["batch"], "factor": "0.5"}
        | of_group,
        {"code": "cached", "kind": "token_class", "registers": ["cache_read"], "factor": "0.2"}
        | of_group,
        {"code": "long", "kind": "negotiated", "when": {"input_above": 32_000}, "factor": "1.1"},
    ]
    of = terms(modifiers=modifiers, stacking={"g": "exclusive_priority"})
    assert modifier_sentences(of) == [
        "x 0.5 for what is served as batch (batch).",
        "x 0.2 for cached input (cached).",
        "x 1.1 for input of the request above 32,000 (long).",
        "Of batch and cached only the first that fits applies.",
    ]


def test_charges_are_sentences() -> None:
    ratchet = {"percent": 80, "months": 11}
    charges = [
        {"code": "plan", "kind": "standing", "each": "day", "price": "1.5"},
        {"code": "rent", "kind": "standing", "each": "period", "price": "300"},
        {"code": "peak", "kind": "demand", "price": "0.9", "window_minutes": 15}
        | {"minimum_tpm": 5_000, "ratchet": ratchet},
        {"code": "support", "kind": "fee", "percent": "5", "of": ["all"], "at_least": "1"},
        {"code": "wire", "kind": "fee", "price": "0.3"},
        {"code": "least", "kind": "minimum", "amount": "100"},
        {"code": "year", "kind": "commitment", "amount": "12000", "months": 12},
    ]
    assert " ".join(charge_sentences(terms(charges=charges))) == (
        "Standing charge (plan): 1.50 USD for each local day. "
        "Standing charge (rent): 300.00 USD for each billing period; of a part of one, that part "
        "by days. "
        "Demand (peak): 0.90 USD per thousand tokens a minute of the highest 15 minutes in a "
        "billing period; 5,000 at least; 80% of the highest of the 11 periods before at least. "
        "Fee (support): 5% of all, at least 1.00 USD. "
        "Fee (wire): 0.30 USD for each billing period. "
        "A billing period costs at least 100.00 USD. "
        "12,000.00 USD are promised for every 12 billing periods; what is not spent of them is "
        "billed at the end (year)."
    )
