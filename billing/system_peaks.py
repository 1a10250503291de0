"""The whole system's peak of a billing period: found once, when the period is over, and kept.

A coincident demand is the own load while all organizations together used most. Whose invoice comes
first has it found; it stands for everybody whose billing period is the same, and late usage does
not move it, so whoever rates the period again comes to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from billing.models import SystemPeak
from billing.rating.demand import COINCIDENT, Demand, busiest, used_from
from billing.rating.event import is_input, is_output
from billing.rating.period import Period
from metering import readings


def counts_for_demand(register: str) -> bool:
    """Whether a register is part of a load: its tokens in and out."""
    return is_input(register) or is_output(register)


def known(demands: Sequence[Demand], period: Period) -> dict[str, datetime]:
    """When the system's peak began, for those demands that ask and where it is known; by code."""
    asking = _asking(demands)
    if not asking:
        return {}
    kept = SystemPeak.objects.filter(period_start=period.start, period_end=period.end)
    at = {(one.window_minutes, one.step_minutes): one.starts_at for one in kept}
    found = {one.code: at.get((one.window_minutes, one.step_minutes)) for one in asking}
    return {code: start for code, start in found.items() if start is not None}


def determine(demands: Sequence[Demand], period: Period) -> bool:
    """Find and keep what is not known of a period that is over. False: there was nothing to find.

    Of two that find it at once the first stands for both.
    """
    there = known(demands, period)
    missing = [one for one in _asking(demands) if one.code not in there]
    if not missing:
        return False
    load = readings.system_load_in(period.start, period.end, counts=counts_for_demand)
    new = [
        SystemPeak(
            period_start=period.start,
            period_end=period.end,
            window_minutes=one.window_minutes,
            step_minutes=one.step_minutes,
            starts_at=start,
            tokens=int(used_from(load, start, one.window_minutes) * one.window_minutes),
        )
        for one in missing
        if (start := busiest(load, period, window=one.window_minutes, step=one.step_minutes))
    ]
    SystemPeak.objects.bulk_create(new, ignore_conflicts=True)
    return bool(new)


def _asking(demands: Sequence[Demand]) -> list[Demand]:
    return [one for one in demands if one.basis == COINCIDENT]
