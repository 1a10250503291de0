"""Late usage, a corrected tariff and the ordinary month are one function: the difference."""

from dataclasses import replace
from decimal import Decimal

import pytest

from billing.rating.difference import still_owed
from billing.rating.money import to_minor
from billing.rating.rate import rate
from tests.pure.tables import rows
from tests.pure.tariffs import BEIJING, MTOK, component, costs, steps, terms, used, whole, written

FLAT = whole(terms(component("input", price="1.60")))
BLOCKS = whole(terms(component("input", steps=steps((0, "2.00"), (100 * MTOK, "1.60")))))

SETTLEMENTS = """
run     | reading       | amount  | because
initial | 1_000_000_000 | 1600.00 | nothing billed yet
first   | 1_012_500_000 | 20.00   | more arrived
second  | 1_011_800_000 | -1.12   | some was voided
final   | 1_012_050_000 | 0.40    | a last reading
"""


def test_nothing_billed_yet_is_the_ordinary_month() -> None:
    rated = rate([used(5)], FLAT)
    assert still_owed(rated, []) == rated
    assert still_owed(rated, [])[0].trace == rated[0].trace


def test_rating_twice_owes_nothing() -> None:
    assert still_owed(rate([used(5)], FLAT), rate([used(5)], FLAT)) == []


def test_late_usage_pays_the_price_of_its_own_period() -> None:
    before = rate([used(10 * MTOK)], FLAT)
    late = rate([used(10 * MTOK), used(2_500_000, on="2026-09-30T10:00")], FLAT)
    owed = still_owed(late, before)
    assert written(owed) == "2_500_000 @ 1.60"
    assert costs(owed) == 4
    assert costs(owed) != Decimal("3.625")  # at October's 1.45


def test_late_usage_pays_the_step_it_would_have_reached() -> None:
    before = rate([used(99 * MTOK)], BLOCKS)
    after = rate([used(99 * MTOK), used(4 * MTOK, on="2026-09-02T00:00")], BLOCKS)
    owed = still_owed(after, before)
    assert written(owed) == "1_000_000 @ 2.00, 3_000_000 @ 1.60"
    assert costs(owed) == Decimal("6.80")
    assert costs(owed) != 8  # all of it at the first step


def test_late_usage_may_move_earlier_usage_to_another_step() -> None:
    shared = whole(
        terms(component("all", registers=["input", "output"], steps=steps((0, "3"), (10, "2"))))
    )
    before = rate([used(10, "output")], shared)
    owed = still_owed(rate([used(10, "output"), used(4, "input")], shared), before)
    assert [(line.register, line.step, line.quantity) for line in owed] == [
        ("input", 0, 4),
        ("output", 0, -4),
        ("output", 1, 4),
    ]
    assert costs(owed) == Decimal("0.000008")


def test_an_estimate_is_made_good_by_the_actual_reading() -> None:
    owed = still_owed(rate([used(47_350_000)], FLAT), rate([used(52_000_000)], FLAT))
    assert costs(owed) == Decimal("-7.44")
    assert owed[0].trace["difference"] == {"now": 47_350_000, "billed": 52_000_000}


def test_a_wrong_price_is_credited_in_full_and_charged_anew() -> None:
    usage = [used(123_456_789)]
    wrong = rate(usage, FLAT)
    right = rate(usage, whole(terms(component("input", price="1.45")), version="v2"))
    cents = [to_minor(line.amount, "USD") for line in still_owed(right, wrong)]
    assert cents == [17901, -19753]
    assert sum(cents) == -1852


def test_a_rule_learnt_later_is_billed_as_a_difference() -> None:
    every_day = BEIJING["rules"][0] | {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}
    prices = [
        component("input", prices={"peak": "1.32", "off_peak": "0.66"}),
        component("output", prices={"peak": "3.96", "off_peak": "1.98"}),
    ]
    learnt_first = whole(terms(*prices, calendar=BEIJING | {"rules": [every_day]}), version="a")
    learnt_later = whole(terms(*prices, calendar=BEIJING), version="b")
    saturday = "2026-09-19T10:00+08:00"
    usage = [used(MTOK, on=saturday), used(100_000, "output", on=saturday)]
    billed = rate(usage, learnt_first)
    owed = still_owed(rate(usage, learnt_later), billed)
    assert (costs(billed), costs(owed)) == (Decimal("1.716"), Decimal("-0.858"))
    # The old lines are given back whole, then the new ones charged: both can be read.
    assert sorted((line.version, line.quantity) for line in owed) == [
        ("a", -MTOK), ("a", -100_000), ("b", 100_000), ("b", MTOK),
    ]  # fmt: skip


def test_each_run_of_a_settlement_bills_what_changed_since_the_last() -> None:
    billed = []
    for _, reading, amount, because in rows(SETTLEMENTS):
        owed = still_owed(rate([used(int(reading))], FLAT), billed)
        assert costs(owed) == Decimal(amount), because
        billed += owed
    assert costs(billed) == Decimal("1619.28")


@pytest.mark.parametrize("price", ["1.6", "1.600000000000"])
def test_a_price_read_back_with_other_zeros_is_the_same_price(price: str) -> None:
    rated = rate([used(5)], FLAT)
    assert still_owed(rated, [replace(rated[0], unit_price=Decimal(price))]) == []


def test_what_is_billed_and_no_longer_owed_is_given_back_in_order() -> None:
    billed = rate([used(2, model="b"), used(1, model="a"), used(3, model="c")], FLAT)
    given = [("a", -1), ("b", -2), ("c", -3)]
    for order in (billed, billed[::-1]):
        assert [(line.model, line.quantity) for line in still_owed([], order)] == given


def test_lines_of_one_key_on_several_documents_are_added_up() -> None:
    (line,) = rate([used(10)], FLAT)
    documents = [replace(line, quantity=quantity) for quantity in (4, 9, -2)]
    assert [owed.quantity for owed in still_owed([line], documents)] == [-1]
    assert still_owed([line, line], [*documents, replace(line, quantity=9)]) == []


def test_a_difference_of_a_difference_tells_its_own_story() -> None:
    (first,) = rate([used(10)], FLAT)
    (second,) = still_owed(rate([used(12)], FLAT), [first])
    (third,) = still_owed(rate([used(13)], FLAT), [first, second])
    assert third.trace["difference"] == {"now": 13, "billed": 12}
    assert "difference" not in still_owed([second], [])[0].trace
