"""One organization's bill under two tariffs, line by line: what each kind of usage comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from billing.rating.line import ALLOWANCE, UNPRICED
from billing.rating.paper import PaperLine, printed
from billing.rating.period import Period
from billing.rating.sentences import paper_sentences
from billing.what_if import Lines, Sides
from metering import readings


@dataclass(frozen=True, slots=True)
class Said:
    """One line as a document would print it, and why it says so."""

    period: Period
    minor: int
    sentence: str
    reasons: list[str]


@dataclass(slots=True)
class Side:
    """What one tariff makes of an item."""

    quantity: int = 0  # priced, free or without a price, in the register's unit
    unpriced: int = 0  # of the quantity, what no component prices
    minor: int = 0
    lines: list[Said] = field(default_factory=list)

    @property
    def has_no_price(self) -> bool:
        """Whether its nothing is no price, rather than none to pay."""
        return bool(self.unpriced) and not self.minor


@dataclass(slots=True)
class Item:
    """One model's register, or one charge, by its code: on both sides, each period printed."""

    model: str
    register: str
    charge: str = ""
    old: Side = field(default_factory=Side)
    new: Side = field(default_factory=Side)

    @property
    def label(self) -> str:
        """What people call its register."""
        return readings.register_label(self.register)

    @property
    def difference_minor(self) -> int:
        """Below zero: the other tariff would have been cheaper."""
        return self.new.minor - self.old.minor


def items(sides: Sides) -> list[Item]:
    """Everything that either side charges, the largest differences first.

    The amounts add up to those of the comparison, to the last minor unit.
    """
    found: dict[tuple[str, str], Item] = {}
    for name, by_period in zip(("old", "new"), sides.lines, strict=True):
        for period, line, zone in _printed(sides, by_period):
            item = _item(found, line)
            side: Side = getattr(item, name)
            side.quantity += line.quantity
            side.unpriced += line.quantity if line.lines[0].component == UNPRICED else 0
            side.minor += line.minor
            sentence, *reasons = paper_sentences(line.lines, sides.currency, zone)
            side.lines.append(Said(period, line.minor, sentence, reasons))
    return sorted(found.values(), key=_largest_first)


def _printed(sides: Sides, by_period: Lines) -> Iterator[tuple[Period, PaperLine, ZoneInfo]]:
    for (subscription, period), lines in zip(sides.periods, by_period, strict=True):
        zone = ZoneInfo(subscription.zone)
        for line in printed(lines, sides.currency):
            yield period, line, zone


def _item(found: dict[tuple[str, str], Item], line: PaperLine) -> Item:
    first = line.lines[0]
    of_usage = bool(first.model) or first.component.startswith((ALLOWANCE, UNPRICED))
    charge = "" if of_usage else first.component
    key = (first.model, charge or first.register)
    return found.setdefault(key, Item(first.model, first.register, charge))


def _largest_first(item: Item) -> tuple[int, int, str, str]:
    return -abs(item.difference_minor), -item.old.minor, item.model, item.register
