"""Money is exact until it is rounded, once, half away from zero."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.rating.money import from_minor, minor_digits, to_minor, total
from tests.pure.tables import rows

CURRENCIES = ("USD", "CNY", "JPY", "KWD")
AMOUNTS = st.decimals("-1e15", "1e15", allow_nan=False, allow_infinity=False, places=18)

DIGITS = """
digits | currencies
0      | JPY KRW VND CLP XOF
2      | USD EUR CNY GBP HUF TWD
3      | KWD BHD OMR TND JOD
"""

ROUNDED = """
amount      | currency | minor
0           | USD      |      0
0.004999999 | USD      |      0
0.005       | USD      |      1
-0.005      | USD      |     -1
0.025       | USD      |      3
0.02221125  | USD      |      2
8794.2594   | CNY      | 879426
1234.5      | JPY      |   1235
-2.5        | JPY      |     -3
1.23456     | KWD      |   1235
1E+3        | USD      | 100000
"""


@pytest.mark.parametrize(("digits", "codes"), rows(DIGITS))
def test_a_currency_has_its_iso_4217_digits(digits: str, codes: str) -> None:
    assert {minor_digits(code) for code in codes.split()} == {int(digits)}


@pytest.mark.parametrize("code", ["", "US", "USDT", "usd", "USD\n", "ABC", "XXX", "DM1", "€"])
def test_what_is_no_currency_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        minor_digits(code)


@pytest.mark.parametrize(("amount", "currency", "minor"), rows(ROUNDED))
def test_an_amount_is_rounded_half_away_from_zero_to_its_minor_unit(
    amount: str, currency: str, minor: str
) -> None:
    assert to_minor(Decimal(amount), currency) == int(minor)


def test_each_line_is_rounded_and_then_added() -> None:
    lines = [Decimal("0.005")] * 3
    assert sum(to_minor(line, "USD") for line in lines) == 3
    # Neither of the plausible others: round the total, or round halves to even.
    assert to_minor(total(lines), "USD") == 2
    assert sum(int((line * 100).to_integral_value(ROUND_HALF_EVEN)) for line in lines) == 0


def test_many_small_calls_are_not_rounded_one_by_one() -> None:
    call = Decimal("0.60") * 1_500 / 1_000_000
    assert to_minor(total([call] * 10_000), "USD") == 900
    assert sum(to_minor(call, "USD") for _ in range(10_000)) == 0


@given(AMOUNTS, st.sampled_from(CURRENCIES))
@example(Decimal("0.005"), "USD")
def test_a_credit_mirrors_its_charge(amount: Decimal, currency: str) -> None:
    assert to_minor(-amount, currency) == -to_minor(amount, currency)


@given(AMOUNTS, st.sampled_from(CURRENCIES))
def test_rounding_moves_an_amount_by_half_a_minor_unit_at_most(
    amount: Decimal, currency: str
) -> None:
    moved = Fraction(from_minor(to_minor(amount, currency), currency)) - Fraction(amount)
    assert abs(moved) * 2 <= Fraction(1, 10 ** minor_digits(currency))


@given(st.integers(-(10**30), 10**30), st.sampled_from(CURRENCIES))
def test_minor_units_come_back_as_they_went(minor: int, currency: str) -> None:
    assert to_minor(from_minor(minor, currency), currency) == minor


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_an_amount_is_finite(amount: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        to_minor(Decimal(amount), "USD")


@settings(max_examples=50)
@given(st.lists(AMOUNTS, max_size=8))
@example([Decimal("12345678901234567890.5"), Decimal("0.000000003625")])
def test_a_total_is_exact_beyond_28_digits(amounts: list[Decimal]) -> None:
    assert Fraction(total(amounts)) == sum(map(Fraction, amounts))
