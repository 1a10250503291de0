"""One event, one fate: the rule, in the order of precedence."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing.fates import PRECEDENCE, SENTENCES, Fate, Reason, first, of_event, of_line
from billing.rating.line import LineKey


def key(component: str = "all", price: str = "1.50", register: str = "input") -> LineKey:
    return LineKey("t@1", component, "m", register, "", 0, Decimal(price), 1_000_000)


@pytest.mark.parametrize(
    ("line", "fate"),
    [
        (key(), Fate.BILLED),
        (key(price="-0.20"), Fate.BILLED),
        (key(price="0"), Fate.FREE),
        (key("allowance:welcome", "0"), Fate.FREE),
        (key("unpriced", "0"), Fate.UNPRICED),
    ],
)
def test_a_line_tells_the_fate_of_what_is_on_it(line: LineKey, fate: Fate) -> None:
    assert of_line(line) is fate


def test_what_is_sold_in_packages_is_billed_although_its_own_price_is_zero() -> None:
    packages = key(price="5", register="packages")
    assert of_line(key(price="0"), [packages]) is Fate.BILLED
    assert of_line(key("another", "0"), [packages]) is Fate.FREE


@pytest.mark.parametrize(
    ("met", "fate"),
    [
        ([Fate.FREE], Fate.FREE),
        ([Fate.FREE, Fate.UNPRICED], Fate.UNPRICED),
        ([Fate.FREE, Fate.UNPRICED, Fate.BILLED], Fate.BILLED),
        ([Fate.BILLED, Fate.PENDING], Fate.PENDING),
    ],
)
def test_of_several_registers_the_first_fate_in_the_order_counts(
    met: list[Fate], fate: Fate
) -> None:
    assert of_event("applied", registers=met).fate is fate


def test_what_was_taken_back_is_void_whatever_else_is_true_of_it() -> None:
    for state in ("applied", "pending", "failed"):
        verdict = of_event(state, taken_back=Reason.AMENDED, registers=[Fate.BILLED])
        assert verdict == (Fate.VOID, Reason.AMENDED)
    assert of_event("reverted") == (Fate.VOID, Reason.REVERTED)


@pytest.mark.parametrize(
    ("state", "reason"),
    [("pending", Reason.NOT_APPLIED), ("failed", Reason.FAILED), ("held", Reason.HELD)],
)
def test_what_is_not_in_the_readings_is_pending_even_where_nobody_subscribed(
    state: str, reason: Reason
) -> None:
    assert of_event(state, unbilled=Reason.NO_SUBSCRIPTION) == (Fate.PENDING, reason)


def test_a_period_without_a_document_is_pending_and_time_without_a_subscription_unpriced() -> None:
    for reason in (Reason.PERIOD_OPEN, Reason.PERIOD_ENDED, Reason.INVOICE_VOID):
        assert of_event("applied", unbilled=reason) == (Fate.PENDING, reason)
    verdict = of_event("applied", unbilled=Reason.NO_SUBSCRIPTION)
    assert verdict == (Fate.UNPRICED, Reason.NO_SUBSCRIPTION)


def test_what_came_after_the_last_document_waits_for_the_next() -> None:
    verdict = of_event("applied", late=True, registers=[Fate.BILLED])
    assert verdict == (Fate.PENDING, Reason.DIFFERENCE_DUE)


def test_an_event_of_no_quantity_is_free() -> None:
    assert of_event("applied") == (Fate.FREE, Reason.NOTHING_USED)


def test_the_order_is_the_one_that_fates_are_defined_in_and_every_reason_has_a_sentence() -> None:
    assert sorted(Fate, key=PRECEDENCE.__getitem__) == list(Fate)
    assert first(Fate) is Fate.VOID
    assert set(SENTENCES) == set(Reason)
