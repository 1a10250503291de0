"""Every instant lies in exactly one bucket of a time-of-use calendar."""

import json
from collections import Counter
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.rating.calendar import WEEK, TouCalendar, TouRule, Window, read_calendar
from billing.rating.document import Field, TariffInvalid
from billing.rating.period import Period, local_day, quarter_hour
from tests.pure.tables import at, rows

WEEKDAYS = WEEK[:5]
QUARTER = timedelta(minutes=15)
SHANGHAI, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")


def read(document: object) -> TouCalendar:
    return read_calendar(Field(document))


def window(text: str) -> Window:
    opens, closes = (int(end[:2]) * 60 + int(end[3:]) for end in text.split("-"))
    return Window(opens, closes)


# DeepSeek since 2026-08-16 16:00 UTC, with the Chinese holidays of autumn 2026.
DEEPSEEK = TouCalendar(
    zone=SHANGHAI,
    default="off_peak",
    rules=(TouRule("peak", WEEKDAYS, (window("09:00-12:00"), window("14:00-18:00")), True),),
    holidays=frozenset(date(2026, 9, day) for day in (25, 26, 27)),
)
# DeepSeek until September 2025: a night window over midnight, every day.
DEEPSEEK_2025 = TouCalendar(
    zone=ZoneInfo("UTC"),
    default="standard",
    rules=(TouRule("off_peak", WEEK, (window("16:30-00:30"),)),),
)
UTILITY = TouCalendar(
    zone=NEW_YORK,
    default="shoulder",
    rules=(
        TouRule("peak", WEEKDAYS, (window("14:00-20:00"),)),
        TouRule("off_peak", WEEK, (window("23:00-07:00"),)),
    ),
)
# A weekend night out that opens on Friday and Saturday, but not on the eve of nothing else.
NIGHTS = TouCalendar(
    zone=ZoneInfo("UTC"),
    default="day",
    rules=(
        TouRule("night", ("fri", "sat"), (window("22:00-02:00"),), True),
        TouRule("sunday", ("sun",), (window("00:00-24:00"),)),
    ),
    holidays=frozenset({date(2026, 9, 6), date(2026, 9, 12)}),  # a Sunday, a Saturday
)

ONE_BUCKET = """
calendar | instant                    | bucket   | because
2026     | 2026-09-24T08:59:59+08:00  | off_peak | Thursday, a second early
2026     | 2026-09-24T09:00:00+08:00  | peak     | the opening is in
2026     | 2026-09-24T11:59:59+08:00  | peak     | the last second
2026     | 2026-09-24T12:00:00+08:00  | off_peak | the closing is out
2026     | 2026-09-24T14:00:00+08:00  | peak     | the second window
2026     | 2026-09-25T10:00:00+08:00  | off_peak | Friday, Mid-Autumn
2026     | 2026-09-26T10:00:00+08:00  | off_peak | Saturday
2026     | 2026-09-20T10:00:00+08:00  | off_peak | a Sunday that is a workday stays a Sunday
2026     | 2026-09-28T10:00:00+08:00  | peak     | Monday
2026     | 2026-09-28T01:00:00+00:00  | peak     | 09:00 in Beijing
2026     | 2026-09-28T10:00:00+00:00  | off_peak | 18:00 in Beijing
2025     | 2025-07-01T16:29:59        | standard | a second early
2025     | 2025-07-01T16:30:00        | off_peak | opens
2025     | 2025-07-02T00:29:59        | off_peak | runs over midnight
2025     | 2025-07-02T00:30:00        | standard | closes
nights   | 2026-09-04T21:59:59        | day      | Friday
nights   | 2026-09-04T22:00:00        | night    | Friday
nights   | 2026-09-05T01:59:59        | night    | Friday's, though Saturday by the clock
nights   | 2026-09-06T01:59:59        | night    | Saturday's, and before Sunday: the first rule
nights   | 2026-09-06T02:00:00        | sunday   | the next rule, and it does not mind the holiday
nights   | 2026-09-06T23:59:59        | sunday   | 24:00 is the end of the day
nights   | 2026-09-07T00:00:00        | day      | Monday
nights   | 2026-09-04T01:00:00        | day      | Thursday's night is none
nights   | 2026-09-12T01:00:00        | night    | opened on the eve of the holiday
nights   | 2026-09-12T23:00:00        | day      | would open on the holiday
nights   | 2026-09-13T01:00:00        | sunday   | would have opened on the holiday
"""
CALENDARS = {"2026": DEEPSEEK, "2025": DEEPSEEK_2025, "nights": NIGHTS}

DST_DAYS = """
day        | peak | shoulder | off_peak | price of 100,000 tokens a quarter-hour
2026-03-08 |    0 |       64 |       28 | 31.2
2026-03-09 |   24 |       40 |       32 | 36.8
2026-11-01 |    0 |       64 |       36 | 32.8
2026-11-02 |   24 |       40 |       32 | 36.8
"""

REFUSED = """
pointer     | change to a good calendar
/zone       | {"zone": "Mars/Base"}
/zone       | {"zone": "America"}
/zone       | {"zone": "../etc/passwd"}
/zone       | {"zone": 8}
/default    | {"default": "Off Peak"}
/holidays   | {"holidays": []}
/holidays/0 | {"holidays": ["2026-02-29"]}
/holidays/1 | {"holidays": ["2026-10-01", "1 October"]}
/holidays/0 | {"holidays": [20261001]}
/rules      | {"rules": {}}
/rules/0    | {"rules": ["peak"]}
/seasons    | {"seasons": []}
"""

REFUSED_RULES = """
pointer      | change to a good rule
/bucket      | {"bucket": "PEAK"}
/days        | {"days": "mon"}
/days/1      | {"days": ["mon", "Tue"]}
/days/1      | {"days": ["mon", "mon"]}
/except/0    | {"except": ["rain"]}
/windows     | {"windows": []}
/windows/0   | {"windows": [["09:00", "09:00"]]}
/windows/0   | {"windows": [["00:00", "00:00"]]}
/windows/0   | {"windows": [["24:00", "09:00"]]}
/windows/0   | {"windows": [["09:00"]]}
/windows/0/0 | {"windows": [["09:05", "12:00"]]}
/windows/0/0 | {"windows": [[9, 12]]}
/windows/0/1 | {"windows": [["09:00", "24:15"]]}
/windows/0/1 | {"windows": [["09:00", "9:30"]]}
/season      | {"season": "winter"}
"""
GOOD_RULE = {"bucket": "peak", "days": ["mon"], "windows": [["09:00", "12:00"]]}
GOOD = {"zone": "UTC", "default": "off_peak", "rules": [GOOD_RULE]}


@pytest.mark.parametrize(("name", "instant", "bucket", "because"), rows(ONE_BUCKET))
def test_an_instant_lies_in_the_bucket_of_its_local_time(
    name: str, instant: str, bucket: str, because: str
) -> None:
    assert CALENDARS[name].bucket_at(at(instant)) == bucket, because


def test_an_ordinary_week_has_35_peak_hours() -> None:
    week = Period(at("2026-09-07T00:00+08:00"), at("2026-09-14T00:00+08:00"))
    peak = [end - start for start, end, bucket in DEEPSEEK.segments(week) if bucket == "peak"]
    assert sum(peak, timedelta()) == timedelta(hours=35)
    assert len(peak) == 10  # two windows on each of five days: neighbours are merged


@pytest.mark.parametrize(("day", "peak", "shoulder", "off_peak", "price"), rows(DST_DAYS))
def test_a_day_of_23_or_25_hours_has_the_quarters_its_clock_shows(
    day: str, peak: str, shoulder: str, off_peak: str, price: str
) -> None:
    quarters: Counter[str] = Counter()
    for start, end, bucket in UTILITY.segments(local_day(NEW_YORK, at(f"{day}T12:00-05:00"))):
        quarters[bucket] += (end - start) // QUARTER
    assert quarters == Counter(peak=int(peak), shoulder=int(shoulder), off_peak=int(off_peak))
    tenths = 6 * quarters["peak"] + 4 * quarters["shoulder"] + 2 * quarters["off_peak"]
    assert f"{tenths // 10}.{tenths % 10}" == price


def test_segments_begin_and_end_with_the_period_wherever_it_is_cut() -> None:
    odd = Period(at("2026-09-24T01:07:03"), at("2026-09-24T04:10:00"))
    noon = at("2026-09-24T04:00")
    assert DEEPSEEK.segments(odd) == [(odd.start, noon, "peak"), (noon, odd.end, "off_peak")]


def test_an_instant_has_the_bucket_of_its_reading() -> None:
    """Where clocks changed at 00:01, a quarter-hour began by one clock and ended by the other."""
    st_johns = TouCalendar(
        zone=ZoneInfo("America/St_Johns"),
        default="day",
        rules=(TouRule("late", WEEK, (window("23:00-24:00"),)),),
    )
    fell_back = at("2010-11-07T02:31:30")  # 23:01:30 by the new clock, 00:01:30 by the old
    assert st_johns.bucket_at(fell_back) == st_johns.bucket_at(quarter_hour(fell_back)) == "day"


windows = st.tuples(st.integers(0, 95), st.integers(1, 96)).filter(lambda ends: ends[0] != ends[1])
rules = st.builds(
    TouRule,
    bucket=st.sampled_from(["peak", "shoulder", "night"]),
    days=st.lists(st.sampled_from(WEEK), min_size=1, unique=True).map(tuple),
    windows=st.lists(
        windows.map(lambda ends: Window(ends[0] * 15, ends[1] * 15)), min_size=1, max_size=2
    ).map(tuple),
    except_holidays=st.booleans(),
)
# Days on which some clock does something: half an hour, midnight, a whole day, a minute past.
DAYS = [
    date(2026, 3, 8), date(2026, 11, 1), date(2026, 3, 29), date(2026, 10, 25), date(2026, 4, 5),
    date(2026, 10, 4), date(2011, 12, 30), date(2010, 11, 7), date(2026, 2, 28),
]  # fmt: skip
ZONES = [
    "UTC", "Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe",
    "America/Havana", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns",
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(rules, max_size=3).map(tuple),
    st.sampled_from(ZONES),
    st.sampled_from(DAYS),
    st.integers(0, 900),
)
@example(UTILITY.rules, "America/New_York", date(2026, 11, 1), 0)
def test_segments_tile_every_local_day_and_agree_with_each_instant(
    some_rules: tuple[TouRule, ...], zone_name: str, day: date, second: int
) -> None:
    zone = ZoneInfo(zone_name)
    calendar = TouCalendar(zone, "default", some_rules, frozenset({day}))
    period = local_day(zone, datetime(day.year, day.month, day.day, 12, tzinfo=zone))
    segments = calendar.segments(period)
    assert segments[0][0] == period.start
    assert segments[-1][1] == period.end
    for (_, end, bucket), (start, _, other) in pairwise(segments):
        assert end == start
        assert bucket != other
    for start, end, bucket in segments:
        assert start < end
        moment = start + timedelta(seconds=second)
        while moment < end:
            assert calendar.bucket_at(moment) == bucket
            moment += QUARTER


def test_a_calendar_comes_back_from_its_document() -> None:
    for calendar in (DEEPSEEK, DEEPSEEK_2025, UTILITY, NIGHTS):
        assert read(calendar.as_document()) == calendar


def test_the_order_of_days_says_nothing() -> None:
    turned = GOOD_RULE | {"days": ["fri", "mon"]}
    assert read(GOOD | {"rules": [turned]}).rules[0].days == ("mon", "fri")


def test_midnight_closes_a_window_under_both_its_names() -> None:
    rule = {"bucket": "late", "days": ["mon"], "windows": [["22:00", "00:00"]]}
    calendar = read({"zone": "UTC", "default": "day", "rules": [rule]})
    assert calendar.rules[0].windows == (window("22:00-24:00"),)


@pytest.mark.parametrize(("pointer", "change"), rows(REFUSED))
def test_a_calendar_with_a_fault_is_refused_at_the_field(pointer: str, change: str) -> None:
    with pytest.raises(TariffInvalid) as refusal:
        read(GOOD | json.loads(change))
    assert refusal.value.pointer == pointer


@pytest.mark.parametrize(("pointer", "change"), rows(REFUSED_RULES))
def test_a_rule_with_a_fault_is_refused_at_the_field(pointer: str, change: str) -> None:
    with pytest.raises(TariffInvalid) as refusal:
        read(GOOD | {"rules": [GOOD_RULE, GOOD_RULE | json.loads(change)]})
    assert refusal.value.pointer == f"/rules/1{pointer}"


@pytest.mark.parametrize("name", ["zone", "default"])
def test_a_calendar_has_a_zone_and_a_default(name: str) -> None:
    with pytest.raises(TariffInvalid, match="is missing") as refusal:
        read({field: value for field, value in GOOD.items() if field != name})
    assert refusal.value.pointer == f"/{name}"


@pytest.mark.parametrize("ends", [(5, 60), (60, 61), (60, 60), (-15, 60), (1440, 60), (0, 0)])
def test_a_window_that_no_reading_fits_cannot_be_made(ends: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="window must"):
        Window(*ends)


def test_a_rule_that_cannot_hold_cannot_be_made() -> None:
    nine = (window("09:00-12:00"),)
    for rule in [("P", WEEK, nine), ("p", (), nine), ("p", ("day",), nine), ("p", WEEK, ())]:
        with pytest.raises(ValueError, match="must"):
            TouRule(*rule)


def test_a_calendar_without_a_default_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="bucket name"):
        TouCalendar(SHANGHAI, "")
