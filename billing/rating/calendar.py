"""Time of use: which bucket of local time an instant lies in."""

import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from billing.rating.document import Field
from billing.rating.period import QUARTER, Period, quarter_hour

WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
BUCKET = re.compile(r"[a-z][a-z0-9_]{0,31}")
BUCKET_MUST = "a bucket name (a to z, 0 to 9, _; at most 32 characters)"
RULES_MAX = 50
WINDOWS_MAX = 48
HOLIDAYS_MAX = 2_000
_MINUTES_A_DAY = 24 * 60
_CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):(?:00|15|30|45)|24:00")
_DAYS = re.compile("|".join(WEEK))
_EXCEPT = re.compile("holiday")
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
class TouRule:
    """Some windows on some days go to one bucket.

    What counts is the day a window opens: one from Friday 22:00 to 02:00 still runs early on
    Saturday, and one that opens on the eve of a holiday still runs into the holiday.
    """

    bucket: str
    days: tuple[str, ...]
    windows: tuple[Window, ...]
    except_holidays: bool = False

    def __post_init__(self) -> None:
        if not BUCKET.fullmatch(self.bucket):
            raise ValueError(f"{self.bucket!r} must be {BUCKET_MUST}")
        if not self.days or not self.windows:
            raise ValueError("a rule must have days and windows")
        if not set(self.days) <= set(WEEK):
            raise ValueError(f"days must be among {', '.join(WEEK)}")

    def covers(self, day: date, minute: int, holidays: frozenset[date]) -> bool:
        """Say whether a minute of a local day lies in a window of this rule."""
        for window in self.windows:
            if not window.over_midnight:
                inside = window.opens <= minute < window.closes
                opened = day
            else:
                inside = minute >= window.opens or minute < window.closes
                opened = day if minute >= window.opens else day - timedelta(days=1)
            if inside and self._runs_on(opened, holidays):
                return True
        return False

    def _runs_on(self, day: date, holidays: frozenset[date]) -> bool:
        if self.except_holidays and day in holidays:
            return False
        return WEEK[day.weekday()] in self.days

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {"bucket": self.bucket, "days": list(self.days)}
        if self.except_holidays:
            document["except"] = ["holiday"]
        document["windows"] = [window.as_document() for window in self.windows]
        return document


@dataclass(frozen=True, slots=True)
class TouCalendar:
    """A partition of time: the first rule that covers an instant names its bucket, else default.

    The zone is the calendar's own, and the same for every buyer.
    """

    zone: ZoneInfo
    default: str
    rules: tuple[TouRule, ...] = ()
    holidays: frozenset[date] = field(default=frozenset())

    def __post_init__(self) -> None:
        if not BUCKET.fullmatch(self.default):
            raise ValueError(f"{self.default!r} must be {BUCKET_MUST}")

    @property
    def buckets(self) -> frozenset[str]:
        """Return every bucket an instant can lie in."""
        return frozenset({self.default, *(rule.bucket for rule in self.rules)})

    def bucket_at(self, moment: datetime) -> str:
        """Return the one bucket of an instant. ValueError if it is naive.

        The bucket is that of the quarter-hour the instant lies in, for a reading has only one;
        it matters where clocks once changed at a minute past midnight (St. John's until 2011).
        """
        local = quarter_hour(moment).astimezone(self.zone)
        day, minute = local.date(), local.hour * 60 + local.minute
        for rule in self.rules:
            if rule.covers(day, minute, self.holidays):
                return rule.bucket
        return self.default

    def segments(self, period: Period) -> list[tuple[datetime, datetime, str]]:
        """Cut a period where the bucket changes: (start, end, bucket), in UTC, without a gap."""
        return list(_segments(self, period))

    def explain(self, bucket: str) -> dict[str, object]:
        """Return a bucket's zone and rules, in JSON values. No rules: it is all other time."""
        rules = [rule.as_document() for rule in self.rules if rule.bucket == bucket]
        return {"name": bucket, "zone": self.zone.key, "rules": rules}

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {"zone": self.zone.key, "default": self.default}
        if self.holidays:
            document["holidays"] = [day.isoformat() for day in sorted(self.holidays)]
        if self.rules:
            document["rules"] = [rule.as_document() for rule in self.rules]
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
    fields = source.members({"zone", "default"}, {"holidays", "rules"})
    holidays = fields["holidays"].items(most=HOLIDAYS_MAX) if "holidays" in fields else []
    rules = fields["rules"].items(most=RULES_MAX) if "rules" in fields else []
    return TouCalendar(
        zone=_read_zone(fields["zone"]),
        default=fields["default"].text(BUCKET, BUCKET_MUST),
        rules=tuple(_read_rule(rule) for rule in rules),
        holidays=frozenset(holiday.day() for holiday in holidays),
    )


def _read_zone(source: Field) -> ZoneInfo:
    must = "an IANA time zone"
    try:
        return ZoneInfo(source.text(_ZONE, must))
    except (KeyError, ValueError, OSError):  # no such zone, a bad key, a directory of zones
        raise source.refuse(must, "write it like Asia/Shanghai") from None


def _read_rule(source: Field) -> TouRule:
    fields = source.members({"bucket", "days", "windows"}, {"except"})
    if "except" in fields:
        fields["except"].texts(_EXCEPT, '"holiday", the only exception there is', most=1)
    days = fields["days"].texts(_DAYS, f"one of {', '.join(WEEK)}", most=7)
    return TouRule(
        bucket=fields["bucket"].text(BUCKET, BUCKET_MUST),
        days=tuple(day for day in WEEK if day in days),
        windows=tuple(_read_window(item) for item in fields["windows"].items(most=WINDOWS_MAX)),
        except_holidays="except" in fields,
    )


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
