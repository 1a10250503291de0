"""Seasons: parts of the year by month and day, the same every year."""

import re
from dataclasses import dataclass
from datetime import date

from billing.rating.document import Field

SEASONS_MAX = 12
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
NAME_MUST = "a name (a to z, 0 to 9, _; at most 32 characters)"
_MONTH_DAY = re.compile(r"(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
_LEAP_YEAR = 2024  # has every day that any year has


@dataclass(frozen=True, slots=True)
class Season:
    """From one day of the year to another, both included; it wraps the year if it ends first."""

    name: str
    first: tuple[int, int]  # month, day
    last: tuple[int, int]

    def __post_init__(self) -> None:
        for month, day in (self.first, self.last):
            date(_LEAP_YEAR, month, day)  # ValueError for a day that no year has

    def __contains__(self, day: date) -> bool:
        here = (day.month, day.day)
        if self.first <= self.last:
            return self.first <= here <= self.last
        return here >= self.first or here <= self.last

    def as_document(self) -> dict[str, object]:
        return {"name": self.name, "from": _written(self.first), "to": _written(self.last)}


def read_season(source: Field) -> Season:
    """Read one of a calendar's `seasons`. TariffInvalid if it is not one."""
    fields = source.members({"name", "from", "to"})
    return Season(
        fields["name"].text(NAME, NAME_MUST),
        _read_month_day(fields["from"]),
        _read_month_day(fields["to"]),
    )


def _read_month_day(source: Field) -> tuple[int, int]:
    text = source.text(_MONTH_DAY, 'a month and day such as "11-01"')
    month, day = int(text[:2]), int(text[3:])
    try:
        date(_LEAP_YEAR, month, day)
    except ValueError:
        raise source.refuse("a day that some year has", "check the month and the day") from None
    return month, day


def _written(month_day: tuple[int, int]) -> str:
    return "{:02}-{:02}".format(*month_day)
