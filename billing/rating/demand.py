"""Demand: a price for the highest rate of use in the period, in thousands of tokens a minute.

Capacity is built for the peak, whoever sends little else. The peak is the mean over a window of
minutes, in whole tokens a minute.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import accumulate
from math import gcd
from typing import ClassVar, Self

from billing.rating.charge import Basis, Load
from billing.rating.document import Field, TariffInvalid
from billing.rating.line import RatedLine
from billing.rating.money import EXACT, round_half_up
from billing.rating.period import Period
from billing.rating.shape import check_price

MINUTE = timedelta(minutes=1)
QUARTER_MINUTES = 15
KTPM = 1_000
ACCOUNT, EACH_METER, COINCIDENT = "account", "each_meter", "coincident"
BASES = (ACCOUNT, EACH_METER, COINCIDENT)
_BASIS = re.compile("|".join(BASES))
WINDOW_MINUTES_MAX = 1_440
RATCHET_MONTHS_MAX = 36
TPM_MAX = 10**15


def peak(minutes: Sequence[int], *, window: int, step: int) -> Fraction:
    """Return the highest mean of a window of minutes, in tokens a minute; 0 without a window.

    With step = window the windows are fixed blocks beside each other, else one slides by step.
    """
    tokens, _ = _most(minutes, window, step)
    return Fraction(tokens, window)


def _most(blocks: Sequence[int], window: int, step: int) -> tuple[int, int]:
    """What was used in the window of blocks in which most was, and the first such window's start;
    nothing without a window."""
    sums = [0, *accumulate(blocks)]
    starts = range(0, len(blocks) - window + 1, step)
    used = ((sums[start + window] - sums[start], -start) for start in starts)
    tokens, start = max(used, default=(0, 0))
    return tokens, -start


def by_block(load: Load, period: Period, minutes: int) -> list[int]:
    """Return what was used in a period's blocks of so many minutes, the idle ones too.

    A block that the period cuts off is left out: no window reaches it.
    """
    length = MINUTE * minutes
    blocks = [0] * ((period.end - period.start) // length)
    end = period.start + length * len(blocks)
    for moment, tokens in load.items():
        if period.start <= moment < end:
            blocks[(moment - period.start) // length] += tokens
    return blocks


def added(loads: Iterable[Load]) -> dict[datetime, int]:
    """Return the load of several meters together: its peak is less than the sum of theirs."""
    together: dict[datetime, int] = {}
    for load in loads:
        for moment, tokens in load.items():
            together[moment] = together.get(moment, 0) + tokens
    return together


def busiest(load: Load, period: Period, *, window: int, step: int) -> datetime | None:
    """Return when the window begins in which most was used, of equal ones the first; None without
    any use.

    For the load of a whole system, whose peak decides about a coincident demand.
    """
    _, start = _busiest(load, period, window, step)
    return start


def _busiest(
    load: Load, period: Period, window: int, step: int
) -> tuple[Fraction, datetime | None]:
    """The same, with the mean in tokens a minute.

    Looks at blocks as long as the windows allow: a month has 44,640 minutes, for each key.
    """
    block = gcd(window, step)
    blocks = by_block(load, period, block)
    tokens, first = _most(blocks, window // block, step // block)
    start = period.start + MINUTE * (block * first) if tokens else None
    return Fraction(tokens, window), start


def used_from(load: Load, start: datetime, window: int) -> Fraction:
    """Return the mean of one window of minutes, in tokens a minute."""
    end = start + MINUTE * window
    tokens = sum(quantity for moment, quantity in load.items() if start <= moment < end)
    return Fraction(tokens, window)


@dataclass(frozen=True, slots=True)
class Contract:
    """An agreed demand: billed at least, with a band above it that is free, and dear excess."""

    tpm: int
    band_percent: int = 105
    excess_factor: Decimal = Decimal(2)

    @property
    def band_tpm(self) -> int:
        return self.tpm * self.band_percent // 100


@dataclass(frozen=True, slots=True)
class Demand:
    """Billing demand is the highest of the measured peak, the ratchet and the minimum."""

    KIND: ClassVar[str] = "demand"
    EACH_VERSION: ClassVar[bool] = False
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"price", "window_minutes"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset(
        {"step_minutes", "basis", "minimum_tpm", "ratchet", "contract"}
    )

    code: str
    price: Decimal  # per thousand tokens a minute and billing period
    window_minutes: int = 15
    step_minutes: int = 15
    basis: str = ACCOUNT
    minimum_tpm: int = 0
    ratchet_percent: int = 0
    ratchet_months: int = 0
    contract: Contract | None = None

    def __post_init__(self) -> None:
        check_price(self.price)
        if not 1 <= self.step_minutes <= self.window_minutes <= WINDOW_MINUTES_MAX:
            raise ValueError("a window must be a day at most, and its step no longer than it")

    @property
    def by_minute(self) -> bool:
        """Return whether its windows cannot be made of quarter-hours."""
        return bool(self.window_minutes % QUARTER_MINUTES or self.step_minutes % QUARTER_MINUTES)

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        window = fields["window_minutes"].whole(1, WINDOW_MINUTES_MAX)
        step = fields["step_minutes"].whole(1, window) if "step_minutes" in fields else window
        ratchet = fields["ratchet"].members({"percent", "months"}) if "ratchet" in fields else None
        return cls(
            code=code,
            price=fields["price"].price(),
            window_minutes=window,
            step_minutes=step,
            basis=fields["basis"].text(_BASIS, f"one of {', '.join(BASES)}")
            if "basis" in fields
            else ACCOUNT,
            minimum_tpm=fields["minimum_tpm"].whole(1, TPM_MAX) if "minimum_tpm" in fields else 0,
            ratchet_percent=ratchet["percent"].whole(1, 100) if ratchet else 0,
            ratchet_months=ratchet["months"].whole(1, RATCHET_MONTHS_MAX) if ratchet else 0,
            contract=_read_contract(fields.get("contract")),
        )

    def measured_tpm(self, basis: Basis) -> int:
        """Return the measured demand in whole tokens a minute, halves up."""
        tpm, _ = self._measured(basis)
        return tpm

    def _measured(self, basis: Basis) -> tuple[int, datetime | None]:
        """The demand, and when its window began where it is one window's."""
        loads = basis.facts.load.values()
        if self.basis == EACH_METER:
            return sum(self._peak(load, basis)[0] for load in loads), None
        account = added(loads)
        if self.basis == ACCOUNT:
            return self._peak(account, basis)
        start = basis.facts.system_peaks.get(self.code)
        mean = used_from(account, start, self.window_minutes) if start else Fraction(0)
        return round_half_up(mean), start

    def billed_tpm(self, measured: int, before: Sequence[int]) -> tuple[int, int]:
        """Return the demand to bill, and the floor that the ratchet set."""
        months = before[-self.ratchet_months :] if self.ratchet_months else []
        floor = self.ratchet_percent * max(months, default=0) // 100
        return max(measured, floor, self.minimum_tpm), floor

    def lines(self, basis: Basis) -> list[RatedLine]:
        measured, start = self._measured(basis)
        billed, floor = self.billed_tpm(measured, basis.facts.peaks_before.get(self.code, ()))
        demand: dict[str, object] = {
            "measured_tpm": measured,
            "ratchet_tpm": floor,
            "minimum_tpm": self.minimum_tpm,
            "billed_tpm": billed,
            "window_minutes": self.window_minutes,
            "step_minutes": self.step_minutes,
            "basis": self.basis,
        }
        if start is not None:
            demand["peak_at"] = start.isoformat()
        if self.contract is not None:
            demand["contract_tpm"] = self.contract.tpm
        explained = {"shape": self.KIND, "demand": demand}
        return [
            basis.line(self.code, "tpm", tpm, price, explained, per=KTPM, step=step)
            for step, (tpm, price) in enumerate(self._parts(billed))
            if tpm
        ]

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "price": f"{self.price:f}",
            "window_minutes": self.window_minutes,
            "step_minutes": self.step_minutes,
            "basis": self.basis,
        }
        if self.minimum_tpm:
            document["minimum_tpm"] = self.minimum_tpm
        if self.ratchet_months:
            document["ratchet"] = {"percent": self.ratchet_percent, "months": self.ratchet_months}
        if self.contract is not None:
            document["contract"] = {
                "tpm": self.contract.tpm,
                "band_percent": self.contract.band_percent,
                "excess_factor": f"{self.contract.excess_factor:f}",
            }
        return document

    def _peak(self, load: Load, basis: Basis) -> tuple[int, datetime | None]:
        mean, start = _busiest(load, basis.part, self.window_minutes, self.step_minutes)
        return round_half_up(mean), start

    def _parts(self, billed: int) -> list[tuple[int, Decimal]]:
        """Split by price: in the band the contract is billed, above it the excess too."""
        if self.contract is None:
            return [(billed, self.price)]
        if billed <= self.contract.band_tpm:
            return [(self.contract.tpm, self.price)]
        with localcontext(EXACT):
            dear = self.price * self.contract.excess_factor
        return [(self.contract.band_tpm, self.price), (billed - self.contract.band_tpm, dear)]


def _read_contract(source: Field | None) -> Contract | None:
    if source is None:
        return None
    fields = source.members({"tpm", "band_percent", "excess_factor"})
    factor = fields["excess_factor"].price()
    if factor < 1:
        raise TariffInvalid(fields["excess_factor"].pointer, "must be 1 or more; raise it")
    return Contract(
        fields["tpm"].whole(1, TPM_MAX), fields["band_percent"].whole(100, 1_000), factor
    )
