"""Critical peaks: hours called at short notice, in which another price holds."""

import re
from dataclasses import dataclass

from billing.rating.document import Field, TariffInvalid
from billing.rating.period import Period, quarter_hour

EVENTS_MAX = 500
REPLACE, ADD = "replace", "add"
_MODE = re.compile(f"{REPLACE}|{ADD}")


@dataclass(frozen=True, slots=True)
class PeakEvent:
    """A stretch of time whose bucket replaces what the rules say, or is paid on top of it."""

    bucket: str
    period: Period
    adds: bool = False

    def __post_init__(self) -> None:
        for end in (self.period.start, self.period.end):
            if quarter_hour(end) != end:
                raise ValueError("an event must start and end on a quarter-hour")

    def as_document(self) -> dict[str, object]:
        return {
            "bucket": self.bucket,
            "start": self.period.start.isoformat(),
            "end": self.period.end.isoformat(),
            "mode": ADD if self.adds else REPLACE,
        }


def read_event(source: Field, bucket: re.Pattern[str], bucket_must: str) -> PeakEvent:
    """Read one of a calendar's `events`. TariffInvalid if it is not one."""
    fields = source.members({"bucket", "start", "end"}, {"mode"})
    start, end = fields["start"].instant(), fields["end"].instant()
    if end <= start:
        raise TariffInvalid(fields["end"].pointer, "must be after the start; exchange the two")
    mode = REPLACE
    if "mode" in fields:
        mode = fields["mode"].text(_MODE, f'"{REPLACE}" or "{ADD}"')
    return PeakEvent(fields["bucket"].text(bucket, bucket_must), Period(start, end), mode == ADD)
