"""The price list by model: grouped, folded, searched, and drawn where prices have steps."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Organization, User
from billing import costs
from billing.rating.scope import What
from billing.rating.tariff import parse
from portal.price_groups import grouped
from tests import build
from tests.web.portal_acme import MTOK, NOVEMBER, OCTOBER, at_now, signed_in, text_of, use

__all__ = ["at_now"]
TARIFF = "/o/acme/tariff/"
YESTERDAY = datetime(2026, 11, 17, 9, tzinfo=UTC)


def component(code: str, models: str, shape: str, **fields: Any) -> dict[str, object]:
    usual = {"code": code, "models": models.split(), "registers": ["input"], "per": MTOK}
    return usual | {"shape": shape} | fields


def on(acme: Organization, *components: dict[str, object]) -> None:
    document = {"currency": "USD", "components": list(components)}
    tariff = build.make_tariff(code="cloud", document=document)
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)


def priced(*parts: tuple[str, str, str]) -> list[costs.PriceRow]:
    """(models, registers, price) of flat components, as rows of the price table."""
    components = [
        {
            "code": f"part-{place}", "models": models.split(), "registers": registers.split(),
            "shape": "flat", "per": 1, "price": price,
        }
        for place, (models, registers, price) in enumerate(parts)
    ]  # fmt: skip
    return costs.price_table({"currency": "USD", "components": components})


def groups(rows: list[costs.PriceRow]) -> list[tuple[str, list[str]]]:
    return [(group.models, [f"{row.price}" for row, _ in group.rows]) for group in grouped(rows)]


def test_the_rows_of_one_model_are_one_group() -> None:
    rows = priced(("plus", "input", "1"), ("max", "input", "2"), ("plus", "output", "3"))
    assert groups(rows) == [("plus", ["1", "3"]), ("max", ["2"])]


def test_no_row_moves_up_past_one_that_applies_before_it() -> None:
    rows = priced(("plus", "output", "1"), ("pl*", "input", "2"), ("plus", "input", "3"))
    assert groups(rows) == [("plus", ["1"]), ("pl…", ["2"]), ("plus", ["3"])]


NAMES = st.lists(
    st.sampled_from(["plus", "pl*", "p*", "max", "*"]), min_size=1, max_size=2, unique=True
)
REGISTERS = st.lists(st.sampled_from(["input", "output"]), min_size=1, max_size=2, unique=True)


@given(parts=st.lists(st.tuples(NAMES, REGISTERS), min_size=1, max_size=8))
def test_read_from_the_top_the_list_gives_the_price_that_rating_gives(
    parts: list[tuple[list[str], list[str]]],
) -> None:
    """Whatever a tariff says, whoever takes the first group and row that match is right."""
    document = {
        "currency": "USD",
        "components": [
            {"code": f"c{place}", "models": models, "registers": registers, "shape": "flat",
             "per": MTOK, "price": str(place + 1)}
            for place, (models, registers) in enumerate(parts)
        ],
    }  # fmt: skip
    terms = parse(document)
    rows = [row for group in grouped(costs.price_table(terms)) for row, _ in group.rows]
    by_code = {one.code: one for one in terms.components}
    for model, register in product(["plus", "plum", "pear", "max", "else"], ["input", "output"]):
        found = terms.component_for(model, register, "", "")
        read = (
            row.component for row in rows if by_code[row.component].prices(What(model, register))
        )
        assert next(read, None) == (found and found[1].code)


@pytest.mark.usefixtures("at_now")
def test_blocks_are_drawn_with_where_the_period_stands(acme: Organization, bob: User) -> None:
    steps = [{"from": 0, "price": "3"}, {"from": MTOK, "price": "2.50"}]
    on(acme, component("in", "small", "graduated", steps=steps))
    use(acme, YESTERDAY, 3 * MTOK, model="small")
    use(acme, datetime(2026, 10, 5, 10, tzinfo=UTC), 50 * MTOK, model="small")  # another period
    html = signed_in(bob).get(TARIFF).content.decode()
    assert 'aria-label="1 to 1,000,000: $3.00; above 1,000,000: $2.50"' in html
    page = text_of(signed_in(bob), TARIFF)
    assert "This period so far: 3,000,000, which cost $8.00." in page
    table = "In a billing period Per 1M tokens All up to its end So far"
    assert f"{table} 1 to 1,000,000 $3.00 $3.00 1,000,000" in page
    assert "above 1,000,000 $2.50 no end 2,000,000" in page


@pytest.mark.usefixtures("at_now")
def test_tiers_of_request_size_are_drawn_with_their_upper_ends(
    acme: Organization, bob: User
) -> None:
    tiers = [{"above": 0, "price": "1"}, {"above": 32_000, "price": "2"}]
    on(acme, component("in", "small", "request_size", tiers=tiers))
    page = text_of(signed_in(bob), TARIFF)
    assert "Input of a request Per 1M tokens So far 1 to 32,000 $1.00 0" in page
    assert "the upper end belongs to the tier" in page


@pytest.mark.usefixtures("at_now")
def test_a_package_is_priced_by_the_package(acme: Organization, bob: User) -> None:
    on(acme, component("in", "small", "package", per=1, size=1_000, price="4"))
    use(acme, YESTERDAY, 1_500, model="small")
    page = text_of(signed_in(bob), TARIFF)
    assert "a package of 1,000, paid whole when it is opened $4.00 per package" in page
    assert "This period so far: 1,500, which cost $8.00." in page


def hundred() -> list[dict[str, object]]:
    models = [
        component(f"m{number}", f"model-{number:03}", "flat", price=f"{number + 1}")
        for number in range(99)
    ]
    return [*models, component("rest", "*", "flat", price="500")]


@pytest.mark.usefixtures("at_now")
def test_a_long_price_list_is_folded_and_searched(acme: Organization, bob: User) -> None:
    on(acme, *hundred())
    whole = signed_in(bob).get(TARIFF).content.decode()
    assert whole.count('<details class="price-group">') == 100
    found = signed_in(bob).get(f"{TARIFF}?find=MODEL-042").content.decode()
    assert '<h3 class="price-models">model-042</h3>' in found
    assert '<h3 class="price-models">any other model</h3>' in found
    assert found.count('class="price-models"') == 2
    assert "2 of 100 groups may price it" in found


@pytest.mark.usefixtures("at_now")
def test_a_search_finds_what_prices_a_model_by_the_beginning_of_its_name(
    acme: Organization, bob: User
) -> None:
    on(acme, component("family", "model-*", "flat", price="7"), *hundred()[:10])
    page = text_of(signed_in(bob), f"{TARIFF}?find=model-unheard-of")
    assert "model-… Prices of model-… Kind of token When Price Input always $7.00" in page
    assert "1 of 11 groups may price it" in page


@pytest.mark.usefixtures("at_now")
@pytest.mark.parametrize("wanted", ["%22%3E%3Cscript%3E", "x" * 500, "%F0%9F%A4%96"])
def test_a_search_for_what_nobody_prices_says_so(
    acme: Organization, bob: User, wanted: str
) -> None:
    on(acme, *hundred()[:10])
    assert "No price is for such a model" in text_of(signed_in(bob), f"{TARIFF}?find={wanted}")


@pytest.mark.usefixtures("at_now")
@pytest.mark.parametrize(
    ("valid_from", "said"),
    [
        (datetime(2020, 1, 1, tzinfo=UTC), "in force since Jan 1, 2020, 00:00 (UTC)"),
        (datetime(2020, 1, 1, 5, tzinfo=UTC), "Jan 1, 2020, 00:00 (America/New_York)"),
        (datetime(2020, 1, 1, 9, 15, tzinfo=UTC), "Jan 1, 2020, 04:15 (America/New_York)"),
    ],
)
def test_a_version_begins_on_the_day_it_was_published_for_wherever_it_is_read(
    acme: Organization, bob: User, valid_from: datetime, said: str
) -> None:
    acme.zone = "America/New_York"
    acme.save(update_fields=["zone"])
    tariff = build.make_tariff(valid_from=valid_from)
    build.make_subscription(organization=acme, starts_at=NOVEMBER, tariff=tariff)
    assert said in text_of(signed_in(bob), TARIFF)


@pytest.mark.usefixtures("at_now")
def test_a_version_of_a_calendar_begins_by_the_calendars_clock(
    acme: Organization, bob: User
) -> None:
    calendar = {"zone": "Asia/Shanghai", "default": "all"}
    document = build.flat_document() | {"calendar": calendar}
    tariff = build.make_tariff(document=document, valid_from=datetime(2026, 8, 31, 16, tzinfo=UTC))
    build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)
    assert "since Sep 1, 2026, 00:00 (Asia/Shanghai)" in text_of(signed_in(bob), TARIFF)
