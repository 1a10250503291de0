"""Seasons, make-up workdays, critical peaks: calendars that follow the year and the call."""

import json
from typing import Any

import pytest

from billing.rating.calendar import TouCalendar, TouRule, Window, read_calendar
from billing.rating.document import Field, TariffInvalid
from billing.rating.peak_event import PeakEvent
from billing.rating.period import Period, days_in
from billing.rating.season import Season
from tests.pure.tables import at, rows
from tests.pure.test_calendar import SHANGHAI

WINTER = {"name": "winter", "from": "11-01", "to": "02-29"}
EVENT = {"bucket": "critical", "start": "2026-01-05T10:00:00Z", "end": "2026-01-05T12:00:00Z"}
DOCUMENT: dict[str, Any] = {
    "zone": "UTC",
    "default": "day",
    "seasons": [WINTER, {"name": "summer", "from": "06-01", "to": "08-31"}],
    "holidays": ["2026-12-25"],
    "workdays": ["2026-12-27"],
    "rules": [
        {"bucket": "feast", "days": ["holiday"], "windows": [["00:00", "24:00"]]},
        {
            "bucket": "peak",
            "days": ["mon", "tue", "wed", "thu", "fri", "workday"],
            "seasons": ["winter"],
            "windows": [["17:00", "21:00"]],
        },
        {
            "bucket": "night",
            "days": ["sat", "sun"],
            "seasons": ["winter", "summer"],
            "except": ["workday"],
            "windows": [["22:00", "06:00"]],
        },
    ],
    "events": [EVENT | {"mode": "add"}, EVENT | {"end": "2026-01-05T13:00:00Z", "mode": "replace"}],
}
INSTANTS = """
instant          | bucket       | because
2026-10-30T18:00 | day          | Friday, autumn
2026-11-02T18:00 | peak         | Monday, winter
2026-12-31T18:00 | peak         | winter before the new year
2027-01-01T18:00 | peak         | and after it
2028-02-29T18:00 | peak         | the last day of a leap year's winter
2027-03-01T18:00 | day          | spring
2026-12-25T18:00 | feast        | a holiday comes first, though a Friday in winter
2026-12-27T18:00 | peak         | a Sunday made a workday
2026-12-27T23:00 | day          | and so no night
2026-12-26T23:00 | night        | Saturday
2026-12-27T05:00 | night        | opened on Saturday
2026-11-01T05:00 | day          | opened on the last day of autumn
2026-03-01T05:00 | night        | opened on the last day of winter
2026-01-05T11:45 | day+critical | the first event that covers it, on top of the price
2026-01-05T12:00 | critical     | the second one, instead of it
2026-01-05T13:00 | day          | the end of an event is out
"""


@pytest.mark.parametrize(("instant", "bucket", "because"), rows(INSTANTS))
def test_an_instant_follows_seasons_workdays_and_events(
    instant: str, bucket: str, because: str
) -> None:
    assert read_calendar(Field(DOCUMENT)).bucket_at(at(instant)) == bucket, because


def test_a_calendar_with_everything_comes_back_from_its_document() -> None:
    calendar = read_calendar(Field(DOCUMENT))
    assert read_calendar(Field(json.loads(json.dumps(calendar.as_document())))) == calendar
    assert calendar.buckets == {"day", "feast", "peak", "night", "critical"}


REFUSED = """
pointer           | change
/seasons/0/from   | {"seasons": [{"name": "w", "from": "02-30", "to": "03-01"}]}
/seasons/0/to     | {"seasons": [{"name": "w", "from": "02-01", "to": "2026-03-01"}]}
/seasons/0/name   | {"seasons": [{"name": "W", "from": "02-01", "to": "03-01"}]}
/rules/1/seasons/0 | {"seasons": [{"name": "summer", "from": "06-01", "to": "08-31"}]}
/workdays/0       | {"workdays": ["27 December"]}
/events/0/end     | {"events": [{"bucket": "c", "start": "2026-01-05T10:00Z", "end": "2026-01-05T10:00Z"}]}
/events/0/start   | {"events": [{"bucket": "c", "start": "2026-01-05T10:05Z", "end": "2026-01-05T11:00Z"}]}
/events/0/start   | {"events": [{"bucket": "c", "start": "2026-01-05T10:00", "end": "2026-01-05T11:00Z"}]}
/events/0/end     | {"events": [{"bucket": "c", "start": "2026-01-05T10:00Z", "end": "2026-02-30T11:00Z"}]}
/events/0/mode    | {"events": [{"bucket": "c", "start": "2026-01-05T10:00Z", "end": "2026-01-05T11:00Z", "mode": "times"}]}
"""  # noqa: E501


@pytest.mark.parametrize(("pointer", "change"), rows(REFUSED))
def test_a_calendar_with_a_fault_is_refused_at_the_field(pointer: str, change: str) -> None:
    with pytest.raises(TariffInvalid) as refusal:
        read_calendar(Field(DOCUMENT | json.loads(change)))
    assert refusal.value.pointer == pointer


def test_what_cannot_hold_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="day is out of range"):
        Season("w", (2, 30), (3, 1))
    with pytest.raises(ValueError, match="quarter-hour"):
        PeakEvent("c", Period(at("2026-01-05T10:01"), at("2026-01-05T11:00")))
    rule = TouRule("p", ("mon",), (Window(0, 60),), seasons=("winter",))
    with pytest.raises(ValueError, match="seasons of a rule"):
        TouCalendar(SHANGHAI, "d", (rule,))


DAYS = """
start                | end                  | days | because
2026-06-01T00:00     | 2026-07-01T00:00     | 30   | a month
2026-06-01T00:00     | 2026-06-17T10:30     | 16   | the day of the cut belongs to who has its end
2026-06-17T10:30     | 2026-07-01T00:00     | 14   | and here it is
2026-06-17T10:30     | 2026-06-17T11:00     | 0    | within a day
2026-06-17T10:30     | 2026-06-18T00:00     | 1    | the rest of a day
"""


@pytest.mark.parametrize(("start", "end", "days", "because"), rows(DAYS))
def test_every_local_day_belongs_to_one_part(start: str, end: str, days: str, because: str) -> None:
    period = Period(at(f"{start}+08:00"), at(f"{end}+08:00"))
    assert days_in(SHANGHAI, period) == int(days), because
