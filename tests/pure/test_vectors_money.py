"""Worked cases of money: rounding, currencies, what pays first, corrections, settlement."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from billing.rating.events import Event, rate_events
from billing.rating.money import round_half_up, to_minor
from billing.rating.paper import exchanged, printed, printed_minor
from billing.rating.period import Period
from billing.rating.rate import RatedLine, rate
from billing.settling import correction, demand_response, energy, feed_in, prepaid, vouchers
from billing.settling.feed_in import Interval
from billing.settling.losses import Balance, Loss
from billing.settling.occupier import handed_over
from billing.settling.prepaid import Request, Shortfall, State
from billing.settling.runs import Budget, settlement_runs
from billing.settling.streams import CancelPolicy, cancelled, without_completion
from billing.settling.waterfall import Kind, Source, draw
from tests.pure.tables import at
from tests.pure.tariffs import MTOK, component, costs, terms, used, whole
from tests.pure.vectors import figure

NOW = datetime(2026, 9, 24, tzinfo=UTC)
PRICE = Decimal("1.60")


def expected(number: int, name: str) -> Decimal:
    return Decimal(figure(number, name))


def line(amount: str, **trace: object) -> RatedLine:
    return RatedLine("v1", "c", "m", "input", "", 0, 1, Decimal(amount), 1, trace)


def test_tv_35_free_credit_pays_before_a_plan_and_a_plan_before_the_wallet() -> None:
    sources = [
        Source("wallet", Kind.PAID, Decimal(100)),
        Source("plan", Kind.SAVINGS_PLAN, Decimal(20)),
        Source("free", Kind.FREE_QUOTA, Decimal(5)),
        Source("gone", Kind.FREE_QUOTA, Decimal(99), expires=NOW),
    ]
    drawn, unpaid = draw(Decimal("37.40"), sources, now=NOW)
    assert {one.source.code: one.amount for one in drawn} == {
        name: expected(35, name) for name in ("free", "plan", "wallet")
    }
    assert [one.source.code for one in drawn] == ["free", "plan", "wallet"]
    assert unpaid == 0


def test_what_expires_first_is_drawn_first() -> None:
    later = Source("later", Kind.PROMOTION, Decimal(1), expires=datetime(2027, 1, 1, tzinfo=UTC))
    sooner = Source("sooner", Kind.PROMOTION, Decimal(1), expires=datetime(2026, 12, 1, tzinfo=UTC))
    never = Source("never", Kind.PROMOTION, Decimal(1))
    drawn, unpaid = draw(Decimal(4), [never, later, sooner], now=NOW)
    assert [one.source.code for one in drawn] == ["sooner", "later", "never"]
    assert unpaid == 1


REQUEST = Request(10_000, 4_000, Decimal("2.4"), Decimal(12))


def test_tv_36_a_short_balance_rejects_or_caps_and_is_never_overspent() -> None:
    balance, none = Decimal("0.0500"), Decimal(0)
    assert REQUEST.worst == expected(36, "reservation_needed")
    refused = prepaid.admit(REQUEST, balance, emergency_credit=none, policy=Shortfall.REJECT)
    assert not refused.admitted
    capped = prepaid.admit(REQUEST, balance, emergency_credit=none, policy=Shortfall.CAP)
    assert capped.output_tokens_max == expected(36, "policy_cap_max_output_tokens")
    assert capped.reserved == expected(36, "policy_cap_debit")
    left, lent = prepaid.settle(balance, capped.reserved)
    assert (left, lent) == (expected(36, "wallet_after"), 0)
    one_more = REQUEST.cost(capped.output_tokens_max + 1)
    assert one_more > balance
    empty = prepaid.admit(REQUEST, Decimal("0.01"), emergency_credit=none, policy=Shortfall.CAP)
    assert not empty.admitted


def test_tv_37_emergency_credit_is_lent_and_owed() -> None:
    balance, emergency = Decimal("0.0500"), Decimal("0.0200")
    assert REQUEST.worst == expected(37, "reservation")
    admitted = prepaid.admit(REQUEST, balance, emergency_credit=emergency, policy=Shortfall.CAP)
    assert admitted.output_tokens_max == expected(37, "capped_max_output")
    debit = REQUEST.cost(3_500)
    assert debit == expected(37, "debit")
    left, lent = prepaid.settle(balance, debit)
    assert (left, lent) == (expected(37, "wallet_after"), expected(37, "emergency_used"))
    states = [
        prepaid.state(one, low=Decimal("0.02"), emergency_credit=emergency)
        for one in (balance, Decimal("0.01"), left, -emergency)
    ]
    assert states == [State.NORMAL, State.LOW, State.EMERGENCY, State.EXHAUSTED]


def test_tv_38_a_top_up_repays_before_it_is_credit() -> None:
    paid = prepaid.repay(
        Decimal("20.00"),
        emergency=Decimal("10.00"),
        friendly=Decimal("3.40"),
        debt=Decimal("45.00"),
        debt_percent=Decimal(30),
    )
    assert (paid.emergency, paid.friendly) == (expected(38, "emergency"), expected(38, "friendly"))
    assert (paid.debt, paid.debt_left) == (
        expected(38, "debt_recovered"),
        expected(38, "debt_left"),
    )
    assert paid.credit == expected(38, "credited")


def test_tv_39_an_estimate_is_trued_up_by_a_line_of_its_own() -> None:
    of = whole(terms(component("input", price="1.60")))
    estimated, actual = (
        to_minor(costs(rate([used(tokens)], of)), "USD") for tokens in (52_000_000, 47_350_000)
    )
    assert estimated == expected(39, "estimated") * 100
    assert actual == expected(39, "actual") * 100
    assert correction.true_up(actual, estimated) == expected(39, "adjustment") * 100


def test_tv_40_a_wrong_document_is_mirrored_and_a_right_one_follows() -> None:
    wrong, right = (
        rate([used(123_456_789)], whole(terms(component("input", price=price))))
        for price in ("1.60", "1.45")
    )
    original = correction.issued([printed_minor(wrong, "USD")], Decimal(6))
    credit, again = correction.rebilled(
        original, correction.issued([printed_minor(right, "USD")], Decimal(6))
    )
    assert original.net == expected(40, "original") * 100
    assert credit.net == expected(40, "credit_note") * 100
    assert again.net == expected(40, "rebilled") * 100
    assert credit.net + again.net == expected(40, "net") * 100
    assert credit.total + again.total == expected(40, "taxed_net_6pct") * 100
    assert (original.net + credit.net, original.tax + credit.tax) == (0, 0)


def test_tv_43_usage_older_than_the_limit_is_written_off() -> None:
    billable, written_off = correction.back_billed([21_000] * 14, months_max=12)
    assert billable == expected(43, "billable") * 100
    assert written_off == expected(43, "written_off") * 100
    assert correction.back_billed([1], months_max=12) == (1, 0)


def test_tv_44_each_line_is_rounded_once_halves_away_from_zero() -> None:
    lines = [line("0.005")] * 3
    assert printed_minor(lines, "USD") == expected(44, "per_line_half_up") * 100
    even = [one.amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN) for one in lines]
    assert sum(even) == expected(44, "per_line_half_even")
    assert to_minor(costs(lines), "USD") == expected(44, "total_then_round") * 100
    assert to_minor(-lines[0].amount, "USD") == expected(44, "credit_of_one_line") * 100


def test_prices_of_a_series_are_one_line_on_paper_and_rounded_once() -> None:
    spot = [line(f"0.00{n}", shape="price_series") for n in (4, 3, 3)]
    (paper,) = printed(spot, "USD")
    assert (paper.amount, paper.minor, paper.quantity) == (Decimal("0.010"), 1, 3)
    assert paper.unit_price is None
    assert printed(spot[:1], "USD")[0].unit_price == Decimal("0.004")
    flat = [line(f"0.00{n}") for n in (4, 3, 3)]
    assert printed_minor(flat, "USD") == 0


def test_tv_45_a_rounded_line_is_exchanged_once_at_the_invoices_rate() -> None:
    rate_of_day = Decimal("7.1234")
    assert exchanged(123_456, "USD", "CNY", rate_of_day) == expected(45, "cny") * 100
    back = round_half_up(Fraction(879_426) / Fraction(rate_of_day))
    assert back == expected(45, "back_usd") * 100
    assert to_minor(Decimal("1234.5"), "JPY") == expected(45, "jpy_of_1234_5")
    assert to_minor(Decimal("1.23456"), "KWD") == expected(45, "kwd_of_1_23456") * 1_000
    assert exchanged(100, "USD", "JPY", Decimal("151.5")) == 152
    assert exchanged(-100, "USD", "JPY", Decimal("151.5")) == -152


def test_tv_49_what_is_not_billed_is_explained_or_unaccounted_for() -> None:
    explained = {
        Loss.FAILED_NOT_BILLED: 21_000,
        Loss.FREE_GRANT: 25_000,
        Loss.OWN_USE: 15_000,
    }
    balance = Balance(1_000_000, 931_000, explained)
    assert explained[Loss.FAILED_NOT_BILLED] == expected(49, "technical_non_billed")
    assert balance.unaccounted == expected(49, "unaccounted")
    assert balance.unaccounted_percent == Fraction(figure(49, "uft_pct"))


def test_tv_50_each_run_bills_the_difference_to_the_one_before() -> None:
    runs = [1_000_000_000, 1_012_500_000, 1_011_800_000, 1_012_050_000]
    billed = settlement_runs(runs, PRICE)
    assert billed == [expected(50, name) for name in ("SF", "R1", "R2", "RF")]
    assert sum(billed) == PRICE * runs[-1] / MTOK


def test_tv_51_one_meter_has_three_bills_under_three_contracts() -> None:
    intervals = [Interval(300, 100), Interval(120, 400)]
    buy, sell = PRICE, Decimal("0.70")
    netted = feed_in.net_metering(intervals, buy=buy)
    assert (netted.due, netted.banked) == (0, 80)
    assert feed_in.net_billing(intervals, buy=buy, sell=sell) == expected(51, "net_billing")
    gross = feed_in.buy_all_sell_all(intervals, buy=buy, sell=sell)
    assert gross == expected(51, "buy_all_sell_all")
    assert feed_in.net_metering([Interval(100, 0)], buy=buy, banked=80).due == 20 * buy


def test_tv_52_instalments_are_settled_in_the_last_month() -> None:
    budget = Budget(Decimal(14_400))
    assert budget.instalment == expected(52, "instalment")
    assert budget.settle_up(Decimal(15_030)) == expected(52, "settle_up")
    assert not budget.to_review(Decimal(7_200), Decimal(7_900))
    assert budget.to_review(Decimal(7_200), Decimal(7_921))


def test_tv_53_the_day_of_a_hand_over_belongs_to_who_comes_in() -> None:
    june = Period(at("2026-06-01T00:00+08:00"), at("2026-07-01T00:00+08:00"))
    outgoing, incoming = handed_over(
        june,
        at("2026-06-17T10:30+08:00"),
        ZoneInfo("Asia/Shanghai"),
        opening=880_000_000,
        reading=905_250_000,
        closing=930_000_000,
    )
    assert PRICE * outgoing.tokens / MTOK == expected(53, "outgoing")
    assert PRICE * incoming.tokens / MTOK == expected(53, "incoming")
    assert [Decimal(one.days) for one in (outgoing, incoming)] == [Decimal(16), Decimal(14)]
    with pytest.raises(ValueError, match="run forward"):
        handed_over(june, june.end, ZoneInfo("UTC"), opening=5, reading=4, closing=6)


def test_tv_54_using_less_than_usual_is_paid_and_never_charged() -> None:
    days = [500, 510, 520, 530, 540]
    response = demand_response.responded(days, 310, 250)
    assert response.baseline == expected(54, "baseline")
    assert response.curtailed == expected(54, "curtailed")
    assert response.shortfall == expected(54, "shortfall")
    paid = demand_response.payment(response, hours=2, price_per_ktpm_hour=Decimal("0.05"))
    assert paid == expected(54, "payment")
    more = demand_response.responded(days, 600, 250)
    assert demand_response.payment(more, hours=2, price_per_ktpm_hour=Decimal(1)) == 0


def test_tv_55_energy_is_estimated_and_carbon_follows() -> None:
    model = energy.Model(Decimal(22), Decimal(235))
    assert model.gpus == expected(55, "gpus")
    wh = energy.request_wh(
        model, output_tokens=400, tokens_a_second=Decimal(50), pue=Decimal("1.2")
    )
    tolerance = Decimal("1e-6")
    assert abs(wh - expected(55, "wh_request")) < tolerance
    assert (
        abs(model.wh_per_token_and_gpu - expected(55, "wh_per_token_per_gpu")) < tolerance / 1_000
    )
    assert abs(energy.grams(wh, Decimal(560)) - expected(55, "g_co2")) < tolerance


def test_tv_57_minutes_in_24_bits_have_run_out() -> None:
    sold = datetime(2026, 11, 23, 14, 28)
    assert vouchers.minutes_since_base(sold) == expected(57, "minutes")
    assert vouchers.identifier(sold) == expected(57, "tid_mod_2_24")
    assert vouchers.rolls_over_at().isoformat() == figure(57, "rollover")


QWEN_MAX = terms(component("input", price="2.4"), component("output", price="12"))
TV_64 = {
    CancelPolicy.ESTIMATE: (335, "estimated", "0.02802"),
    CancelPolicy.DRAIN: (900, "valid", "0.0348"),
    CancelPolicy.WAIVE: (0, "valid", "0"),
}


@pytest.mark.parametrize("policy", CancelPolicy)
def test_tv_64_who_hangs_up_pays_by_the_stated_policy(policy: CancelPolicy) -> None:
    output, quality, amount = TV_64[policy]
    billed = cancelled(policy, input_tokens=10_000, characters=1_337, drained_output=900)
    assert (billed.output, billed.quality) == (output, quality)
    event = Event("e", at("2026-09-24"), "m", {"input": billed.input, "output": billed.output})
    assert costs(rate_events([event], whole(QWEN_MAX))) == Decimal(amount)
    assert billed.lost_tokens == (10_335 if policy is CancelPolicy.WAIVE else 0)
    with pytest.raises(ValueError, match="draining"):
        cancelled(CancelPolicy.DRAIN, input_tokens=1, characters=1, drained_output=None)


def test_tv_65_a_request_without_a_completion_is_our_loss() -> None:
    billed = without_completion(8_000)
    event = Event("e", at("2026-09-24"), "m", {"input": billed.input})
    assert costs(rate_events([event], whole(QWEN_MAX))) == expected(65, "customer")
    upstream = Event("e", at("2026-09-24"), "m", {"input": billed.lost_tokens})
    assert costs(rate_events([upstream], whole(QWEN_MAX))) == expected(65, "wholesale_cost")
    assert billed.loss == figure(65, "loss_class")


def test_tv_68_carbon_is_counted_by_place_and_by_certificate() -> None:
    places = [
        energy.Energy(Decimal("1.2"), Decimal(350)),
        energy.Energy(Decimal("0.8"), Decimal(120)),
    ]
    carbon = energy.statement(places, Decimal("1.5"))
    assert carbon.location_g == expected(68, "location_g")
    assert carbon.market_g == expected(68, "market_g")
    assert carbon.green_share == expected(68, "green_share")
