"""Every local day of every zone is partitioned by a calendar: no instant twice, none in between."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from billing.rating.calendar import WEEK, TouCalendar, TouRule, Window
from billing.rating.peak_event import PeakEvent
from billing.rating.period import Period, day_of
from billing.rating.season import Season
from tests.pure.tables import at

QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)
FIRST, LAST = date(2015, 1, 1), date(2040, 12, 31)
SAMPLED = [
    "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Shanghai", "Europe/London",
    "America/Havana", "Africa/Cairo", "Asia/Kathmandu", "Africa/Casablanca", "America/Caracas",
    "Pacific/Chatham", "Asia/Pyongyang",
]  # fmt: skip  # Caracas and Pyongyang moved for good, by half an hour


def calendar(zone: ZoneInfo) -> TouCalendar:
    """A calendar with everything in it that a calendar can have."""
    return TouCalendar(
        zone,
        "shoulder",
        (
            TouRule("winter", (*WEEK[:5], "workday"), (Window(1020, 1200),), True, False, ("w",)),
            TouRule("peak", WEEK[:5], (Window(9 * 60, 12 * 60), Window(14 * 60, 18 * 60)), True),
            TouRule("off_peak", (*WEEK, "holiday"), (Window(23 * 60, 7 * 60),)),
        ),
        frozenset({date(2026, 10, 1), date(2030, 3, 31)}),
        frozenset({date(2026, 10, 10)}),
        (Season("w", (11, 1), (2, 29)),),
        (PeakEvent("critical", Period(at("2026-01-05T10:15"), at("2026-01-05T12:45"))),),
    )  # fmt: skip


def days(zone: ZoneInfo) -> Iterator[tuple[date, Period]]:
    """Every local day there is; two that meet are the same instant."""
    day, last_end = FIRST, None
    while day <= LAST:
        if day_exists(zone, day):
            period = day_of(zone, day)
            assert last_end in (None, period.start), (zone.key, day)
            last_end = period.end
            yield day, period
        day += DAY


def day_exists(zone: ZoneInfo, day: date) -> bool:
    midnight = [datetime(one.year, one.month, one.day, tzinfo=zone) for one in (day, day + DAY)]
    return midnight[0].timestamp() < midnight[1].timestamp()


def partitioned(of: TouCalendar, period: Period) -> bool:
    """Segments begin and end with the day, meet, and agree with each instant in them."""
    segments = of.segments(period)
    assert (segments[0][0], segments[-1][1]) == (period.start, period.end)
    assert all(before[1] == after[0] for before, after in pairwise(segments))
    for start, end, bucket in segments:
        assert start < end
        assert bucket in of.buckets
        assert of.bucket_at(start) == of.bucket_at(end - timedelta.resolution) == bucket
    return True


def partition_of(zone_name: str) -> int:
    """Check a zone: each day by its length, and cut whole wherever the clock is odd that day."""
    zone = ZoneInfo(zone_name)
    of, checked = calendar(zone), 0
    for day, period in days(zone):
        hours = period.end - period.start
        assert timedelta(hours=20) <= hours <= timedelta(hours=28), (zone_name, day)
        assert hours % QUARTER == timedelta(), (zone_name, day)
        if hours != DAY or day.day == 1 or (day.year == 2026 and day.month in (1, 10)):
            checked += partitioned(of, period)
    return checked


@pytest.mark.parametrize("zone", SAMPLED[:2])
def test_a_sample_of_zones_is_partitioned_from_2015_to_2040(zone: str) -> None:
    assert partition_of(zone) > 300


@pytest.mark.parametrize("zone", SAMPLED[2:])
def test_days_on_which_a_clock_moves_are_partitioned(zone: str) -> None:
    of, moved = ZoneInfo(zone), 0
    for day in (date(2026, 1, 1) + DAY * n for n in range(365)):
        period = day_of(of, day)
        if period.end - period.start != DAY:
            moved += partitioned(calendar(of), period)
    assert moved in (0, 2, 4)


@pytest.mark.whole
@pytest.mark.parametrize("zone", sorted(available_timezones() - {"localtime"}))
def test_every_day_of_every_zone_is_partitioned(zone: str) -> None:
    assert partition_of(zone) > 300
