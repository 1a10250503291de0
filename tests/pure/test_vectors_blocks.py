"""Worked cases of blocks: what the period has used decides the price."""

from decimal import Decimal
from zoneinfo import ZoneInfo

from billing.rating.difference import still_owed
from billing.rating.money import to_minor
from billing.rating.period import Period
from billing.rating.proration import share
from billing.rating.rate import PricedTerms, rate
from billing.rating.tariff import Terms
from tests.pure.tables import at
from tests.pure.tariffs import MTOK, component, costs, steps, terms, used, whole, written
from tests.pure.vectors import figure

BLOCKS = steps((0, "2.00"), (100 * MTOK, "1.60"), (500 * MTOK, "1.20"))
GRADUATED = terms(component("input", steps=BLOCKS))
VOLUME = terms(component("input", steps=BLOCKS, shape="volume"))


def expected(number: int, name: str) -> Decimal:
    return Decimal(figure(number, name))


def test_tv_26_a_block_ends_inside_an_interval() -> None:
    early = [used(90 * MTOK, on="2026-09-03T00:00")]
    late = [*early, used(30 * MTOK, on="2026-09-20T00:00")]
    parts = still_owed(rate(late, whole(GRADUATED)), rate(early, whole(GRADUATED)))
    assert written(parts) == "10_000_000 @ 2.00, 20_000_000 @ 1.60"
    assert costs(parts) == expected(26, "amount")


def test_tv_27_volume_reprices_everything_and_has_a_cliff() -> None:
    usage = [used(120 * MTOK)]
    assert costs(rate(usage, whole(GRADUATED))) == expected(27, "graduated")
    assert costs(rate(usage, whole(VOLUME))) == expected(27, "volume")
    edge, beyond = ([used(100 * MTOK + more)] for more in (0, 1))
    assert costs(rate(edge, whole(VOLUME))) == expected(27, "volume_at_100M")
    assert costs(rate(beyond, whole(VOLUME))) == expected(27, "volume_at_100M_plus_1")


def test_volume_is_reached_by_the_whole_period_also_over_a_price_change() -> None:
    cheaper = terms(component("input", steps=steps((0, "1"), (100 * MTOK, "0.5")), shape="volume"))
    halves = [
        PricedTerms("v1", Period(at("2026-09-01"), at("2026-09-16")), VOLUME),
        PricedTerms("v2", Period(at("2026-09-16"), at("2026-10-01")), cheaper),
    ]
    usage = [used(60 * MTOK, on="2026-09-03"), used(60 * MTOK, on="2026-09-20")]
    assert written(rate(usage, halves)) == "60_000_000 @ 1.60, 60_000_000 @ 0.5"


def test_tv_28_a_price_change_does_not_set_the_counter_back() -> None:
    newer = terms(component("input", steps=steps((0, "1.80"), (100 * MTOK, "1.50"))))
    stretches = [
        PricedTerms("v1", Period(at("2026-09-01"), at("2026-09-16")), GRADUATED),
        PricedTerms("v2", Period(at("2026-09-16"), at("2026-10-01")), newer),
    ]
    usage = [used(80 * MTOK, on="2026-09-03"), used(120 * MTOK, on="2026-09-20")]
    lines = rate(usage, stretches)
    before, after = (
        costs(line for line in lines if line.version == version) for version in ("v1", "v2")
    )
    assert (before, after) == (expected(28, "before"), expected(28, "after"))
    assert costs(lines) == expected(28, "amount")
    reset = 160 + 100 * Decimal("1.8") + 20 * Decimal("1.5")
    assert costs(lines) != reset


def test_tv_29_a_plan_change_prorates_by_local_days() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    month = Period(at("2026-09-01T00:00+08:00"), at("2026-10-01T00:00+08:00"))
    change = at("2026-09-11T00:00+08:00")
    first, second = Period(month.start, change), Period(change, month.end)

    def plan(code: str, tokens: int, price: str) -> Terms:
        free = {"tokens": tokens, "models": ["*"], "registers": ["input"], "prorate": True}
        return terms(component("input", price=price), allowances=[{"code": code, **free}])

    plans = [
        ("A", first, plan("a", 100 * MTOK, "2.0"), 300, 40 * MTOK),
        ("B", second, plan("b", 500 * MTOK, "1.5"), 900, 350 * MTOK),
    ]
    total = 0
    for name, part, full, fee, quantity in plans:
        mine = full.prorated(part, month, zone)
        assert mine.allowances[0].tokens == expected(29, f"allow_{name}")
        lines = rate([used(quantity, on=part.start.isoformat())], whole(mine, period=part))
        (over,) = (line for line in lines if line.amount)
        assert over.quantity == expected(29, f"over_{name}")
        assert to_minor(over.amount, "USD") == expected(29, f"line_{name}") * 100
        standing = share(Decimal(fee), part, month, zone, "USD")
        assert standing == expected(29, f"standing_{name}") * 100
        total += standing + to_minor(over.amount, "USD")
    assert total == expected(29, "total") * 100


def test_tv_41_late_usage_pays_the_price_of_when_it_was_used() -> None:
    september = terms(component("input", price="1.60"))
    late = [used(2_500_000, on="2026-09-30T12:00")]
    owed = still_owed(rate(late, whole(september)), rate([], whole(september)))
    assert costs(owed) == expected(41, "line")
    october = terms(component("input", price="1.45"))
    wrong = to_minor(costs(rate(late, whole(october))), "USD")
    assert wrong == expected(41, "wrong") * 100
    assert wrong != to_minor(costs(owed), "USD")


def test_tv_42_late_usage_takes_its_place_in_the_blocks() -> None:
    closed = [used(99 * MTOK, on="2026-09-20T00:00")]
    late = used(4 * MTOK, on="2026-09-10T00:00")
    before, now = rate(closed, whole(GRADUATED)), rate([*closed, late], whole(GRADUATED))
    assert costs(still_owed(now, before)) == expected(42, "delta")
    assert costs(rate([late], whole(GRADUATED))) == expected(42, "naive_first_block")
