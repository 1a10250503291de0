"""Break-even: where two tariffs cost the same, in numbers and in words."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from billing.rating.break_even import (
    FACTORS,
    Crossing,
    Point,
    break_even_sentences,
    crossings,
    times,
)

HALF = Fraction(1, 2)
TIMES = "\N{MULTIPLICATION SIGN}"


def points(*differences: int) -> list[Point]:
    """A point for every half, at which the old tariff costs 1,000."""
    return [
        Point(Fraction(place, 2), 1_000, 1_000 + difference)
        for place, difference in enumerate(differences)
    ]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0, 10, 20), []),
        ((0, 0, 0), []),
        ((30, 10, -10), [Crossing(HALF, Fraction(1), Fraction(3, 4), True)]),
        ((-1, 0, 1), [Crossing(HALF, HALF, HALF, False)]),
        ((-1, 0, -1), []),
        ((-1, 0, 0, 1), [Crossing(Fraction(1), Fraction(1), Fraction(1), False)]),
        ((5, -5, 5), [
            Crossing(Fraction(0), HALF, Fraction(1, 4), True),
            Crossing(HALF, Fraction(1), Fraction(3, 4), False),
        ]),
    ],
)  # fmt: skip
def test_a_crossing_is_a_change_of_the_cheaper_one(
    differences: tuple[int, ...], expected: list[Crossing]
) -> None:
    assert crossings(points(*differences)) == expected


def said(*differences: int) -> list[str]:
    """The sentences, with a plain letter for the sign."""
    sentences = break_even_sentences(points(*differences), "house")
    return [sentence.replace(TIMES, "x") for sentence in sentences]


def test_words_say_where_and_which_way() -> None:
    assert said(30, 10, -10) == [
        (
            "Both cost the same at about 0.75x the usage (between 0.5x and 1x): "
            "below that house is dearer, above it is cheaper."
        )
    ]
    assert said(-1, 0, 1) == [
        "Both cost the same at 0.5x the usage: below that house is cheaper, above it is dearer."
    ]


@pytest.mark.parametrize(
    ("differences", "sentence"),
    [
        ((0, -1, -2), "House never costs more, from no usage at all up to 1x the usage."),
        ((0, 0, 2), "House never costs less, from no usage at all up to 1x the usage."),
        ((0, 0, 0), "Both cost the same, from no usage at all up to 1x the usage."),
    ],
)
def test_words_say_that_nothing_changes(differences: tuple[int, ...], sentence: str) -> None:
    assert said(*differences) == [sentence]


def test_factors_stand_at_even_steps_and_what_was_used_is_one_of_them() -> None:
    """A chart with a place for each draws straight lines straight."""
    assert {after - before for before, after in pairwise(FACTORS)} == {HALF}
    assert 1 in FACTORS


def test_a_factor_is_written_to_two_decimals() -> None:
    ratios = (Fraction(5, 3), Fraction(1), Fraction(10), Fraction(0))
    assert [times(ratio) for ratio in ratios] == [f"{n}{TIMES}" for n in ("1.67", "1", "10", "0")]
