"""Periods tile time, whatever the zone's clocks do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.rating.period import (
    Period,
    billing_period,
    billing_periods,
    calendar_month,
    local_day,
    quarter_hour,
)
from tests.pure.tables import at, rows

# Clocks that change at one, two and three at night, at midnight, by half an hour, and never.
ZONES = (
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "America/Havana",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/St_Johns",
)
MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))

MONTHS = """
moment               | zone                | starts              | ends
2026-08-31T16:30     | UTC                 | 2026-08-01T00:00    | 2026-09-01T00:00
2026-08-31T16:30     | Asia/Shanghai       | 2026-08-31T16:00    | 2026-09-30T16:00
2026-08-31T16:30     | America/Los_Angeles | 2026-08-01T07:00    | 2026-09-01T07:00
2026-08-31T16:00     | Asia/Shanghai       | 2026-08-31T16:00    | 2026-09-30T16:00
2026-08-31T15:59:59  | Asia/Shanghai       | 2026-07-31T16:00    | 2026-08-31T16:00
2026-03-15T00:00     | America/New_York    | 2026-03-01T05:00    | 2026-04-01T04:00
"""

ANCHORS = """
anchor | moment           | starts     | ends
31     | 2026-01-31T00:00 | 2026-01-31 | 2026-02-28
31     | 2026-03-01T12:00 | 2026-02-28 | 2026-03-31
31     | 2026-03-31T00:00 | 2026-03-31 | 2026-04-30
31     | 2026-05-30T23:59 | 2026-04-30 | 2026-05-31
30     | 2028-02-29T00:00 | 2028-02-29 | 2028-03-30
29     | 2028-02-28T23:59 | 2028-01-29 | 2028-02-29
1      | 2026-12-31T23:59 | 2026-12-01 | 2027-01-01
15     | 2027-01-01T00:00 | 2026-12-15 | 2027-01-15
"""

DAYS = """
noon              | zone                | quarters
2026-03-08T17:00  | America/New_York    |  92
2026-03-09T17:00  | America/New_York    |  96
2026-11-01T17:00  | America/New_York    | 100
2026-03-29T12:00  | Europe/London       |  92
2026-10-25T12:00  | Europe/London       | 100
2026-04-05T01:00  | Australia/Lord_Howe |  98
2026-10-04T01:00  | Australia/Lord_Howe |  94
2026-03-08T04:00  | Asia/Shanghai       |  96
2026-03-08T16:00  | America/Havana      |  92
2026-11-01T16:00  | America/Havana      | 100
2011-12-29T20:00  | Pacific/Apia        |  96
2011-12-30T20:00  | Pacific/Apia        |  96
"""

QUARTERS = """
moment                           | starts
2026-11-18T10:07:30.123456       | 2026-11-18T10:00
2026-11-18T10:15                 | 2026-11-18T10:15
2026-11-18T10:14:59.999999       | 2026-11-18T10:00
2026-11-18T10:29:59+05:45        | 2026-11-18T04:30
"""


def test_a_period_holds_its_start_and_not_its_end() -> None:
    period = Period(at("2026-01-01"), at("2026-02-01"))
    assert period.start in period
    assert period.end - timedelta(microseconds=1) in period
    assert period.end not in period


def test_a_period_runs_forward() -> None:
    with pytest.raises(ValueError, match="end after it starts"):
        Period(at("2026-01-01"), at("2026-01-01"))


def test_a_period_is_the_same_whatever_zone_its_ends_were_written_in() -> None:
    shanghai = Period(at("2026-01-01T08:00+08:00"), at("2026-02-01T08:00+08:00"))
    assert shanghai == Period(at("2026-01-01"), at("2026-02-01"))
    assert shanghai.start.tzinfo is UTC


def test_an_hour_that_the_clock_repeats_is_two_hours() -> None:
    new_york = ZoneInfo("America/New_York")
    first = datetime(2026, 11, 1, 1, 30, tzinfo=new_york)
    second = first.replace(fold=1)
    assert quarter_hour(first) == at("2026-11-01T05:30")
    assert quarter_hour(second) == at("2026-11-01T06:30")
    assert second not in Period(first, second)  # Python alone compares their wall clocks: equal


def test_a_naive_moment_is_refused_everywhere() -> None:
    naive, zone = datetime(2026, 1, 1), ZoneInfo("UTC")
    for refuse in (
        lambda: Period(naive, at("2026-02-01")),
        lambda: Period(at("2025-02-01"), naive),
        lambda: naive in Period(at("2026-01-01"), at("2026-02-01")),
        lambda: quarter_hour(naive),
        lambda: local_day(zone, naive),
        lambda: calendar_month(zone, naive),
        lambda: billing_period(1, zone, naive),
        lambda: list(billing_periods(1, zone, start=naive, until=at("2026-02-01"))),
        lambda: list(billing_periods(1, zone, start=at("2026-01-01"), until=naive)),
    ):
        with pytest.raises(ValueError, match="no time zone"):
            refuse()


@pytest.mark.parametrize(("moment", "starts"), rows(QUARTERS))
def test_a_quarter_hour_starts_on_a_utc_quarter(moment: str, starts: str) -> None:
    assert quarter_hour(at(moment)) == at(starts)


@pytest.mark.parametrize(("moment", "zone", "starts", "ends"), rows(MONTHS))
def test_a_month_is_the_month_of_the_zone(moment: str, zone: str, starts: str, ends: str) -> None:
    assert calendar_month(ZoneInfo(zone), at(moment)) == Period(at(starts), at(ends))


@pytest.mark.parametrize(("anchor", "moment", "starts", "ends"), rows(ANCHORS))
def test_the_anchor_comes_back_after_a_short_month(
    anchor: str, moment: str, starts: str, ends: str
) -> None:
    period = billing_period(int(anchor), ZoneInfo("UTC"), at(moment))
    assert period == Period(at(starts), at(ends))


@pytest.mark.parametrize("anchor", [0, 32, -1])
def test_an_anchor_is_a_day_of_a_month(anchor: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 31"):
        billing_period(anchor, ZoneInfo("UTC"), at("2026-01-01"))


@pytest.mark.parametrize(("noon", "zone", "quarters"), rows(DAYS))
def test_a_local_day_has_the_quarter_hours_its_clocks_give_it(
    noon: str, zone: str, quarters: str
) -> None:
    day = local_day(ZoneInfo(zone), at(noon))
    assert at(noon) in day
    assert (day.end - day.start) // timedelta(minutes=15) == int(quarters)


def test_a_midnight_that_the_clock_skips_is_the_instant_of_the_skip() -> None:
    havana = ZoneInfo("America/Havana")
    day = local_day(havana, at("2026-03-08T16:00"))
    assert day.start == at("2026-03-08T05:00")
    assert day.start.astimezone(havana).isoformat() == "2026-03-08T01:00:00-04:00"


def test_the_first_period_may_be_short_and_the_last_is_cut_at_the_end() -> None:
    zone, start = ZoneInfo("Asia/Shanghai"), at("2026-01-20T10:30+08:00")
    cuts = [start, *map(at, ["2026-02-01T00:00+08:00", "2026-03-01T00:00+08:00"])]
    whole = list(billing_periods(1, zone, start=start, until=at("2026-03-15")))
    assert whole == [Period(cuts[0], cuts[1]), Period(cuts[1], cuts[2])]
    end = at("2026-02-10")
    ended = list(billing_periods(1, zone, start=start, until=at("2026-03-15"), end=end))
    assert ended == [Period(cuts[0], cuts[1]), Period(cuts[1], end)]


def test_only_periods_that_have_ended_are_yielded() -> None:
    zone, start = ZoneInfo("UTC"), at("2026-01-01")
    just_before, exactly = at("2026-01-31T23:59:59.999999"), at("2026-02-01")
    assert list(billing_periods(1, zone, start=start, until=just_before)) == []
    assert list(billing_periods(1, zone, start=start, until=exactly)) == [Period(start, exactly)]


@settings(max_examples=40, deadline=None)
@given(st.integers(28, 31), st.sampled_from(ZONES), MOMENTS, st.integers(0, 900))
@example(31, "Pacific/Apia", at("2011-11-30"), 60)  # the 30th of December 2011 does not exist
def test_billing_periods_tile_time(anchor: int, zone_name: str, start: datetime, days: int) -> None:
    zone, until = ZoneInfo(zone_name), start + timedelta(days=days)
    periods = list(billing_periods(anchor, zone, start=start, until=until))
    starts, ends = [period.start for period in periods], [period.end for period in periods]
    assert starts[1:] == ends[:-1]
    assert starts[:1] in ([], [start])
    open_since = ends[-1] if ends else start
    assert open_since <= until < billing_period(anchor, zone, open_since).end or not days
    for period in periods[1:]:
        assert period == billing_period(anchor, zone, period.start)
        assert period == billing_period(anchor, zone, period.end - timedelta(microseconds=1))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ZONES), MOMENTS)
@example("Pacific/Apia", at("2011-12-30T10:00"))
@example("America/St_Johns", at("2010-11-07T02:31:30"))  # yesterday again, a minute past midnight
@example("America/St_Johns", at("2009-11-01T02:31:30"))  # and last month again
@example("America/Toronto", at("1919-03-31T04:45"))  # from 23:30 to 00:30: midnight is skipped
def test_every_moment_lies_in_its_local_day_and_month(zone_name: str, moment: datetime) -> None:
    zone = ZoneInfo(zone_name)
    for period in (local_day(zone, moment), calendar_month(zone, moment)):
        assert moment in period
        assert quarter_hour(period.start) == period.start
        assert period.end - period.start >= timedelta(hours=23)
