"""A tariff's week as a strip: when which price bucket holds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import groupby

from billing.rating.calendar import TouCalendar

QUARTERS_A_DAY = 96
SWATCHES = 5


@dataclass(frozen=True, slots=True)
class Stretch:
    """So many quarter-hours of one bucket, from a quarter-hour of the day on."""

    bucket: str
    swatch: int
    start: int
    width: int

    @property
    def clock(self) -> str:
        """09:00 to 12:00"""
        ends = (self.start, self.start + self.width)
        return " to ".join(f"{quarter // 4:02}:{quarter % 4 * 15:02}" for quarter in ends)


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the week, without a gap."""

    date: date
    stretches: list[Stretch]
    today: bool

    @property
    def words(self) -> str:
        """What the strip shows, to be heard."""
        return "; ".join(f"{words(stretch.bucket)} {stretch.clock}" for stretch in self.stretches)


@dataclass(frozen=True, slots=True)
class Week:
    """The seven days around a moment, in the calendar's zone, and what holds at the moment."""

    zone: str
    days: list[Day]
    legend: list[tuple[str, int]]
    now: str
    next_bucket: str
    next_at: datetime | None


def words(bucket: str) -> str:
    """off_peak is off-peak to a person."""
    return bucket.replace("_", "-")


def strip(calendar: TouCalendar, now: datetime) -> Week:
    """The week that the moment lies in, Monday first, as the calendar's zone counts days."""
    local = now.astimezone(calendar.zone)
    monday = local.date() - timedelta(days=local.weekday())
    swatches = _swatches(calendar)
    days = []
    for number in range(7):
        day = monday + timedelta(days=number)
        midnight = datetime.combine(day, time(), tzinfo=calendar.zone)
        days.append(Day(day, _stretches(calendar, midnight, swatches), day == local.date()))
    bucket = calendar.bucket_at(now)
    next_at = _change(calendar, now)
    return Week(
        zone=calendar.zone.key,
        days=days,
        legend=[(words(name), swatch) for name, swatch in swatches.items()],
        now=words(bucket),
        next_bucket=words(calendar.bucket_at(next_at)) if next_at else "",
        next_at=next_at,
    )


def _swatches(calendar: TouCalendar) -> dict[str, int]:
    order = dict.fromkeys([calendar.default, *(rule.bucket for rule in calendar.rules)])
    return {bucket: min(place, SWATCHES - 1) for place, bucket in enumerate(order)}


def _stretches(
    calendar: TouCalendar, midnight: datetime, swatches: dict[str, int]
) -> list[Stretch]:
    """By the clock on the wall: where a clock is set, the strip shows the hours it shows."""
    buckets = [
        calendar.bucket_at(midnight + quarter * timedelta(minutes=15))
        for quarter in range(QUARTERS_A_DAY)
    ]
    stretches, start = [], 0
    for bucket, run in groupby(buckets):
        width = len(list(run))
        stretches.append(Stretch(bucket, swatches[bucket], start, width))
        start += width
    return stretches


def _change(calendar: TouCalendar, now: datetime) -> datetime | None:
    """When the bucket next changes, within eight days."""
    bucket, moment = calendar.bucket_at(now), now
    for _ in range(8 * QUARTERS_A_DAY):
        moment += timedelta(minutes=15)
        if calendar.bucket_at(moment) != bucket:
            return moment - timedelta(minutes=moment.minute % 15, seconds=moment.second,
                                      microseconds=moment.microsecond)  # fmt: skip
    return None
