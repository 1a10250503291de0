"""Stretches of local days to look at usage through, and the steps they are cut into. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from metering import readings

DAY = timedelta(days=1)
PRESETS = (
    ("7d", "Last 7 days"),
    ("today", "Today"),
    ("yesterday", "Yesterday"),
    ("30d", "Last 30 days"),
    ("month", "This month"),
    ("last_month", "Last month"),
    ("90d", "Last 90 days"),
    ("dates", "Dates"),
)
STEPS = (
    ("day", "Day"),
    ("quarter_hour", "Quarter-hour"),
    ("hour", "Hour"),
    ("week", "Week"),
    ("month", "Month"),
    ("total", "In total"),
)
# So many days of such steps still make a chart one can read, and a page that loads at once.
DAYS_MAX = {
    "quarter_hour": 7,
    "hour": 31,
    "day": 400,
    "week": 1_100,
    "month": 3_700,
    "total": 3_700,
}


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The instant a local day begins, in UTC."""
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """Local days from first to last, both included."""

    first: date
    last: date
    zone: ZoneInfo

    @property
    def start(self) -> datetime:
        return midnight(self.first, self.zone)

    @property
    def end(self) -> datetime:
        return midnight(self.last + DAY, self.zone)

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


def preset(name: str, today: date, zone: ZoneInfo) -> Window:
    """The window a preset names, seen from a local day."""
    month = today.replace(day=1)
    match name:
        case "today":
            return Window(today, today, zone)
        case "yesterday":
            return Window(today - DAY, today - DAY, zone)
        case "month":
            return Window(month, today, zone)
        case "last_month":
            return Window((month - DAY).replace(day=1), month - DAY, zone)
        case "30d":
            return Window(today - 29 * DAY, today, zone)
        case "90d":
            return Window(today - 89 * DAY, today, zone)
        case _:
            return Window(today - 6 * DAY, today, zone)


def steps(start: datetime, end: datetime, step: str, zone: ZoneInfo) -> list[datetime]:
    """Where each step of a stretch begins, in UTC, those without usage included."""
    if step == "total":
        return []
    return readings.period_starts(start, end, step, zone.key)
