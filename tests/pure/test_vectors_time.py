"""Worked cases of time: buckets, versions, local days, seasons, critical peaks."""

from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from billing.rating.calendar import read_calendar
from billing.rating.difference import still_owed
from billing.rating.document import Field
from billing.rating.events import Event, rate_events
from billing.rating.money import to_minor
from billing.rating.period import QUARTER, Period, calendar_month, day_of, local_day
from billing.rating.rate import PricedTerms, rate
from billing.rating.tariff import Terms
from billing.rating.versions import Published, as_known
from tests.pure.tables import at, rows
from tests.pure.tariffs import BEIJING, MTOK, component, costs, terms, used, whole
from tests.pure.vectors import figure

WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MISS = {"input": MTOK, "output": 100_000}


def expected(number: int, name: str) -> Decimal:
    return Decimal(figure(number, name))


def price(of: Terms, occurred_at: str, ended_at: str | None = None) -> tuple[str, Decimal]:
    """Return the bucket and the price of a million tokens in and a tenth of that out."""
    end = at(ended_at) if ended_at else None
    event = Event("e", at(occurred_at), "m", MISS, ended_at=end)
    month = calendar_month(ZoneInfo("UTC"), event.occurred_at)
    lines = rate_events([event], [PricedTerms("v", month, of)])
    (bucket,) = {line.bucket for line in lines}
    return bucket, costs(lines)


CHAT_2025 = terms(
    component("input", prices={"std": "0.27", "off": "0.135"}),
    component("output", prices={"std": "1.10", "off": "0.55"}),
    calendar={
        "zone": "UTC",
        "default": "std",
        "rules": [{"bucket": "off", "days": WEEK, "windows": [["16:30", "00:30"]]}],
    },
)
TV_16 = """
instant                   | bucket | amount
2025-07-01T16:29:59+00:00 | std    | 0.38
2025-07-01T16:30:00+00:00 | off    | 0.190
2025-07-02T00:29:59+00:00 | off    | 0.190
2025-07-02T00:30:00+00:00 | std    | 0.38
"""


@pytest.mark.parametrize(("instant", "bucket", "amount"), rows(TV_16))
def test_tv_16_a_window_runs_over_midnight(instant: str, bucket: str, amount: str) -> None:
    assert price(CHAT_2025, instant) == (bucket, Decimal(amount))


HOURS = (
    component("input", prices={"peak": "1.32", "off_peak": "0.66"}),
    component("output", prices={"peak": "3.96", "off_peak": "1.98"}),
)
V4_PRO = terms(*HOURS, calendar=BEIJING | {"workdays": ["2026-09-20", "2026-10-10"]})
TV_17 = """
instant                   | because                               | bucket | amount
2026-09-24T09:00:00+08:00 | Thu start of peak                     | peak   | 1.716
2026-09-24T11:59:59+08:00 | last second                           | peak   | 1.716
2026-09-24T12:00:00+08:00 | lunch: off                            | off    | 0.858
2026-09-25T10:00:00+08:00 | Fri Mid-Autumn holiday                | off    | 0.858
2026-09-26T10:00:00+08:00 | Saturday                              | off    | 0.858
2026-09-20T10:00:00+08:00 | Sunday make-up workday stays off-peak | off    | 0.858
2026-09-28T10:00:00+08:00 | Mon                                   | peak   | 1.716
2026-09-28T01:00:00+00:00 | 01:00 UTC = 09:00 CST                 | peak   | 1.716
2026-09-28T10:00:00+00:00 | 10:00 UTC = 18:00 CST, end excluded   | off    | 0.858
"""


@pytest.mark.parametrize(("instant", "because", "bucket", "amount"), rows(TV_17))
def test_tv_17_weekdays_two_windows_and_public_holidays(
    instant: str, because: str, bucket: str, amount: str
) -> None:
    found, cost = price(V4_PRO, instant)
    assert (found.removesuffix("_peak"), cost) == (bucket, Decimal(amount)), because


def test_a_make_up_workday_counts_where_a_rule_names_it() -> None:
    calendar = BEIJING | {"workdays": ["2026-09-20"]}
    (rule,) = BEIJING["rules"]  # type: ignore[misc]
    named = terms(*HOURS, calendar=calendar | {"rules": [rule | {"days": [*WEEK[:5], "workday"]}]})
    assert price(named, "2026-09-20T10:00:00+08:00")[0] == "peak"
    spared = rule | {"days": WEEK, "except": ["holiday", "workday"]}
    assert price(terms(*HOURS, calendar=calendar | {"rules": [spared]}), "2026-09-20T02:00")[0] == (
        "off_peak"
    )


def test_tv_18_an_ordinary_week_has_35_peak_hours() -> None:
    week = Period(at("2026-09-07T00:00+08:00"), at("2026-09-14T00:00+08:00"))
    calendar = read_calendar(Field(BEIJING))
    peak = [end - start for start, end, bucket in calendar.segments(week) if bucket == "peak"]
    assert sum(peak, timedelta()) / timedelta(hours=1) == expected(18, "peak_hours")


def test_tv_19_a_version_starts_at_an_instant_inside_a_day() -> None:
    flat = terms(component("input", price="0.14"), component("output", price="0.28"))
    hours = terms(
        component("input", prices={"peak": "0.44", "off_peak": "0.22"}),
        component("output", prices={"peak": "1.32", "off_peak": "0.66"}),
        calendar=BEIJING,
    )
    cut = at("2026-08-16T16:00")
    stretches = [
        PricedTerms("v1", Period(at("2026-08-01"), cut), flat),
        PricedTerms("v2", Period(cut, at("2026-09-01")), hours),
    ]
    before, after = (
        costs(rate_events([Event("e", at(instant), "m", MISS)], stretches))
        for instant in ("2026-08-16T15:59:59Z", "2026-08-16T16:00:00Z")
    )
    assert (before, after) == (expected(19, "before"), expected(19, "after_off_peak"))
    date_only = expected(19, "after_off_peak")  # a start by date alone reprices the whole 16th
    assert before != date_only


UTILITY = terms(
    component("input", prices={"peak": "6", "shoulder": "4", "off": "2"}),
    calendar={
        "zone": "America/New_York",
        "default": "shoulder",
        "rules": [
            {"bucket": "peak", "days": WEEK[:5], "windows": [["14:00", "20:00"]]},
            {"bucket": "off", "days": WEEK, "windows": [["23:00", "07:00"]]},
        ],
    },
)
TV_20 = """
day        | quarters | peak | shoulder | off | energy | with the standing charge
2026-03-08 | 92       | 0    | 64       | 28  | 31.2   | 32.70
2026-03-09 | 96       | 24   | 40       | 32  | 36.8   | 38.30
2026-11-01 | 100      | 0    | 64       | 36  | 32.8   | 34.30
2026-11-02 | 96       | 24   | 40       | 32  | 36.8   | 38.30
"""


@pytest.mark.parametrize(
    ("day", "quarters", "peak", "shoulder", "off", "energy", "all_"), rows(TV_20)
)
def test_tv_20_a_local_day_of_23_or_25_hours_has_one_standing_charge(
    day: str, quarters: str, peak: str, shoulder: str, off: str, energy: str, all_: str
) -> None:
    zone = ZoneInfo("America/New_York")
    period = local_day(zone, at(f"{day}T12:00-05:00"))
    starts = [period.start + QUARTER * n for n in range((period.end - period.start) // QUARTER)]
    assert len(starts) == int(quarters)
    usage = [used(100_000, on=start.isoformat()) for start in starts]
    lines = rate(usage, whole(UTILITY, period=period))
    found = {line.bucket: line.quantity // 100_000 for line in lines}
    counts = {"peak": int(peak), "shoulder": int(shoulder), "off": int(off)}
    assert found == {bucket: count for bucket, count in counts.items() if count}
    assert costs(lines) == Decimal(energy)
    assert costs(lines) + Decimal("1.50") == Decimal(all_)


TV_21 = """
day        | zone                | half_hours
2026-03-29 | Europe/London       | 46
2026-10-25 | Europe/London       | 50
2026-04-05 | Australia/Lord_Howe | 49
2026-10-04 | Australia/Lord_Howe | 47
2026-03-08 | Asia/Shanghai       | 48
"""


@pytest.mark.parametrize(("day", "zone", "half_hours"), rows(TV_21))
def test_tv_21_a_local_day_has_as_many_half_hours_as_its_clock_runs(
    day: str, zone: str, half_hours: str
) -> None:
    period = day_of(ZoneInfo(zone), date.fromisoformat(day))
    assert (period.end - period.start) / (2 * QUARTER) == int(half_hours)


def test_tv_22_a_repeated_local_time_is_two_instants() -> None:
    zone = ZoneInfo("America/New_York")
    period = day_of(zone, date(2026, 11, 1))
    quarters = [period.start + QUARTER * n for n in range(100)]
    half_past = [one for one in quarters if one.astimezone(zone).strftime("%H:%M") == "01:30"]
    assert [one.isoformat() for one in half_past] == [figure(22, "first"), figure(22, "second")]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/Los_Angeles"])
def test_tv_23_the_billing_month_is_that_of_the_accounts_zone(zone: str) -> None:
    month = calendar_month(ZoneInfo(zone), at("2026-08-31T16:30Z"))
    assert month.start.astimezone(ZoneInfo(zone)).strftime("%Y-%m") == figure(23, zone)


def critical(mode: str) -> Terms:
    return terms(
        component("input", prices={"day": "4", "critical": "20"}),
        calendar={
            "zone": "UTC",
            "default": "day",
            "events": [
                {
                    "bucket": "critical",
                    "start": "2026-09-24T15:00:00Z",
                    "end": "2026-09-24T17:00:00Z",
                    "mode": mode,
                }
            ],
        },
    )


def test_tv_24_a_critical_peak_replaces_the_price_and_does_not_add() -> None:
    usage = [used(3 * MTOK, on="2026-09-24T14:45"), used(2 * MTOK, on="2026-09-24T16:45")]
    assert costs(rate(usage, whole(critical("replace")))) == expected(24, "amount")
    assert costs(rate(usage[1:], whole(critical("replace")))) == expected(24, "event_cost")
    plain = terms(component("input", price="4"))
    assert costs(rate(usage, whole(plain))) == expected(24, "base_would_be")
    added = rate(usage, whole(critical("add")))
    assert costs(added) == 12 + 2 * 24
    assert {line.bucket for line in added} == {"day", "day+critical"}


def test_tv_25_interval_prices_may_be_negative() -> None:
    prices = ["3.10", "2.95", "-0.40", "8.75"]
    spot = {"start": "2026-09-24T00:00:00Z", "step_minutes": 30, "prices": prices}
    of = terms(component("input", series=spot))
    quantities = (1_200_000, 800_000, 2_000_000, 50_000)
    usage = [
        used(quantity, on=(at("2026-09-24") + n * 2 * QUARTER).isoformat())
        for n, quantity in enumerate(quantities)
    ]
    amount = costs(rate(usage, whole(of)))
    assert amount == expected(25, "amount")
    assert to_minor(amount, "USD") == expected(25, "billed") * 100
    late = spot | {"prices": [*prices[:3], None]}
    early = rate(usage, whole(terms(component("input", series=late))))
    assert early[-1].bucket == "estimated"
    owed = still_owed(rate(usage, whole(of)), early)
    assert costs(early) + costs(owed) == amount  # the true-up, once the price is published


ALWAYS = {"bucket": "peak", "days": WEEK, "windows": [["09:00", "12:00"], ["14:00", "18:00"]]}
EVERY_DAY = terms(*HOURS, calendar=BEIJING | {"rules": [ALWAYS]})


def test_tv_59_a_rule_learnt_later_rates_again_without_touching_what_was_issued() -> None:
    saturday = [Event("e", at("2026-08-22T10:00:00+08:00"), "m", MISS)]
    month = Period(at("2026-08-16T16:00"), at("2026-09-16T16:00"))
    published = [
        Published("v4-pro@1", EVERY_DAY, month.start, known_at=at("2026-08-15")),
        Published("v4-pro@2", V4_PRO, month.start, known_at=at("2026-08-23")),
    ]
    issued, again = (
        rate_events(saturday, as_known(published, month, known_at=at(day)))
        for day in ("2026-08-22", "2026-08-23")
    )
    assert {line.version for line in issued} == {"v4-pro@1"}
    assert costs(issued) == expected(59, "rated_on_22_aug")
    assert costs(again) == expected(59, "rerated_on_23_aug")
    assert costs(still_owed(again, issued)) == expected(59, "adjustment")


def test_of_two_versions_the_one_learnt_later_holds_where_it_is_valid() -> None:
    def published(name: str, start: str, known: str, end: str | None = None) -> Published:
        return Published(name, EVERY_DAY, at(start), at(known), at(end) if end else None)

    versions = [
        published("a", "2026-01-01", "2026-01-01"),
        published("fix", "2026-09-05", "2026-09-20", "2026-09-10"),
        published("b", "2026-09-15", "2026-09-01"),
    ]
    month = Period(at("2026-09-01"), at("2026-10-01"))

    def held(known_at: str) -> list[tuple[str, int]]:
        stretches = as_known(versions, month, known_at=at(known_at))
        return [(one.version, one.period.start.day) for one in stretches]

    assert held("2026-08-31") == [("a", 1)]
    assert held("2026-09-01") == [("a", 1), ("b", 15)]
    assert held("2026-09-20") == [("a", 1), ("fix", 5), ("a", 10), ("b", 15)]
    with pytest.raises(ValueError, match="no version of the tariff holds"):
        as_known(versions, month, known_at=at("2025-12-31"))


def test_tv_60_the_tariff_says_which_end_of_a_request_counts() -> None:
    start, end = "2026-09-24T11:59:50+08:00", "2026-09-24T12:00:30+08:00"
    by_end = terms(*HOURS, calendar=BEIJING, time_basis="request_end")
    assert price(V4_PRO, start, end)[1] == expected(60, "time_basis_start")
    assert price(by_end, start, end)[1] == expected(60, "time_basis_end")
