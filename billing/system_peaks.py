"""The whole system's peak of a billing period: found once, when the period is over, and kept.

A coincident demand is the own load while all organizations together used most. Whose invoice comes
first has it found, once all usage that had come by then is summed; it stands for everybody whose
billing period is the same, and late usage does not move it, so whoever rates the period again comes
to the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from billing.models import SystemPeak
from billing.rating.demand import COINCIDENT, Demand, busiest, used_from
from billing.rating.event import is_input, is_output
from billing.rating.period import Period
from billing.waiting import PeakUnknown
from metering import readings

Window = tuple[int, int]  # its length and its step, in minutes
Looked = dict[tuple[Period, Window], datetime | None]  # when peaks began that nobody keeps


def counts_for_demand(register: str) -> bool:
    """Whether a register is part of a load: its tokens in and out."""
    return is_input(register) or is_output(register)


def known(
    demands: Sequence[Demand], period: Period, looked: Looked | None = None
) -> dict[str, datetime]:
    """When the system's peak began, for those demands that ask and where it is known; by code.

    With `looked`, what is not known is looked for, and noted there alone: for a comparison, which
    writes nothing, of a period that is over.
    """
    asking = _asking(demands)
    if not asking:
        return {}
    found: dict[Window, datetime | None] = {**_kept(period)}
    if looked is not None:
        for window in sorted({_window(one) for one in asking} - found.keys()):
            if (period, window) not in looked:
                looked[period, window] = _find(_load(period), period, window)
            found[window] = looked[period, window]
    at = {one.code: found.get(_window(one)) for one in asking}
    return {code: start for code, start in at.items() if start is not None}


def waits_for(demands: Sequence[Demand], period: Period, until: datetime) -> PeakUnknown | None:
    """Why a peak that is asked for cannot be found yet; until: when the period may be closed."""
    if _missing(demands, period) and readings.anybody_unsettled(until):
        return PeakUnknown(until)
    return None


def determine(demands: Sequence[Demand], period: Period) -> bool:
    """Find and keep what is not known of a period that is over. False: there was nothing to find.

    Of two that find it at once the first stands for both.
    """
    missing = _missing(demands, period)
    if not missing:
        return False
    load = _load(period)
    new = [
        SystemPeak(
            period_start=period.start,
            period_end=period.end,
            window_minutes=minutes,
            step_minutes=step,
            starts_at=start,
            tokens=int(used_from(load, start, minutes) * minutes),
        )
        for minutes, step in missing
        if (start := _find(load, period, (minutes, step)))
    ]
    SystemPeak.objects.bulk_create(new, ignore_conflicts=True)
    return bool(new)


def _asking(demands: Sequence[Demand]) -> list[Demand]:
    return [one for one in demands if one.basis == COINCIDENT]


def _window(demand: Demand) -> Window:
    return demand.window_minutes, demand.step_minutes


def _kept(period: Period) -> dict[Window, datetime]:
    kept = SystemPeak.objects.filter(period_start=period.start, period_end=period.end)
    return {(one.window_minutes, one.step_minutes): one.starts_at for one in kept}


def _missing(demands: Sequence[Demand], period: Period) -> list[Window]:
    """In one order, so that of two who find several neither waits for the other in a circle."""
    asking = {_window(one) for one in _asking(demands)}
    return sorted(asking - _kept(period).keys()) if asking else []


def _load(period: Period) -> Mapping[datetime, int]:
    return readings.system_load_in(period.start, period.end, counts=counts_for_demand)


def _find(load: Mapping[datetime, int], period: Period, window: Window) -> datetime | None:
    minutes, step = window
    return busiest(load, period, window=minutes, step=step)
