"""What is worth saying of an event that was accepted: nothing is wrong with it, but look. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from metering.usage.event import UsageEvent


class Flag(StrEnum):
    """What an accepted event, or one that was accepted before, is marked with."""

    LATE = "late"  # the period it happened in was closed before it came
    ZERO = "zero"  # every quantity it reports is zero


class ClosedPeriod(NamedTuple):
    """A half-open stretch of time of which all usage is settled, as far as it was known then."""

    starts_at: datetime
    ends_at: datetime
    closed_at: datetime  # by the clock that gives events their received_at


def of(event: UsageEvent, received_at: datetime, closed: Iterable[ClosedPeriod]) -> dict[Flag, str]:
    """The flags of an event that was first received at an instant, each with its sentence."""
    told = {}
    period = _closed_before(event.occurred_at, received_at, closed)
    if period is not None:
        told[Flag.LATE] = (
            f"The period in which it happened was closed before it came (usage until "
            f"{period.ends_at:%Y-%m-%dT%H:%M:%SZ} is billed): it will appear as an adjustment on "
            "the next invoice."
        )
    if not any(event.usage.values()):
        told[Flag.ZERO] = (
            "Every quantity is zero, so it counts as a request and as nothing else. If usage is "
            "missing from it, send an amendment."
        )
    return told


def _closed_before(
    occurred_at: datetime, received_at: datetime, closed: Iterable[ClosedPeriod]
) -> ClosedPeriod | None:
    for period in closed:
        if period.starts_at <= occurred_at < period.ends_at and period.closed_at <= received_at:
            return period
    return None
