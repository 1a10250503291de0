"""What holds for any amounts: nothing is lost between who pays and what is paid."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating.money import round_half_up
from billing.rating.paper import tax_minor
from billing.settling import prepaid
from billing.settling.correction import back_billed, issued
from billing.settling.prepaid import Request, Shortfall
from billing.settling.runs import settlement_runs
from billing.settling.waterfall import Kind, Source, draw
from metering.validation.estimation import scaled
from tests.pure.tables import at

NOW = at("2026-09-24")
cents = st.integers(0, 100_000).map(lambda number: Decimal(number) / 100)
modest = settings(max_examples=50, deadline=None)


@modest
@given(cents, st.lists(st.tuples(st.sampled_from(Kind), cents), max_size=5))
def test_what_is_drawn_and_what_is_unpaid_are_the_amount(
    amount: Decimal, sources: list[tuple[Kind, Decimal]]
) -> None:
    found = [Source(f"s{n}", kind, left) for n, (kind, left) in enumerate(sources)]
    drawn, unpaid = draw(amount, found, now=NOW)
    assert sum(one.amount for one in drawn) + unpaid == amount
    assert all(0 < one.amount <= one.source.left for one in drawn)
    assert [one.source.kind for one in drawn] == sorted(one.source.kind for one in drawn)


@modest
@given(cents, cents, cents, cents, st.integers(0, 100))
def test_a_top_up_is_divided_to_the_last_digit(
    top_up: Decimal, emergency: Decimal, friendly: Decimal, debt: Decimal, percent: int
) -> None:
    paid = prepaid.repay(
        top_up, emergency=emergency, friendly=friendly, debt=debt, debt_percent=Decimal(percent)
    )
    assert paid.emergency + paid.friendly + paid.debt + paid.credit == top_up
    assert paid.debt + paid.debt_left == debt
    assert min(paid.emergency, paid.friendly, paid.debt, paid.credit) >= 0


@modest
@given(cents, cents, st.integers(0, 10**7), st.integers(1, 10**7), cents, cents)
def test_nothing_is_admitted_that_could_overspend(
    balance: Decimal, credit: Decimal, tokens: int, most: int, dear: Decimal, dearer: Decimal
) -> None:
    request = Request(tokens, most, dear, dearer)
    admission = prepaid.admit(request, balance, emergency_credit=credit, policy=Shortfall.CAP)
    if admission.admitted:
        assert request.cost(admission.output_tokens_max) <= balance + credit
        more = admission.output_tokens_max + 1
        assert more > most or request.cost(more) > balance + credit


@modest
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=6))
def test_the_differences_of_runs_add_up_to_the_last_run(runs: list[int]) -> None:
    billed = settlement_runs(runs, Decimal("1.60"))
    assert sum(billed) == Decimal("1.60") * runs[-1] / 1_000_000


@modest
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=6), cents)
def test_a_credit_note_and_its_original_are_nothing(lines: list[int], percent: Decimal) -> None:
    original = issued(lines, percent)
    credit = original.mirrored
    assert [a + b for a, b in zip(original.lines_minor, credit.lines_minor, strict=True)] == (
        [0] * len(lines)
    )
    assert original.total + credit.total == 0
    assert tax_minor(-original.net, percent) == -original.tax


@modest
@given(st.lists(st.integers(0, 10**6), max_size=20), st.integers(1, 20))
def test_what_is_not_billed_is_written_off(months: list[int], most: int) -> None:
    assert sum(back_billed(months, months_max=most)) == sum(months)


@modest
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=96), st.integers(0, 10**9))
def test_a_scaled_shape_adds_up_to_the_advance(shape: list[int], advance: int) -> None:
    found = scaled(shape, advance)
    assert sum(found) == advance
    assert min(found) >= 0


@given(st.fractions())
def test_halves_go_away_from_zero(exact: object) -> None:
    rounded = round_half_up(exact)  # type: ignore[arg-type]
    assert abs(rounded - exact) * 2 <= 1  # type: ignore[operator]
    assert round_half_up(-exact) == -rounded  # type: ignore[operator]
