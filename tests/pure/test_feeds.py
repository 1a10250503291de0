"""Lists of upstream prices: a price is taken exactly, what is none is told with its place."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import types
from hypothesis import given
from hypothesis import strategies as st

from billing.feeds import genai, litellm
from billing.feeds.listing import FeedRefused, Listed, Listing

GOOD = {"litellm_provider": "openai", "input_cost_per_token": 1.25e-06}
NOVEMBER = date(2026, 11, 24)


def mapped(**models: object) -> Listing:
    return litellm.read(json.dumps({"good": GOOD, **models}).encode())


def prices_of(listing: Listing, model: str) -> dict[tuple[str, int], Decimal]:
    return {(one.register, one.above): one.price for one in listing.prices if one.model == model}


def test_prices_for_one_token_become_exact_prices_for_a_million() -> None:
    listing = mapped(
        big={
            "litellm_provider": "gemini",
            "input_cost_per_token": 1.25e-06,
            "input_cost_per_token_above_200k_tokens": 2.5e-06,
            "output_cost_per_token": 1e-05,
            "cache_read_input_token_cost": 1.25e-07,
            "max_input_tokens": 1_048_576,
        }
    )
    assert prices_of(listing, "big") == {
        ("input", 0): Decimal("1.25"),
        ("input", 200_000): Decimal("2.5"),
        ("output", 0): Decimal(10),
        ("reasoning", 0): Decimal(10),
        ("cache_read", 0): Decimal("0.125"),
    }
    model = next(one for one in listing.models if one.name == "big")
    assert (model.provider, model.context_tokens) == ("google", 1_048_576)


def test_reasoning_has_its_own_price_where_the_map_says_one() -> None:
    own = {**GOOD, "output_cost_per_token": 1e-06, "output_cost_per_reasoning_token": 3e-06}
    assert prices_of(mapped(own=own), "own") == {
        ("input", 0): Decimal("1.25"),
        ("output", 0): Decimal(1),
        ("reasoning", 0): Decimal(3),
    }


def test_the_part_before_the_slash_is_routing_and_the_sample_is_no_model() -> None:
    listing = mapped(**{"dashscope/qwen-plus": GOOD, "sample_spec": {"input_cost_per_token": -1}})
    assert prices_of(listing, "qwen-plus")
    assert listing.faults == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-1, "sentinel"),
        (-1e-06, "sentinel"),
        ("1e-06", "must be a number"),
        (None, "must be a number"),
        (True, "must be a number"),
        (1.25, "another unit"),
        (1e-21, "12 decimals"),
    ],
)
def test_what_is_no_price_is_not_taken_and_says_where(value: object, words: str) -> None:
    listing = mapped(bad={"litellm_provider": "openai", "input_cost_per_token": value})
    (fault,) = listing.faults
    assert fault.pointer == "/bad/input_cost_per_token"
    assert words in fault.detail
    assert prices_of(listing, "bad") == {}
    assert prices_of(listing, "good") == {("input", 0): Decimal("1.25")}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"null", b"{", b'{"a": {"input_cost_per_token": NaN}}',
        b'{"a": {"litellm_provider": "x", "input_cost_per_token": Infinity}}', b"\xff\xfe",
        b'{"a": {"litellm_provider": "x"}}', b"<html>404</html>", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_corrupt_list_is_refused_whole(body: bytes) -> None:
    with pytest.raises(FeedRefused):
        litellm.read(body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_entry_whatever_it_holds_stops_the_others(entry: Any) -> None:
    listing = mapped(odd=entry, odder={"litellm_provider": entry, "input_cost_per_token": entry})
    assert prices_of(listing, "good") == {("input", 0): Decimal("1.25")}


# genai-prices


def model_of(prices: Any, name: str = "m") -> types.ModelInfo:
    match = types.ClauseOr(or_=[types.ClauseEquals(equals=name), types.ClauseEquals(equals="m2")])
    return types.ModelInfo(id=name, match=match, name="M", context_window=1_000, prices=prices)


def listed(*models: types.ModelInfo, on: date = NOVEMBER) -> Listing:
    provider = types.Provider(id="up", name="Up", api_pattern="x", models=list(models))
    return genai.read_providers([provider], on, "1", "d")


def price(**fields: Any) -> types.ModelPrice:
    return types.ModelPrice(**fields)


def test_tiers_are_prices_from_a_size_of_the_input_on() -> None:
    tiered = types.TieredPrices(
        base=Decimal("1.25"), tiers=[types.Tier(start=200_000, price=Decimal("2.5"))]
    )
    listing = listed(model_of(price(input_mtok=tiered, output_mtok=Decimal(10))))
    assert prices_of(listing, "m") == {
        ("input", 0): Decimal("1.25"),
        ("input", 200_000): Decimal("2.5"),
        ("output", 0): Decimal(10),
        ("reasoning", 0): Decimal(10),
    }
    assert listing.models[0].aliases == ("m2",)


def test_the_price_of_a_day_is_the_last_that_has_begun() -> None:
    dated = [
        types.ConditionalPrice(constraint=None, prices=price(input_mtok=Decimal(1))),
        types.ConditionalPrice(
            constraint=types.StartDateConstraint(start_date=date(2026, 11, 1)),
            prices=price(input_mtok=Decimal(2)),
        ),
        types.ConditionalPrice(
            constraint=types.StartDateConstraint(start_date=date(2027, 1, 1)),
            prices=price(input_mtok=Decimal(4)),
        ),
    ]
    assert listed(model_of(dated)).prices == (
        Listed("up", "m", "input", Decimal(2), 0, datetime(2026, 11, 1, tzinfo=UTC)),
    )
    assert listed(model_of(dated), on=date(2026, 10, 1)).prices[0].price == 1


def test_a_price_by_the_time_of_day_is_not_taken_as_if_it_held_all_day() -> None:
    night = types.TimeOfDateConstraint(
        start_time=datetime(2026, 1, 1, 1, tzinfo=UTC).timetz(),
        end_time=datetime(2026, 1, 1, 4, tzinfo=UTC).timetz(),
    )
    timed = [
        types.ConditionalPrice(constraint=None, prices=price(input_mtok=Decimal(1))),
        types.ConditionalPrice(constraint=night, prices=price(input_mtok=Decimal(2))),
    ]
    listing = listed(model_of(timed), model_of(price(input_mtok=Decimal(1)), "plain"))
    assert prices_of(listing, "m") == {}
    assert "time of day" in listing.faults[0].detail


def test_the_pinned_package_is_read_whole() -> None:
    listing = genai.read(NOVEMBER)
    found = {(one.provider, one.model, one.register, one.above): one for one in listing.prices}
    assert len(found) == len(listing.prices) > 5_000
    assert found["openai", "gpt-5", "cache_read", 0].price == Decimal("0.125")
    assert found["google", "gemini-2.5-pro", "output", 200_000].price == 15
    assert len(listing.digest) == 64
    assert any("12 decimals" in fault.detail for fault in listing.faults)  # a float leaked into it
