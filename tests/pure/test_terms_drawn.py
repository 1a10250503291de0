"""Prices as steps to draw: what each step holds, and the line of what everything comes to."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from billing.rating.document import Field
from billing.rating.line import RatedLine
from billing.rating.tariff import RateComponent, read_component
from billing.terms_drawn import HEIGHT, WIDTH, Drawing, Priced, draw, so_far

MTOK = 1_000_000


def component(shape: str, **fields: Any) -> RateComponent:
    document = {"code": "in", "models": ["*"], "registers": ["input"], "shape": shape, "per": MTOK}
    return read_component(Field(document | fields))


def steps(*pairs: tuple[int, str], above: str = "from") -> list[dict[str, object]]:
    return [{above: start, "price": price} for start, price in pairs]


def drawn(of: RateComponent, used: int = 0, **priced: Any) -> Drawing:
    drawing = draw(of, Priced(quantity=used, **priced))
    assert drawing is not None
    return drawing


def table(drawing: Drawing) -> list[tuple[int, int | None, str, str | None, int]]:
    """Above, up to, price, what it comes to, how much of the period so far."""
    return [
        (step.above, step.up_to, f"{step.price:f}",
         None if step.comes_to is None else f"{step.comes_to.normalize():f}", step.quantity)
        for step in drawing.steps
    ]  # fmt: skip


GRADUATED = component("graduated", steps=steps((0, "3"), (MTOK, "2.50"), (10 * MTOK, "1")))
VOLUME = component("volume", steps=steps((0, "3"), (MTOK, "2.50"), (10 * MTOK, "1")))
PACKAGE = component("package", per=1, size=1_000, price="4")
SIZES = component("request_size", tiers=steps((0, "1"), (32_000, "2"), above="above"))


def test_each_graduated_step_holds_its_part_of_the_period() -> None:
    drawing = drawn(GRADUATED, 3 * MTOK)
    assert table(drawing) == [
        (0, MTOK, "3", "3", MTOK),
        (MTOK, 10 * MTOK, "2.50", "25.5", 2 * MTOK),
        (10 * MTOK, None, "1", None, 0),
    ]
    assert [step.holds for step in drawing.steps] == [False, True, False]


def test_a_volume_step_holds_all_of_the_period_or_nothing() -> None:
    drawing = drawn(VOLUME, 3 * MTOK)
    assert table(drawing) == [
        (0, MTOK, "3", "3", 0),
        (MTOK, 10 * MTOK, "2.50", "25", 3 * MTOK),
        (10 * MTOK, None, "1", None, 0),
    ]


def test_at_the_end_of_a_volume_step_all_of_it_still_pays_that_step() -> None:
    assert [step.quantity for step in drawn(VOLUME, MTOK).steps] == [MTOK, 0, 0]
    assert [step.quantity for step in drawn(VOLUME, MTOK + 1).steps] == [0, MTOK + 1, 0]


def test_packages_are_drawn_about_the_one_that_is_open() -> None:
    assert table(drawn(PACKAGE, 6_500)) == [
        (4_000, 5_000, "4", "20", 1_000),
        (5_000, 6_000, "4", "24", 1_000),
        (6_000, 7_000, "4", "28", 500),
        (7_000, 8_000, "4", "32", 0),
        (8_000, 9_000, "4", "36", 0),
    ]


def test_a_package_is_paid_whole_when_it_is_opened() -> None:
    line = drawn(PACKAGE).line.split()
    assert line[:4] == ["0,100", "0,80", "200,80", "200,60"]


def test_a_tier_of_size_holds_what_was_served_at_it_and_comes_to_no_sum() -> None:
    drawing = drawn(SIZES, 70, by_tier={0: 20, 32_000: 50})
    assert table(drawing) == [(0, 32_000, "1", None, 20), (32_000, None, "2", None, 50)]
    assert (drawing.line, drawing.here_x) == ("", None)
    assert not any(step.holds for step in drawing.steps)


def test_a_cliff_of_volume_prices_is_drawn_as_one() -> None:
    """A million at 3 are 3; one token more makes all of it cost 2.50."""
    points = [tuple(map(int, point.split(","))) for point in drawn(VOLUME).line.split()]
    (_, before), (x, after) = points[2], points[3]
    assert x == WIDTH // 3
    assert after > before  # lower on the page: cheaper


def test_where_the_period_stands_is_to_scale_within_its_step() -> None:
    assert drawn(GRADUATED, 0).here_x == 0
    assert drawn(GRADUATED, MTOK // 2).here_x == 166
    assert drawn(GRADUATED, MTOK).here_x == 333


def test_usage_far_beyond_the_last_step_is_still_in_the_drawing() -> None:
    drawing = drawn(GRADUATED, 10**15)
    assert drawing.here_x is not None
    assert WIDTH * 2 // 3 < drawing.here_x < WIDTH


def test_a_price_without_steps_is_not_drawn() -> None:
    assert draw(component("flat", price="1")) is None


def test_prices_of_zero_are_drawn_flat() -> None:
    free = drawn(component("graduated", steps=steps((0, "0"))))
    assert [step.height for step in free.steps] == [0]
    assert {point.split(",")[1] for point in free.line.split()} == {str(HEIGHT)}


def line_of(quantity: int, price: str, **fields: Any) -> RatedLine:
    usual = {"version": "t@1", "component": "in", "model": "m", "register": "input", "bucket": "",
             "step": 0, "per": 1, "trace": {}}  # fmt: skip
    return RatedLine(quantity=quantity, unit_price=Decimal(price), **(usual | fields))


def test_what_was_priced_so_far_counts_units_once_and_packages_only_as_money() -> None:
    lines = [
        line_of(1_500, "0"),
        line_of(2, "4", register="packages"),
        line_of(7, "1", component="out", trace={"tier": {"above": 32_000}}),
        line_of(5, "1", component="out", model="n", trace={"tier": {"above": 32_000}}),
    ]
    assert so_far(lines) == {
        "in": Priced(1_500, Decimal(8), {}),
        "out": Priced(12, Decimal(12), {32_000: 12}),
    }


@given(
    starts=st.lists(st.integers(1, 10**12), max_size=20, unique=True).map(sorted),
    shape=st.sampled_from(["graduated", "volume"]),
    used=st.integers(0, 2 * 10**12),
)
def test_the_steps_hold_all_that_was_used_and_lie_within_the_drawing(
    starts: list[int], shape: str, used: int
) -> None:
    blocks = steps(*((start, f"{place % 7}") for place, start in enumerate([0, *starts])))
    drawing = drawn(component(shape, steps=blocks), used)
    assert sum(step.quantity for step in drawing.steps) == used
    assert sum(step.width for step in drawing.steps) == WIDTH
    assert all(0 <= step.y <= HEIGHT for step in drawing.steps)
    assert drawing.here_x is not None
    assert 0 <= drawing.here_x <= WIDTH
    assert sum(step.holds for step in drawing.steps) == 1


@given(used=st.integers(1, 20 * MTOK))
def test_all_up_to_the_end_of_a_step_costs_its_units_at_its_price(used: int) -> None:
    first, _ = drawn(component("graduated", steps=steps((0, "3"), (used, "1")))).steps
    assert first.comes_to is not None
    assert Fraction(first.comes_to) == Fraction(3 * used, MTOK)
