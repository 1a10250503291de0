"""Stretches of time: half-open, UTC, and tiled without a gap or an overlap."""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

QUARTER = timedelta(minutes=15)
_DAY = timedelta(days=1)
# What of a request decides when it was: a tariff says so, for requests that last over a cut.
TIME_BASES = ("request_start", "first_token", "request_end")


def utc(moment: datetime) -> datetime:
    """Return the same instant in UTC. ValueError for a naive moment.

    Two moments in one local zone compare by their wall clocks, and in the hour that a clock
    repeats that is the wrong answer. In UTC there is no such hour.
    """
    if moment.tzinfo is UTC:  # as nearly all are
        return moment
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; pass an aware datetime")
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """The instants from start up to, and not including, end; both are kept in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", utc(self.start))
        object.__setattr__(self, "end", utc(self.end))
        if self.end <= self.start:
            raise ValueError("a period must end after it starts")

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= utc(moment) < self.end


def quarter_hour(moment: datetime) -> datetime:
    """Return the start, in UTC, of the quarter-hour the moment lies in. ValueError if naive."""
    moment = utc(moment)
    return moment.replace(minute=moment.minute - moment.minute % 15, second=0, microsecond=0)


def local_day(zone: ZoneInfo, moment: datetime) -> Period:
    """Return the local calendar day around a moment: 23, 24 or 25 hours, or an odd half.

    ValueError if the moment is naive.
    """
    day = utc(moment).astimezone(zone).date()
    while moment < _midnight(day, zone):
        day -= _DAY
    while moment >= _midnight(day + _DAY, zone):
        day += _DAY
    return Period(_midnight(day, zone), _midnight(day + _DAY, zone))


def day_of(zone: ZoneInfo, day: date) -> Period:
    """Return a local calendar day by its date. ValueError for one the zone skipped."""
    return Period(_midnight(day, zone), _midnight(day + _DAY, zone))


def days_in(zone: ZoneInfo, period: Period) -> int:
    """Return how many local calendar days end in a period: so each belongs to one.

    A day cut by a hand-over belongs to whoever has it at its end.
    """
    first, last = (
        edge.astimezone(zone).date() for edge in (period.start, period.end - timedelta.resolution)
    )
    days = (last - first).days + 1
    return days if _midnight(last + _DAY, zone) <= period.end else days - 1


def calendar_month(zone: ZoneInfo, moment: datetime) -> Period:
    """Return the local calendar month around a moment. ValueError if it is naive."""
    return billing_period(1, zone, moment)


def billing_period(anchor_day: int, zone: ZoneInfo, moment: datetime) -> Period:
    """Return the monthly period around a moment, cut at local midnight of the anchor day.

    A month too short for the anchor is cut on its last day. Every cut is computed from the
    anchor and never from the cut before, so the 31st comes back after February.
    ValueError for an anchor outside 1 to 31 and for a naive moment.
    """
    if not 1 <= anchor_day <= 31:
        raise ValueError(f"anchor_day must lie between 1 and 31, not {anchor_day}")
    local = utc(moment).astimezone(zone)
    month = local.year * 12 + local.month - 1
    while moment < _anchor(month, anchor_day, zone):
        month -= 1
    while moment >= _anchor(month + 1, anchor_day, zone):
        month += 1
    return Period(_anchor(month, anchor_day, zone), _anchor(month + 1, anchor_day, zone))


def billing_periods(
    anchor_day: int,
    zone: ZoneInfo,
    *,
    start: datetime,
    until: datetime,
    end: datetime | None = None,
) -> Iterator[Period]:
    """Yield the billing periods from start on that have ended at or before until.

    The first begins at start itself, so it may be short; the others are cut at the anchors. The
    last is cut at end, where a subscription has one.
    ValueError for an anchor outside 1 to 31 and for naive moments.
    """
    opens, until, end = utc(start), utc(until), None if end is None else utc(end)
    while end is None or opens < end:
        closes = billing_period(anchor_day, zone, opens).end
        closes = closes if end is None else min(closes, end)
        if closes > until:
            return
        yield Period(opens, closes)
        opens = closes


@lru_cache(maxsize=1_024)  # the same few months, whoever is billed
def _anchor(month: int, anchor_day: int, zone: ZoneInfo) -> datetime:
    year, index = divmod(month, 12)
    day = min(anchor_day, monthrange(year, index + 1)[1])
    return _midnight(date(year, index + 1, day), zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the instant a local day begins.

    fold=0 settles the odd ones: of two midnights the first counts, and a midnight that the
    clock skips (Havana, Cairo, Beirut) is the instant of the skip.
    """
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
