"""Worked cases of charges: capacity, demand, fees, minimum, commitment, ladder."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from billing.rating.bill import STEPS, add_load, bill, bill_events
from billing.rating.capacity import Capacity, Coefficients, Taken, normalised, units_needed
from billing.rating.charge import Basis, Facts
from billing.rating.demand import Contract, Demand, busiest, peak
from billing.rating.event import Event
from billing.rating.fee import Fee
from billing.rating.ladder import Held, Ladder, Rung
from billing.rating.money import to_minor
from billing.rating.period import Period
from billing.rating.rate import RatedLine
from billing.rating.usage import PricedTerms
from tests.pure.tables import at, rows
from tests.pure.tariffs import SEPTEMBER, component, costs, terms, used, whole
from tests.pure.vectors import figure

UTC = ZoneInfo("UTC")
FACTS = Facts(zone=UTC)
MINUTE = timedelta(minutes=1)


def expected(number: int, name: str) -> Decimal:
    return Decimal(figure(number, name))


def basis(*before: RatedLine, **facts: object) -> Basis:
    return Basis("v1", SEPTEMBER, SEPTEMBER, "USD", Facts(UTC, **facts), before)  # type: ignore[arg-type]


def costing(amount: str, code: str = "use") -> RatedLine:
    return RatedLine("v1", code, "m", "input", "", 0, 1, Decimal(amount), 1, {})


GLM = Capacity(
    code="ptu",
    models=("glm-5.1",),
    input_tpm=60_000,
    output_tpm=5_000,
    input_price=Decimal("0.04"),
    output_price=Decimal("0.12"),
    cache_read=Decimal("0.2"),
    steps=(Coefficients(0), Coefficients(32_000, Decimal("1.33"), Decimal("1.17"))),
)


def test_tv_13_reserved_capacity_is_taken_step_by_step() -> None:
    short = GLM.taken({"input": 10_000, "output": 1_000})
    long = GLM.taken({"input": 50_000, "output": 1_000})
    cached = GLM.taken({"input": 20_000, "cache_read": 30_000, "output": 1_000})
    assert (short.input, short.output) == (expected(13, "case1"), 1_000)
    assert (long.input, long.output) == (expected(13, "case2_in"), expected(13, "case2_out"))
    assert cached.input == expected(13, "case3_in")
    as_paid_by_the_request = 50_000 * Decimal("1.33")
    assert long.input != as_paid_by_the_request


def test_a_reservation_carries_what_it_can_and_the_rest_is_paid_as_it_goes() -> None:
    calls = [
        Event(f"e{n}", at(f"2026-09-24T12:00:{n:02}"), "glm-5.1", {"input": 30_000, "output": 100})
        for n in range(3)
    ]
    split = GLM.split(calls)
    assert [event.service_class for event in split.events] == ["reserved", "reserved", ""]
    assert (split.spilled, split.taken.input) == (1, 60_000)
    assert GLM.utilisation(split.taken, 1) == Fraction(60_200, 65_000)
    searches = {"input": 10, "web_search": 9, "cache_token_hours": 8, "output_audio": 7}
    assert GLM.taken(searches) == Taken(Decimal(10), Decimal(7))
    batch = [replace(one, service_class="batch") for one in calls]
    assert GLM.split(batch).events == batch  # paid as what it is
    rejecting = replace(GLM, overflow="reject").split(calls)
    assert len(rejecting.events) == 2
    of = terms(
        component(
            "carried", registers=["input", "output"], price="0", service_classes=["reserved"]
        ),
        component("spill", registers=["input", "output"], price="4"),
        charges=[{"code": "ptu", "kind": "capacity", **GLM.as_document()}],
    )
    document = bill_events(calls, whole(of), FACTS)
    assert costs(line for line in document.lines if line.component == "spill") == Decimal("0.1204")
    hours = 30 * 24
    reserved = costs(line for line in document.lines if line.component == "ptu")
    assert reserved == hours * (60 * Decimal("0.04") + 5 * Decimal("0.12"))


def test_tv_14_units_are_bought_in_steps_from_a_least_number() -> None:
    load = normalised(60, prompt=1_000, cached=Fraction(1, 4), output=200, output_weight=4)
    assert load == expected(14, "normalised_tpm")
    assert units_needed(load, tpm_a_unit=3_000, least=0, step=1) == expected(14, "ptu")
    deployed = units_needed(load, tpm_a_unit=3_000, least=15, step=5)
    assert deployed == expected(14, "deployed")
    assert deployed * 730 == expected(14, "monthly_usd_at_1_per_hour_730h")


def test_tv_15_fees_are_a_share_of_other_money() -> None:
    byok = Fee("byok", percent=Decimal(5), free_requests=1_000_000)
    lines = byok.lines(basis(costing("5000"), requests=1_250_000))
    assert costs(lines) == expected(15, "byok_fee")
    assert byok.lines(basis(costing("5000"), requests=1_000_000)) == []
    top_up = Fee("top-up", percent=Decimal("5.5"), at_least=Decimal("0.80"))
    assert top_up.on(Decimal(10)) == expected(15, "topup_10")
    assert top_up.on(Decimal(100)) == expected(15, "topup_100")


HISTORY = [610, 700, 655, 980, 720, 690, 640, 700, 710, 688, 702]


def test_tv_30_a_ratchet_remembers_the_peak() -> None:
    demand = Demand(
        "demand", Decimal("0.90"), minimum_tpm=500_000, ratchet_percent=80, ratchet_months=11
    )
    load = {"key": {at("2026-09-24T12:00") + MINUTE * n: 640_000 for n in range(15)}}
    before = {"demand": [ktpm * 1_000 for ktpm in HISTORY]}
    (line,) = demand.lines(basis(load=load, peaks_before=before))
    assert demand.billed_tpm(640_000, before["demand"])[1] == expected(30, "ratchet_floor") * 1_000
    assert line.quantity == expected(30, "billing_demand") * 1_000
    assert line.amount == expected(30, "charge")
    assert demand.billed_tpm(990_000, before["demand"])[0] == 990_000


MINUTES = [40_000] * 8 + [300_000] * 14 + [40_000] * 8


def test_tv_31_a_sliding_window_finds_what_fixed_blocks_hide() -> None:
    found = {
        "fixed": peak(MINUTES, window=15, step=15),
        "sliding5": peak(MINUTES, window=15, step=5),
        "sliding1": peak(MINUTES, window=15, step=1),
        "one_minute_peak": peak(MINUTES, window=1, step=1),
    }
    for name, tpm in found.items():
        assert round(tpm / 1_000, 6) == Fraction(figure(31, name))


def test_tv_32_excess_over_the_contract_costs_double() -> None:
    demand = Demand("demand", Decimal(38), contract=Contract(1_000_000))

    def lines(ktpm: int) -> list[RatedLine]:
        load = {"key": {at("2026-09-24T12:00") + MINUTE * n: ktpm * 1_000 for n in range(15)}}
        return demand.lines(basis(load=load))

    within, above = lines(1_040), lines(1_180)
    assert costs(within) == expected(32, "within_1040")
    assert costs(above) == expected(32, "charge")
    assert above[1].quantity == expected(32, "excess") * 1_000


POWER = Ladder(
    "occupancy",
    Decimal("0.90"),
    down=(
        Rung(Decimal("0.70"), Decimal("0.5")),
        Rung(Decimal("0.65"), Decimal(1)),
        Rung(Decimal(0), Decimal(2)),
    ),
    up=(Rung(Decimal("0.95"), Decimal("0.15")),),
)
TV_33 = """
factor | share   | on 10,000.00
0.96   | -0.0075 | -75.00
0.92   | -0.003  | -30.00
0.90   | 0       | 0.00
0.85   | 0.025   | 250.00
0.70   | 0.100   | 1000.00
0.66   | 0.140   | 1400.00
0.60   | 0.250   | 2500.00
"""


HELD = """
tokens | register            | held    | residency_s | factor
    85 | cache_token_seconds |     100 |           1 | 0.85
    85 | cache_token_seconds |      60 |           1 | 1.00
   999 | cache_token_hours   |     100 |         300 | 0.83
     0 | cache_token_hours   |       1 |         300 | 0.00
"""


@pytest.mark.parametrize(("tokens", "register", "held", "residency_s", "factor"), rows(HELD))
def test_the_factor_is_what_the_tokens_explain_of_the_cache_that_was_held(
    tokens: str, register: str, held: str, residency_s: str, factor: str
) -> None:
    of = Held(register, int(residency_s))
    used = {"output": int(tokens), "web_search": 7, register: int(held)}
    assert of.factor(used) == Decimal(factor)
    assert of.factor({**used, register: 0}) is None


def test_a_ladder_that_says_what_is_held_round_trips() -> None:
    ladder = {
        "code": "cache", "kind": "ladder", "standard": "0.90",
        "down": [{"to": "0.70", "percent": "0.5"}],
        "held": {"register": "cache_token_hours", "residency_s": 300},
    }  # fmt: skip
    assert terms(component("input", price="1"), charges=[ladder]).as_document()["charges"] == [
        ladder
    ]


@pytest.mark.parametrize(("factor", "share", "amount"), rows(TV_33))
def test_tv_33_a_ladder_costs_below_the_standard_and_earns_above(
    factor: str, share: str, amount: str
) -> None:
    assert POWER.percent(Decimal(factor)) == Decimal(share) * 100
    lines = POWER.lines(basis(costing("10000"), occupancy=Decimal(factor)))
    assert costs(lines) == Decimal(amount)


def test_tv_34_a_minimum_month_by_month_and_a_commitment_at_the_end() -> None:
    of = terms(
        component("input", price="1"),
        charges=[
            {"code": "least", "kind": "minimum", "amount": "50.00"},
            {"code": "year", "kind": "commitment", "amount": "12000"},
        ],
    )
    month = bill([used(31_200_000)], whole(of), FACTS)
    assert month.net_minor == expected(34, "month_use_31_20") * 100
    assert [line.component for line in month.lines] == ["input", "least"]
    busy = bill([used(51_200_000)], whole(of), FACTS)
    assert busy.net_minor == 5_120  # nothing to top up
    spent = int(expected(34, "annual_spend") * 100)
    last = replace(
        FACTS, spent_before_minor={"year": spent - 5_120}, terms_ending=frozenset({"year"})
    )
    final = bill([used(51_200_000)], whole(of), last)
    assert final.lines[-1].amount == expected(34, "true_up")
    assert final.net_minor == 5_120 + expected(34, "true_up") * 100


METERS = {"A": [100, 40, 30, 20], "B": [20, 30, 80, 10], "pool": [900, 950, 700, 990]}


def test_tv_66_the_peak_of_a_sum_is_less_than_the_sum_of_peaks() -> None:
    starts = [at("2026-09-24T12:00") + MINUTE * n for n in range(4)]
    loads = {name: dict(zip(starts, ktpm, strict=True)) for name, ktpm in METERS.items()}
    pool = loads.pop("pool")
    start = busiest(pool, Period(starts[0], starts[-1] + MINUTE), window=1, step=1)
    assert start == starts[3]
    facts = {"load": loads, "system_peaks": {"d": start}}
    one = {"price": Decimal(1), "window_minutes": 1, "step_minutes": 1}
    measured = {
        kind: Demand("d", basis=kind, **one).measured_tpm(basis(**facts))  # type: ignore[arg-type]
        for kind in ("each_meter", "account", "coincident")
    }
    assert measured["each_meter"] == expected(66, "sum_of_peaks")
    assert measured["account"] == expected(66, "account_peak")
    assert measured["coincident"] == expected(66, "coincident")
    unknown = Demand("d", basis="coincident", **one)  # type: ignore[arg-type]
    assert unknown.measured_tpm(basis(load=loads)) == 0


@pytest.mark.parametrize(("window", "step", "first"), [(1, 1, 5), (2, 2, 4), (2, 1, 1), (3, 1, 0)])
def test_the_busiest_window_is_the_first_of_equal_ones(window: int, step: int, first: int) -> None:
    """Minutes 0 to 5 hold 1 5 5 0 4 6: twice there are two that hold ten."""
    start = at("2026-09-24T12:00")
    load = {start + MINUTE * minute: tokens for minute, tokens in enumerate((1, 5, 5, 0, 4, 6))}
    period = Period(start, start + MINUTE * 6)
    assert busiest(load, period, window=window, step=step) == start + MINUTE * first
    assert busiest({}, period, window=window, step=step) is None


def test_a_standing_charge_is_per_local_day_also_over_a_change_of_versions() -> None:
    def of(price: str) -> object:
        daily = {"code": "plan", "kind": "standing", "each": "day", "price": price}
        return terms(component("input", price="1"), charges=[daily])

    cut = at("2026-09-11T10:30")
    stretches = [
        PricedTerms("v1", replace(SEPTEMBER, end=cut), of("1.50")),  # type: ignore[arg-type]
        PricedTerms("v2", replace(SEPTEMBER, start=cut), of("2.00")),  # type: ignore[arg-type]
    ]
    lines = bill([], stretches, FACTS).lines
    assert [(line.version, line.quantity) for line in lines] == [("v1", 10), ("v2", 20)]


def test_a_providers_cost_is_passed_on_with_a_markup() -> None:
    passed = {"code": "cost", "kind": "pass_through", "models": ["gpt-*"], "markup_percent": "20"}
    of = terms(component("input", price="1"), charges=[passed])
    facts = replace(FACTS, provider_cost_micros={"gpt-5": 12_345_678, "other": 5})
    (line,) = bill([], whole(of), facts).lines
    assert line.amount == Decimal("14.8148136")
    assert to_minor(line.amount, "USD") == 1_481


def test_load_counts_tokens_in_the_minute_a_request_ended() -> None:
    first = Event("a", at("2026-09-24T12:00:59"), "m", {"input": 10, "output": 5}, meter="k")
    second = replace(first, id="b", ended_at=at("2026-09-24T12:01:10"))
    load: dict[str, dict[datetime, int]] = {}
    for event in (first, second):
        add_load(load, event)
    assert load == {"k": {at("2026-09-24T12:00"): 15, at("2026-09-24T12:01"): 15}}


def test_the_sixteen_steps_are_counted() -> None:
    assert [step.number for step in STEPS] == list(range(1, 17))
    page = (Path(__file__).resolve().parents[2] / "docs/internals/rating.md").read_text()
    for number, does, module in STEPS:
        assert f"| {number} | {does} | `{module}` |" in page
