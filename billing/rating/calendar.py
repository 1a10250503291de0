"""Time of use: which bucket of local time an instant lies in."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from billing.rating.document import Field, TariffInvalid
from billing.rating.peak_event import EVENTS_MAX, PeakEvent, read_event
from billing.rating.period import QUARTER, Period, quarter_hour
from billing.rating.season import NAME, NAME_MUST, SEASONS_MAX, Season, read_season

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOLIDAY, WORKDAY = "holiday", "workday"  # kinds of dates that a calendar lists
DAY_TYPES = (*WEEK, HOLIDAY, WORKDAY)
BUCKET = re.compile(r"[a-z][a-z0-9_]{0,31}")
BUCKET_MUST = "a bucket name (a to z, 0 to 9, _; at most 32 characters)"
RULES_MAX = 50
WINDOWS_MAX = 48
HOLIDAYS_MAX = 2_000
_MINUTES_A_DAY = 24 * 60
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):(?:00|15|30|45)|24:00")
_DAYS = re.compile("|".join(DAY_TYPES))
_EXCEPT = re.compile(f"{HOLIDAY}|{WORKDAY}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")


@dataclass(frozen=True, slots=True)
class Window:
    """Local clock time from opens to closes, in minutes; it runs over midnight if it closes first.

    Only on quarter-hours: the meter sums a quarter-hour into one reading, which lies in one bucket.
    """

    opens: int
    closes: int

    def __post_init__(self) -> None:
        if self.opens % 15 or self.closes % 15:
            raise ValueError("a window must open and close on a quarter-hour")
        if not (0 <= self.opens < _MINUTES_A_DAY and 0 < self.closes <= _MINUTES_A_DAY):
            raise ValueError("a window must lie between 00:00 and 24:00")
        if self.opens == self.closes:
            raise ValueError("a window must not close when it opens")

    @property
    def over_midnight(self) -> bool:
        return self.closes < self.opens

    def as_document(self) -> list[str]:
        return [_clock(self.opens), _clock(self.closes)]


@dataclass(frozen=True, slots=True)
class DayLists:
    """What a calendar knows of dates beyond their weekday."""

    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()  # weekend days made workdays
    seasons: tuple[Season, ...] = ()

    def types(self, day: date) -> set[str]:
        """Return every day type a date has: its weekday, and what lists it stands on."""
        listed = ((HOLIDAY, self.holidays), (WORKDAY, self.workdays))
        return {WEEK[day.weekday()], *(kind for kind, days in listed if day in days)}

    def in_season(self, day: date, names: Iterable[str]) -> bool:
        """Say whether a date lies in one of the seasons of these names."""
        return any(day in season for season in self.seasons if season.name in names)


@dataclass(frozen=True, slots=True)
class TouRule:
    """Some windows on some days, perhaps of some seasons only, go to one bucket.

    What counts is the day a window opens: one from Friday 22:00 to 02:00 still runs early on
    Saturday, and one that opens on the eve of a holiday still runs into the holiday.
    """

    bucket: str
    days: tuple[str, ...]
    windows: tuple[Window, ...]
    except_holidays: bool = False
    except_workdays: bool = False
    seasons: tuple[str, ...] = ()  # none: all year

    def __post_init__(self) -> None:
        if not BUCKET.fullmatch(self.bucket):
            raise ValueError(f"{self.bucket!r} must be {BUCKET_MUST}")
        if not self.days or not self.windows:
            raise ValueError("a rule must have days and windows")
        if not set(self.days) <= set(DAY_TYPES):
            raise ValueError(f"days must be among {', '.join(DAY_TYPES)}")

    def covers(self, day: date, minute: int, lists: DayLists) -> bool:
        """Say whether a minute of a local day lies in a window of this rule."""
        for window in self.windows:
            if not window.over_midnight:
                inside = window.opens <= minute < window.closes
                opened = day
            else:
                inside = minute >= window.opens or minute < window.closes
                opened = day if minute >= window.opens else day - timedelta(days=1)
            if inside and self._runs_on(opened, lists):
                return True
        return False

    @property
    def exceptions(self) -> list[str]:
        """Return the day types on which the rule does not hold, whatever the weekday."""
        chosen = ((HOLIDAY, self.except_holidays), (WORKDAY, self.except_workdays))
        return [kind for kind, on in chosen if on]

    def _runs_on(self, day: date, lists: DayLists) -> bool:
        types = lists.types(day)
        if types & set(self.exceptions) or not types & set(self.days):
            return False
        return not self.seasons or lists.in_season(day, self.seasons)

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {"bucket": self.bucket, "days": list(self.days)}
        if self.seasons:
            document["seasons"] = list(self.seasons)
        if self.exceptions:
            document["except"] = self.exceptions
        document["windows"] = [window.as_document() for window in self.windows]
        return document


@dataclass(frozen=True, slots=True)
class TouCalendar:
    """A partition of time: an event, else the first rule that covers an instant, else default.

    The zone is the calendar's own, and the same for every buyer.
    """

    zone: ZoneInfo
    default: str
    rules: tuple[TouRule, ...] = ()
    holidays: frozenset[date] = field(default=frozenset())
    workdays: frozenset[date] = field(default=frozenset())
    seasons: tuple[Season, ...] = ()
    events: tuple[PeakEvent, ...] = ()

    def __post_init__(self) -> None:
        if not BUCKET.fullmatch(self.default):
            raise ValueError(f"{self.default!r} must be {BUCKET_MUST}")
        known = {season.name for season in self.seasons}
        for rule in self.rules:
            if not set(rule.seasons) <= known:
                raise ValueError(f"the seasons of a rule must be among {sorted(known)}")

    @property
    def buckets(self) -> frozenset[str]:
        """Return every bucket that needs a price."""
        named = {rule.bucket for rule in self.rules} | {event.bucket for event in self.events}
        return frozenset({self.default, *named})

    @property
    def lists(self) -> DayLists:
        return DayLists(self.holidays, self.workdays, self.seasons)

    def bucket_at(self, moment: datetime) -> str:
        """Return the one bucket of an instant. ValueError if it is naive.

        The bucket is that of the quarter-hour the instant lies in, for a reading has only one;
        it matters where clocks once changed at a minute past midnight (St. John's until 2011).
        An event that adds to the price has both names: "peak+critical".
        """
        quarter = quarter_hour(moment)
        event = next((event for event in self.events if quarter in event.period), None)
        if event is None:
            return self._by_rule(quarter)
        return f"{self._by_rule(quarter)}+{event.bucket}" if event.adds else event.bucket

    def _by_rule(self, quarter: datetime) -> str:
        local = quarter.astimezone(self.zone)
        day, minute = local.date(), local.hour * 60 + local.minute
        for rule in self.rules:
            if rule.covers(day, minute, self.lists):
                return rule.bucket
        return self.default

    def segments(self, period: Period) -> list[tuple[datetime, datetime, str]]:
        """Cut a period where the bucket changes: (start, end, bucket), in UTC, without a gap."""
        return list(_segments(self, period))

    def explain(self, bucket: str) -> dict[str, object]:
        """Return a bucket's zone and rules, in JSON values. No rules: it is all other time."""
        names = bucket.split("+")
        rules = [rule.as_document() for rule in self.rules if rule.bucket in names]
        explained: dict[str, object] = {"name": bucket, "zone": self.zone.key, "rules": rules}
        events = [event.as_document() for event in self.events if event.bucket in names]
        return explained | ({"events": events} if events else {})

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {"zone": self.zone.key, "default": self.default}
        if self.seasons:
            document["seasons"] = [season.as_document() for season in self.seasons]
        for name, days in (("holidays", self.holidays), ("workdays", self.workdays)):
            if days:
                document[name] = [day.isoformat() for day in sorted(days)]
        if self.rules:
            document["rules"] = [rule.as_document() for rule in self.rules]
        if self.events:
            document["events"] = [event.as_document() for event in self.events]
        return document


# All subscriptions of one tariff ask for the same month; a month is some 3,000 quarter-hours.
@lru_cache(maxsize=256)
def _segments(calendar: TouCalendar, period: Period) -> tuple[tuple[datetime, datetime, str], ...]:
    cuts: list[tuple[datetime, str]] = []
    moment = quarter_hour(period.start)
    while moment < period.end:
        bucket = calendar.bucket_at(moment)
        if not cuts or bucket != cuts[-1][1]:
            cuts.append((max(moment, period.start), bucket))
        moment += QUARTER
    ends = [start for start, _ in cuts[1:]] + [period.end]
    return tuple((start, end, bucket) for (start, bucket), end in zip(cuts, ends, strict=True))


def read_calendar(source: Field) -> TouCalendar:
    """Read the `calendar` object of a tariff document. TariffInvalid if it is not one."""
    optional = {"holidays", "workdays", "seasons", "rules", "events"}
    fields = source.members({"zone", "default"}, optional)
    seasons = tuple(read_season(item) for item in _listed(fields, "seasons", SEASONS_MAX))
    names = {season.name for season in seasons}
    return TouCalendar(
        zone=_read_zone(fields["zone"]),
        default=fields["default"].text(BUCKET, BUCKET_MUST),
        rules=tuple(_read_rule(rule, names) for rule in _listed(fields, "rules", RULES_MAX)),
        holidays=frozenset(day.day() for day in _listed(fields, "holidays", HOLIDAYS_MAX)),
        workdays=frozenset(day.day() for day in _listed(fields, "workdays", HOLIDAYS_MAX)),
        seasons=seasons,
        events=tuple(
            read_event(item, BUCKET, BUCKET_MUST) for item in _listed(fields, "events", EVENTS_MAX)
        ),
    )


def _listed(fields: dict[str, Field], name: str, most: int) -> list[Field]:
    return fields[name].items(most=most) if name in fields else []


def _read_zone(source: Field) -> ZoneInfo:
    must = "an IANA time zone"
    try:
        return ZoneInfo(source.text(_ZONE, must))
    except (KeyError, ValueError, OSError):  # no such zone, a bad key, a directory of zones
        raise source.refuse(must, "write it like Asia/Shanghai") from None


def _read_rule(source: Field, seasons: set[str]) -> TouRule:
    fields = source.members({"bucket", "days", "windows"}, {"except", "seasons"})
    exceptions: tuple[str, ...] = ()
    if "except" in fields:
        must = f'"{HOLIDAY}" or "{WORKDAY}", the only exceptions there are'
        exceptions = fields["except"].texts(_EXCEPT, must, most=2)
    days = fields["days"].texts(_DAYS, f"one of {', '.join(DAY_TYPES)}", most=len(DAY_TYPES))
    return TouRule(
        bucket=fields["bucket"].text(BUCKET, BUCKET_MUST),
        days=tuple(day for day in DAY_TYPES if day in days),
        windows=tuple(_read_window(item) for item in fields["windows"].items(most=WINDOWS_MAX)),
        except_holidays=HOLIDAY in exceptions,
        except_workdays=WORKDAY in exceptions,
        seasons=_read_seasons(fields["seasons"], seasons) if "seasons" in fields else (),
    )


def _read_seasons(source: Field, known: set[str]) -> tuple[str, ...]:
    names = source.texts(NAME, NAME_MUST, most=SEASONS_MAX)
    for index, name in enumerate(names):
        if name not in known:
            detail = f"is no season of this calendar; it has: {', '.join(sorted(known)) or 'none'}"
            raise TariffInvalid(f"{source.pointer}/{index}", detail)
    return names


def _read_window(source: Field) -> Window:
    ends = source.items(most=2)
    if len(ends) != 2:
        raise source.refuse("an opening and a closing time", 'write it like ["09:00", "12:00"]')
    opens, closes = (_read_clock(end) for end in ends)
    if opens in (closes, _MINUTES_A_DAY):
        raise source.refuse("a stretch of a day", 'write ["00:00", "24:00"] for a whole day')
    return Window(opens, closes or _MINUTES_A_DAY)


def _read_clock(source: Field) -> int:
    must = "a local time on a quarter-hour (readings are quarter-hours)"
    text = source.text(_CLOCK, must)
    return int(text[:2]) * 60 + int(text[3:])


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
