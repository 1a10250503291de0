"""How long it takes to ask what a month would have cost a thousand organizations elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date

from bench import closing
from bench.closing import LINES, MODELS, NOVEMBER, OCTOBER, REGISTERS, SEPTEMBER
from bench.report import Result
from bench.scratch import CoreClock

ORGANIZATIONS = 1_000
ALLOWED_S = 60
PEAKS = {
    "currency": "USD",
    "calendar": {
        "zone": "Asia/Shanghai",
        "default": "off_peak",
        "rules": [
            {
                "bucket": "peak",
                "days": ["mon", "tue", "wed", "thu", "fri"],
                "windows": [["09:00", "12:00"], ["14:00", "18:00"]],
            }
        ],
    },
    "components": [
        {
            "code": register, "models": ["*"], "registers": [register], "per": 1_000_000,
            "shape": "time_of_use", "prices": {"peak": "2.00", "off_peak": "0.50"},
        }
        for register in REGISTERS
    ],
}  # fmt: skip


def measure(clock: CoreClock) -> Iterator[Result]:
    """A month of quarter-days by 20 lines, under a tariff with 45 cuts by the time of use."""
    from billing import what_if

    closing.subscribed(ORGANIZATIONS, keys=MODELS, step="6 hours")
    other = what_if.Alternative(PEAKS)
    month = (date.fromisoformat(f"{SEPTEMBER:%F}"), date.fromisoformat(f"{OCTOBER:%F}"))
    before = time.process_time() + clock.database_s()
    answer = what_if.compare(other, *month, NOVEMBER)
    took_s = time.process_time() + clock.database_s() - before
    assert len(answer.compared) >= ORGANIZATIONS, "an organization was left out"
    seconds = took_s * ORGANIZATIONS / len(answer.compared)
    name = f"what if, {ORGANIZATIONS:,} organizations, {LINES} lines each"
    yield Result(name, seconds, "core-seconds", f"{ALLOWED_S} seconds allowed", seconds / ALLOWED_S)
