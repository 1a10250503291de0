"""A price that changes inside a billing period: the period is cut, the counters run on."""

import json
from decimal import Decimal

import pytest

from billing.rating.period import Period
from billing.rating.rate import PricedTerms, Segment, rate, segments
from billing.rating.tariff import Terms
from tests.pure.tables import at, rows
from tests.pure.tariffs import (
    BEIJING,
    MTOK,
    SEPTEMBER,
    component,
    costs,
    steps,
    terms,
    used,
    written,
)

OLD = terms(component("input", steps=steps((0, "2.00"), (100 * MTOK, "1.60"))))
NEW = terms(component("input", steps=steps((0, "1.80"), (100 * MTOK, "1.50"))))


def change(*of: Terms, on: str, period: Period = SEPTEMBER) -> list[PricedTerms]:
    """Cut a period at the instants, separated by blanks, where one version follows another."""
    cuts = [period.start, *map(at, on.split()), period.end]
    return [
        PricedTerms(f"v{number}", Period(start, end), some)
        for number, (some, start, end) in enumerate(zip(of, cuts, cuts[1:], strict=False), 1)
    ]


def test_a_price_change_neither_resets_nor_prorates_the_steps() -> None:
    usage = [used(80 * MTOK, on="2026-09-03T00:00"), used(120 * MTOK, on="2026-09-20T00:00")]
    rated = rate(usage, change(OLD, NEW, on="2026-09-16"))
    assert written(rated) == "80_000_000 @ 2.00, 20_000_000 @ 1.80, 100_000_000 @ 1.50"
    assert costs(rated) == 346
    assert costs(rated) != 160 + 210  # reset: 100M @ 1.80 and 20M @ 1.50
    assert [line.version for line in rated] == ["v1", "v2", "v2"]


BEFORE = terms(component("input", price="0.14"), component("output", price="0.28"))
AFTER = terms(
    component("input", prices={"peak": "0.44", "off_peak": "0.22"}),
    component("output", prices={"peak": "1.32", "off_peak": "0.66"}),
    calendar=BEIJING,
)
CHANGES = """
starts                    | amount | because
2026-08-16T15:45:00+00:00 | 0.168  | the last quarter-hour at the old price
2026-08-16T16:00:00+00:00 | 0.286  | midnight in Beijing, off-peak at the new one
2026-08-17T01:00:00+00:00 | 0.572  | Monday 09:00 in Beijing, peak
"""


@pytest.mark.parametrize(("starts", "amount", "because"), rows(CHANGES))
def test_a_price_changes_at_an_instant_inside_a_utc_day(
    starts: str, amount: str, because: str
) -> None:
    august = Period(at("2026-08-01"), at("2026-09-01"))
    stretches = change(BEFORE, AFTER, on="2026-08-16T16:00", period=august)
    usage = [used(MTOK, on=starts), used(100_000, "output", on=starts)]
    assert costs(rate(usage, stretches)) == Decimal(amount), because


def test_a_counter_belongs_to_the_code_also_where_the_shape_changes() -> None:
    flat = terms(component("input", price="3.00"))
    usage = [used(100 * MTOK, on="2026-09-03T00:00"), used(MTOK, on="2026-09-20T00:00")]
    assert written(rate(usage, change(flat, OLD, on="2026-09-16"))) == (
        "100_000_000 @ 3.00, 1_000_000 @ 1.60"
    )


def test_an_allowance_is_per_billing_period_and_not_per_version() -> None:
    small, large = (
        terms(
            component("input", price="1"),
            allowances=[
                {"code": "free", "tokens": tokens, "models": ["*"], "registers": ["input"]}
            ],
        )
        for tokens in (100, 150)
    )
    usage = [used(120, on="2026-09-03T00:00"), used(120, on="2026-09-20T00:00")]
    grown = rate(usage, change(small, large, on="2026-09-16"))
    assert [line.quantity for line in grown] == [100, 20, 50, 70]
    shrunk = rate(usage, change(large, small, on="2026-09-16"))
    assert [line.quantity for line in shrunk] == [120, 120]


def test_segments_tile_the_period_and_are_cut_where_version_or_bucket_changes() -> None:
    day = Period(at("2026-09-24T00:00+08:00"), at("2026-09-25T00:00+08:00"))
    stretches = change(
        BEFORE, AFTER, AFTER, on="2026-09-24T10:00+08:00 2026-09-24T20:00+08:00", period=day
    )
    edges = [f"2026-09-24T{hour}:00+08:00" for hour in ("00", "10", "12", "14", "18", "20")]
    labels = [
        ("v1", ""),
        ("v2", "peak"),
        ("v2", "off_peak"),
        ("v2", "peak"),
        ("v2", "off_peak"),
        ("v3", "off_peak"),
    ]
    cuts = [*map(at, edges), day.end]
    assert segments(stretches) == [
        Segment(start, end, *label)
        for start, end, label in zip(cuts, cuts[1:], labels, strict=False)
    ]


def test_stretches_follow_each_other_without_a_gap() -> None:
    first, second = change(OLD, NEW, on="2026-09-16")
    for broken in ([second, first], [first, first], [first, PricedTerms("v3", SEPTEMBER, NEW)]):
        with pytest.raises(ValueError, match="must start when"):
            segments(broken)


def test_a_billing_period_has_one_currency() -> None:
    yuan = terms(component("input", price="1"), currency="CNY")
    with pytest.raises(ValueError, match="currency"):
        rate([], change(OLD, yuan, on="2026-09-16"))


def test_a_trace_says_which_version_step_rule_and_stretch_of_time() -> None:
    usage = [used(80 * MTOK, on="2026-09-03T00:00"), used(120 * MTOK, on="2026-09-20T00:00")]
    trace = rate(usage, change(OLD, NEW, on="2026-09-16"))[2].trace
    assert (
        json.loads(json.dumps(trace))
        == trace
        == {
            "version": "v2",
            "component": "input",
            "shape": "graduated",
            "matched": {
                "component": 1,
                "models": "*",
                "register": "input",
                "regions": None,
                "service_classes": None,
            },
            "step": {"number": 2, "of": 2, "from": 100 * MTOK, "to": None},
            "segments": 1,
            "first": "2026-09-16T00:00:00+00:00",
            "last": "2026-10-01T00:00:00+00:00",
        }
    )
