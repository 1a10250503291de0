"""What a tariff may ask for is on the invoice: charges, grants, parts of periods, series."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, transaction

from accounts.models import Organization
from billing import catalog, costs, invoicing, subscriptions
from billing.lines import rated
from billing.models import Invoice, InvoiceLine, Subscription, SystemPeak
from billing.rating.sentences import sentences
from tests import build
from tests.meter import apply_all, database, empty_meter, make_event, store_events

__all__ = ["database", "empty_meter"]

pytestmark = pytest.mark.django_db

AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MTOK = 1_000_000
QUARTER = timedelta(minutes=15)


def document(**fields: Any) -> dict[str, Any]:
    return {**build.flat_document(), **fields}


def on(
    organization: Organization, of: dict[str, Any], starts_at: datetime = SEPTEMBER, **fields: Any
) -> Subscription:
    tariff = build.make_tariff(document=of, **fields)
    return build.make_subscription(organization=organization, starts_at=starts_at, tariff=tariff)


def use(organization: Organization, at: datetime, quantity: int, **what: str) -> None:
    build.make_reading(organization=organization, starts_at=at, quantity=quantity, **what)


def close(subscription: Subscription, now: datetime) -> list[Invoice]:
    return invoicing.close_period(subscription.pk, now)


def lines_of(invoice: Invoice) -> list[tuple[str, int, int]]:
    return [
        (line.component, line.quantity, line.amount_minor)
        for line in invoice.lines.order_by("position")
    ]


GRANT = {
    "code": "welcome",
    "tokens": 5 * MTOK,
    "models": ["*"],
    "registers": ["input"],
    "once": True,
}


def test_a_grant_given_once_is_drained_once(acme: Organization) -> None:
    subscription = on(acme, document(allowances=[GRANT]))
    use(acme, SEPTEMBER, 3 * MTOK)
    use(acme, OCTOBER, 3 * MTOK)
    use(acme, NOVEMBER, 3 * MTOK)
    invoices = close(subscription, DECEMBER)
    assert [lines_of(invoice) for invoice in invoices] == [
        [("allowance:welcome", 3 * MTOK, 0)],
        [("allowance:welcome", 2 * MTOK, 0), ("all", MTOK, 100)],
        [("all", 3 * MTOK, 300)],
    ]


def test_late_usage_that_drains_a_grant_is_charged_where_it_was_free_before(
    acme: Organization,
) -> None:
    """September's late million takes the grant that October had: both are differences."""
    subscription = on(acme, document(allowances=[GRANT]))
    use(acme, SEPTEMBER, 3 * MTOK)
    use(acme, OCTOBER, 3 * MTOK)
    close(subscription, OCTOBER)
    use(acme, SEPTEMBER, MTOK)
    (october,) = close(subscription, NOVEMBER)
    assert lines_of(october) == [
        ("allowance:welcome", MTOK, 0),
        ("all", 2 * MTOK, 200),
        ("allowance:welcome", MTOK, 0),
    ]
    use(acme, SEPTEMBER + QUARTER, MTOK)  # later still: the next close finds both months
    (november,) = close(subscription, DECEMBER)
    assert lines_of(november) == [
        ("allowance:welcome", MTOK, 0),
        ("all", MTOK, 100),
        ("allowance:welcome", -MTOK, 0),
    ]


def test_a_void_invoice_drains_nothing_and_its_period_drains_again(acme: Organization) -> None:
    subscription = on(acme, document(allowances=[GRANT]))
    use(acme, SEPTEMBER, 3 * MTOK)
    use(acme, OCTOBER, 3 * MTOK)
    september, october = close(subscription, NOVEMBER)
    invoicing.void(september, "wrong address", NOVEMBER)
    assert invoicing.owed(subscription, october_of(subscription)) == []  # September counts unbilled
    (again,) = close(subscription, NOVEMBER)
    assert lines_of(again) == lines_of(september)
    assert again.replaces == september
    use(acme, NOVEMBER, MTOK)
    (november,) = close(subscription, DECEMBER)
    assert lines_of(november) == [("all", MTOK, 100)]
    assert lines_of(october) == [("allowance:welcome", 2 * MTOK, 0), ("all", MTOK, 100)]


def october_of(subscription: Subscription) -> Any:
    return subscriptions.period_at(subscription, OCTOBER)


def test_each_models_grant_is_its_own_and_another_tariffs_is_another(acme: Organization) -> None:
    each = GRANT | {"each_model": True, "tokens": 2 * MTOK}
    subscription = on(acme, document(allowances=[each]))
    use(acme, SEPTEMBER, 3 * MTOK, model="a")
    use(acme, OCTOBER, MTOK, model="a")
    use(acme, OCTOBER, MTOK, model="b")
    (_, october) = close(subscription, NOVEMBER)
    assert lines_of(october) == [("allowance:welcome", MTOK, 0), ("all", MTOK, 100)]
    other = build.make_tariff(code="other", document=document(allowances=[each]))
    moved = subscriptions.change_tariff(subscription, other, NOVEMBER)
    use(acme, NOVEMBER, MTOK, model="a")
    (november,) = close(moved, DECEMBER)
    assert lines_of(november) == [("allowance:welcome", MTOK, 0)]


def test_the_cost_so_far_knows_what_was_drained_before_it_is_billed(acme: Organization) -> None:
    subscription = on(acme, document(allowances=[GRANT]))
    use(acme, SEPTEMBER, 4 * MTOK)
    use(acme, OCTOBER, 3 * MTOK)
    cost = costs.so_far(acme, OCTOBER + timedelta(hours=1))
    assert cost is not None
    assert cost.amount_minor == 200  # September has no invoice yet
    assert subscription.invoices.count() == 0


CHARGES = [
    {"code": "plan", "kind": "standing", "each": "day", "price": "1.50"},
    {"code": "support", "kind": "fee", "percent": "5", "of": ["all"]},
    {"code": "wire", "kind": "fee", "price": "0.30"},
    {"code": "least", "kind": "minimum", "amount": "100.00"},
]


def test_charges_stand_on_the_invoice_after_the_usage(acme: Organization) -> None:
    subscription = on(acme, document(charges=CHARGES))
    use(acme, SEPTEMBER, 31_200_000)
    (invoice,) = close(subscription, OCTOBER)
    assert [
        (line.component, line.model, line.description, line.amount_minor)
        for line in invoice.lines.order_by("position")
    ] == [
        ("all", "gpt-5", "gpt-5: Input", 3_120),
        ("plan", "", "Standing charge (plan), 30 of 30 days", 4_500),
        ("support", "", "Fee (support), 5% of 31.20 USD", 156),
        ("wire", "", "Fee (wire)", 30),
        ("least", "", "Minimum charge (least), what 78.06 USD fall short of 100.00 USD", 2_194),
    ]
    assert invoice.total_minor == 10_000


def test_late_usage_changes_the_charges_that_follow_from_it(acme: Organization) -> None:
    subscription = on(acme, document(charges=CHARGES))
    use(acme, SEPTEMBER, 31_200_000)
    close(subscription, OCTOBER)
    use(acme, SEPTEMBER, 20 * MTOK)
    (october,) = close(subscription, NOVEMBER)
    late = october.lines.filter(usage_start=SEPTEMBER)
    assert {line.component: line.amount_minor for line in late} == {
        "all": 2_000,
        "support": 100,
        "least": -2_100,
    }
    assert all("difference for 2026-09-01" in line.description for line in late)
    (november,) = close(subscription, DECEMBER)
    assert not november.lines.filter(usage_start=SEPTEMBER).exists()


def test_a_period_without_usage_costs_its_charges_and_void_and_again_the_same(
    acme: Organization,
) -> None:
    subscription = on(acme, document(charges=CHARGES[:1]))
    (invoice,) = close(subscription, OCTOBER)
    assert invoice.total_minor == 4_500
    invoicing.void(invoice, "wrong address", OCTOBER)
    (again,) = close(subscription, OCTOBER)
    assert lines_of(again) == [("plan", 30, 4_500)]


def test_a_minimum_and_days_of_a_part_of_a_period_are_that_part(acme: Organization) -> None:
    """Ten of September's thirty days."""
    start = SEPTEMBER + timedelta(days=20)
    subscription = on(acme, document(charges=[CHARGES[0], CHARGES[3]]), start)
    (invoice,) = close(subscription, OCTOBER)
    assert lines_of(invoice) == [("plan", 10, 1_500), ("least", 1_833, 1_833)]


def test_demand_is_the_highest_quarter_hour_and_a_ratchet_remembers(acme: Organization) -> None:
    """DOMAIN TV-30: max(640, 80% of 980 = 784, 500) x 0.90 = 705.60."""
    demand = {
        "code": "peak",
        "kind": "demand",
        "price": "0.90",
        "window_minutes": 15,
        "minimum_tpm": 500_000,
        "ratchet": {"percent": 80, "months": 11},
    }
    free = build.flat_document(price="0") | {"charges": [demand]}
    subscription = on(acme, free, AUGUST)
    use(acme, AUGUST + timedelta(days=3), 980_000 * 15)
    use(acme, SEPTEMBER + timedelta(days=3), 600_000 * 15)
    use(acme, SEPTEMBER + timedelta(days=3), 40_000 * 15, register="output")
    august, september = close(subscription, OCTOBER)
    assert lines_of(august)[-1] == ("peak", 980_000, 88_200)
    assert lines_of(september)[-1] == ("peak", 784_000, 70_560)
    assert september.lines.get(component="peak").description == (
        "Demand (peak), peak of 640,000 tokens a minute"
    )


def test_a_peak_by_the_minute_is_billed_and_no_period_closes_before_it_is_known(
    database: psycopg.Connection[Any], acme: Organization
) -> None:
    """1,500,000 tokens in a minute are a peak of as many, and of a fifteenth in a quarter-hour."""

    def peak(minutes: int) -> dict[str, object]:
        return {
            "code": f"peak-{minutes}",
            "kind": "demand",
            "price": "1",
            "window_minutes": minutes,
        }

    free = build.flat_document(price="0")
    subscription = on(acme, free)
    for number, minute in enumerate((0, 14, 15)):
        at = SEPTEMBER + timedelta(days=3, minutes=minute)
        spent = {"input": 1_500_000 if minute else 7}
        event = make_event(now=OCTOBER, id=f"e{number}", occurred_at=at.isoformat(), usage=spent)
        store_events(database, acme, [event])
    apply_all()
    fine = free | {"charges": [peak(1), peak(2), peak(15)]}
    learning = catalog.preview(subscription.tariff, fine, SEPTEMBER + timedelta(days=9)).learning
    assert "is summed by the minute too, from its events" in learning.sentence
    catalog.publish_approved(
        subscription.tariff, fine, SEPTEMBER + timedelta(days=9), SEPTEMBER, correcting=False
    )
    assert close(subscription, OCTOBER) == []
    apply_all()
    (invoice,) = close(subscription, OCTOBER)
    # Both minutes lie in one block of two, and in two quarter-hours.
    assert lines_of(invoice)[-3:] == [
        ("peak-1", 1_500_000, 150_000),
        ("peak-2", 1_500_000, 150_000),
        ("peak-15", 100_000, 10_000),
    ]
    began = {one.component: one.trace["demand"]["peak_at"] for one in invoice.lines.all()[1:]}
    assert began == {
        "peak-1": "2026-09-04T00:14:00+00:00",
        "peak-2": "2026-09-04T00:14:00+00:00",
        "peak-15": "2026-09-04T00:00:00+00:00",
    }


def test_coincident_demand_is_the_own_load_at_the_systems_peak_whoever_is_billed_first(
    acme: Organization, globex: Organization
) -> None:
    """DOMAIN TV-66 in quarter-hours: A has 20 and B has 10 when the whole system is at its peak."""
    demand = {
        "code": "pool", "kind": "demand", "price": "1", "window_minutes": 15, "basis": "coincident",
    }  # fmt: skip
    free = build.flat_document(price="0") | {"charges": [demand]}
    loads = {acme: (100, 40, 30, 20), globex: (20, 30, 80, 10)}
    others = build.make_organization(name="Others", slug="others")
    loads[others] = tuple(
        whole - a - b for whole, a, b in zip((900, 950, 700, 990), *loads.values(), strict=True)
    )
    for organization, ktpm in loads.items():
        for number, rate in enumerate(ktpm):
            use(organization, SEPTEMBER + QUARTER * number, rate * 15_000)
    tariff = build.make_tariff(document=free)
    a, b = (
        build.make_subscription(organization=one, starts_at=SEPTEMBER, tariff=tariff)
        for one in (acme, globex)
    )
    period = subscriptions.period_at(a, SEPTEMBER)
    assert [line.component for line in invoicing.owed(a, period)] == ["all"]  # not known before
    (first,) = close(a, OCTOBER)
    assert lines_of(first)[-1] == ("pool", 20_000, 2_000)
    line = first.lines.get(component="pool")
    assert line.description == "Demand (pool), at the system's peak 20,000 tokens a minute"
    assert line.trace["demand"]["peak_at"] == "2026-09-01T00:45:00+00:00"
    use(others, SEPTEMBER + QUARTER * 4, 2_000 * 15_000)  # late, and more: it moves no peak
    (second,) = close(b, OCTOBER)
    assert lines_of(second)[-1] == ("pool", 10_000, 1_000)
    assert invoicing.owed(a, period) == []
    peak = SystemPeak.objects.get()
    assert (peak.starts_at, peak.tokens) == (SEPTEMBER + QUARTER * 3, 990 * 15_000)
    with pytest.raises(IntegrityError, match="may stand behind invoices"), transaction.atomic():
        peak.delete()


def test_a_ladder_goes_by_the_cache_that_readings_say_was_held(acme: Organization) -> None:
    """DOMAIN TV-33: 0.85 of the standard 0.90 adds 2.5 %, here to 100.00."""
    ladder = {
        "code": "cache", "kind": "ladder", "standard": "0.90",
        "down": [{"to": "0.70", "percent": "0.5"}],
        "held": {"register": "cache_token_seconds", "residency_s": 300},
    }  # fmt: skip
    subscription = on(acme, document(charges=[ladder]))
    use(acme, SEPTEMBER, 100 * MTOK)
    use(acme, OCTOBER, 100 * MTOK)
    use(acme, OCTOBER, 100 * MTOK * 300 * 20 // 17, register="cache_token_seconds")
    (september, october) = close(subscription, NOVEMBER)
    assert [one[0] for one in lines_of(september)] == ["all"]  # nothing was held
    assert lines_of(october)[-1] == ("cache", 10_000, 250)
    line = october.lines.get(component="cache")
    assert sentences(*rated(line), "USD")[2] == (
        "100,000,000 tokens, each good for 300 seconds of cache, over 35,294,117,647 cache token "
        "seconds are a factor of 0.85, worth 2.5% of 100.00 USD."
    )


def test_excess_over_the_contract_costs_double(acme: Organization) -> None:
    """DOMAIN TV-32: 1,050 x 38 + 130 x 76 = 49,780.00."""
    contract = {"tpm": 1_000_000, "band_percent": 105, "excess_factor": "2"}
    demand = {"code": "agreed", "kind": "demand", "price": "38", "window_minutes": 15}
    free = build.flat_document(price="0") | {"charges": [demand | {"contract": contract}]}
    subscription = on(acme, free)
    use(acme, SEPTEMBER + timedelta(days=3), 1_180_000 * 15)
    (invoice,) = close(subscription, OCTOBER)
    assert invoice.total_minor == 4_978_000


def test_each_meters_demand_is_of_each_key(acme: Organization) -> None:
    def demand(code: str, basis: str) -> dict[str, object]:
        return {
            "code": code, "kind": "demand", "price": "1", "window_minutes": 30, "basis": basis,
        }  # fmt: skip

    both = [demand("together", "account"), demand("each", "each_meter")]
    subscription = on(acme, build.flat_document(price="0") | {"charges": both})
    for key, start in (("one", SEPTEMBER), ("two", SEPTEMBER + timedelta(hours=5))):
        build.make_reading(organization=acme, starts_at=start, quantity=3_000_000, api_key=key)
    (invoice,) = close(subscription, OCTOBER)
    assert lines_of(invoice)[-2:] == [("together", 100_000, 10_000), ("each", 200_000, 20_000)]


def test_a_commitment_is_settled_when_its_term_ends(acme: Organization) -> None:
    """Terms of two months over and over; DOMAIN TV-34 in the small."""
    commitment = {"code": "pair", "kind": "commitment", "amount": "12.00", "months": 2}
    subscription = on(acme, document(charges=[commitment]))
    use(acme, SEPTEMBER, 10 * MTOK)
    use(acme, OCTOBER, 450_750)
    use(acme, NOVEMBER, MTOK)
    september, october, november = close(subscription, DECEMBER)
    assert lines_of(september) == [("all", 10 * MTOK, 1_000)]
    assert lines_of(october) == [("all", 450_750, 45), ("pair", 155, 155)]
    assert lines_of(november) == [("all", MTOK, 100)]


def test_late_usage_of_a_term_gives_the_true_up_back(acme: Organization) -> None:
    commitment = {"code": "pair", "kind": "commitment", "amount": "12.00", "months": 2}
    subscription = on(acme, document(charges=[commitment]))
    use(acme, SEPTEMBER, 10 * MTOK)
    close(subscription, NOVEMBER)
    use(acme, OCTOBER, MTOK)
    (november,) = close(subscription, DECEMBER)
    assert lines_of(november) == [("all", MTOK, 100), ("pair", -100, -100)]


def test_a_commitment_without_months_ends_with_the_subscription(acme: Organization) -> None:
    subscription = on(
        acme, document(charges=[{"code": "all-year", "kind": "commitment", "amount": "12"}])
    )
    use(acme, SEPTEMBER, MTOK)
    subscriptions.end(subscription, OCTOBER + timedelta(days=10))
    _, october = close(subscription, NOVEMBER)
    assert lines_of(october) == [("all-year", 1_100, 1_100)]


def test_a_plan_change_prorates_days_and_allowances(acme: Organization) -> None:
    """DOMAIN TV-29: 300.00 and 900.00 a month, 738.33 together."""

    def plan(code: str, tokens: int, price: str, fee: str) -> dict[str, Any]:
        free = {"code": code, "tokens": tokens, "models": ["*"], "registers": ["input"]}
        return build.flat_document(price=price) | {
            "allowances": [free | {"prorate": True}],
            "charges": [
                {"code": f"{code}-fee", "kind": "standing", "each": "period", "price": fee}
            ],
        }

    acme.zone = "Asia/Shanghai"
    acme.save(update_fields=["zone"])
    month, change, end = (
        datetime.fromisoformat(f"2026-{day}T00:00+08:00") for day in ("09-01", "09-11", "10-01")
    )
    first = on(acme, plan("a", 100 * MTOK, "2.0", "300"), month, code="plan-a")
    other = build.make_tariff(code="plan-b", document=plan("b", 500 * MTOK, "1.5", "900"))
    second = subscriptions.change_tariff(first, other, change)
    use(acme, month, 40 * MTOK)
    use(acme, change, 350 * MTOK)
    (a,), (b,) = close(first, end), close(second, end)
    assert lines_of(a) == [
        ("allowance:a", 33_333_333, 0), ("all", 6_666_667, 1_333), ("a-fee", 10_000, 10_000),
    ]  # fmt: skip
    assert lines_of(b) == [
        ("allowance:b", 333_333_333, 0), ("all", 16_666_667, 2_500), ("b-fee", 60_000, 60_000),
    ]  # fmt: skip
    assert a.total_minor + b.total_minor == 73_833


def test_standing_charges_follow_a_change_of_versions(acme: Organization) -> None:
    subscription = on(acme, document(charges=CHARGES[:1]))
    dearer = document(charges=[CHARGES[0] | {"price": "2.00"}])
    catalog.add_version(
        subscription.tariff, dearer, SEPTEMBER + timedelta(days=10, hours=10), SEPTEMBER
    )
    (invoice,) = close(subscription, OCTOBER)
    assert lines_of(invoice) == [("plan", 10, 1_500), ("plan", 20, 4_000)]


def spot(*prices: str | None) -> dict[str, Any]:
    """DOMAIN TV-25."""
    series = {"start": "2026-09-24T00:00:00Z", "step_minutes": 30, "prices": list(prices)}
    component = {"code": "spot", "models": ["*"], "registers": ["input"], "per": MTOK}
    return {
        "currency": "USD",
        "components": [{**component, "shape": "price_series", "series": series}],
    }


SPOT = datetime(2026, 9, 24, tzinfo=UTC)


def test_a_month_of_interval_prices_is_one_line_rounded_once(acme: Organization) -> None:
    """3.72 + 2.36 - 0.80 + 0.4375 = 5.7175 -> 5.72."""
    subscription = on(acme, spot("3.10", "2.95", "-0.40", "1.75"))
    for number, tokens in enumerate((1_200_000, 800_000, 2_000_000, 250_000)):
        use(acme, SPOT + number * 2 * QUARTER, tokens)
    (invoice,) = close(subscription, OCTOBER)
    (line,) = invoice.lines.all()
    assert (line.quantity, line.amount_exact, line.amount_minor) == (
        4_250_000,
        Decimal("5.7175"),
        572,
    )
    assert line.unit_price is None
    assert invoicing.explain(line).sentences[0] == (
        "4,250,000 input tokens of gpt-5 at 4 prices from -0.40 USD to 3.10 USD per million = "
        "5.7175 USD."
    )


def test_a_price_learnt_later_is_a_difference_and_may_be_negative(acme: Organization) -> None:
    subscription = on(acme, spot("1.00", None))
    use(acme, SPOT, 4 * MTOK)
    use(acme, SPOT + 2 * QUARTER, 2 * MTOK)
    (september,) = close(subscription, OCTOBER)
    assert [line.bucket for line in september.lines.all()] == ["", "estimated"]
    start = SEPTEMBER - timedelta(days=1)
    catalog.publish_approved(
        subscription.tariff, spot("1.00", "-0.50"), start, OCTOBER, correcting=True
    )
    (october,) = close(subscription, NOVEMBER)
    assert september.total_minor + october.total_minor == 400 - 100
    (november,) = close(subscription, DECEMBER)
    assert november.lines.count() == 0


def test_only_a_series_may_have_a_price_below_zero(acme: Organization) -> None:
    subscription = on(acme, build.flat_document())
    use(acme, SEPTEMBER, MTOK)
    invoice = invoicing.draft(subscription, subscriptions.period_at(subscription, SEPTEMBER))
    (line,) = invoice.lines.all()
    lines = InvoiceLine.objects.filter(pk=line.pk)
    for trace in (line.trace, {}):
        for price in (Decimal(-1), None):
            with pytest.raises(IntegrityError, match="line_price_is_sane"), transaction.atomic():
                lines.update(unit_price=price, trace=trace)
    lines.update(unit_price=Decimal(-1), trace={"shape": "price_series"})


def test_charges_so_far_are_those_of_the_days_gone_by(acme: Organization) -> None:
    on(acme, document(charges=[CHARGES[0], CHARGES[3]]))
    use(acme, SEPTEMBER, MTOK)
    cost = costs.so_far(acme, SEPTEMBER + timedelta(days=9, hours=23, minutes=50))
    assert cost is not None
    # 1.00 of usage and ten days at 1.50; ten days' part of the least is 33.33.
    assert [(line.component, line.quantity) for line in cost.lines] == [
        ("all", MTOK), ("plan", 10), ("least", 1_733),
    ]  # fmt: skip
    assert cost.amount_minor == 3_333
    assert cost.expected_minor == 10_000
    assert {one.model for one in cost.by_model} == {"", "gpt-5"}


REFUSED = [
    ({"time_basis": "request_end"}, "occurred_at"),
    (
        {"components": [{"code": f"c{size}", "models": ["*"], "registers": ["input"], "per": 1,
                         "shape": "flat", "price": "1", "when": {"input_above": size}}
                        for size in range(1, 46)]},
        "at 64 sizes of input at most, and there is no room for these: choose among 16,000, 16,384",
    ),
    (
        {"components": [{"code": "c", "models": ["*"], "registers": ["input"], "per": 1,
                         "shape": "flat", "price": "1", "when": {"has": ["vip"]}}]},
        "readings tell of audio_output, media_input",
    ),
    (
        {"charges": [{"code": "d", "kind": "demand", "price": "1", "window_minutes": 10,
                      "basis": "coincident"}]},
        "make its window and step multiples of 15",
    ),
    (
        {"currency": "EUR", "charges": [{"code": "p", "kind": "pass_through", "models": ["*"],
                                         "markup_percent": "20"}]},
        "make a tariff in USD for it",
    ),
    (
        {"charges": [{"code": "l", "kind": "ladder", "standard": "0.90",
                      "down": [{"to": "0", "percent": "1"}]}]},
        "add held, with that register",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_what_readings_cannot_tell_is_refused_with_the_reason(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(catalog.TariffRefused, match=said):
        build.make_tariff(document=document(**fields), currency=fields.get("currency", "USD"))
