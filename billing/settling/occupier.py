"""Change of occupier: a key or project changes hands at an instant, by a reading taken then."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from billing.rating.period import Period, days_in


@dataclass(frozen=True, slots=True)
class Share:
    """One party's part of the period: its tokens, and its days of standing charge."""

    tokens: int
    days: int


def handed_over(
    period: Period, at: datetime, zone: ZoneInfo, *, opening: int, reading: int, closing: int
) -> tuple[Share, Share]:
    """Divide a period at a hand-over: the outgoing party's part, then the incoming one's.

    The day itself belongs to the incoming party. ValueError unless the register ran forward.
    """
    if not opening <= reading <= closing:
        raise ValueError("a register must run forward: check the readings")
    return (
        Share(reading - opening, days_in(zone, Period(period.start, at))),
        Share(closing - reading, days_in(zone, Period(at, period.end))),
    )
