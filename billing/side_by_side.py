"""One organization's bill under two tariffs, line by line: what each kind of usage comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from billing.pricing import Chain
from billing.rating.line import ALLOWANCE, UNPRICED
from billing.rating.paper import PaperLine, printed
from billing.rating.period import Period
from billing.rating.sentences import paper_sentences
from billing.what_if import Sides


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
    minor: int = 0
    lines: list[Said] = field(default_factory=list)


@dataclass(slots=True)
class Item:
    """One model's register, or one charge, by its code: on both sides, each period printed."""

    model: str
    register: str
    charge: str = ""
    old: Side = field(default_factory=Side)
    new: Side = field(default_factory=Side)

    @property
    def difference_minor(self) -> int:
        """Below zero: the other tariff would have been cheaper."""
        return self.new.minor - self.old.minor


def items(sides: Sides) -> list[Item]:
    """Everything that either side charges, the largest differences first.

    The amounts add up to those of the comparison, to the last minor unit.
    """
    found: dict[tuple[str, str], Item] = {}
    for chain, name in ((sides.old, "old"), (sides.new, "new")):
        for period, line, zone in _lines(chain, sides.currency):
            item = _item(found, line)
            side: Side = getattr(item, name)
            side.quantity += line.quantity
            side.minor += line.minor
            sentence, *reasons = paper_sentences(line.lines, sides.currency, zone)
            side.lines.append(Said(period, line.minor, sentence, reasons))
    return sorted(found.values(), key=_largest_first)


def _lines(chain: Chain, currency: str) -> Iterator[tuple[Period, PaperLine, ZoneInfo]]:
    for metered, lines in zip(chain.asked, chain.lines(), strict=True):
        zone = ZoneInfo(metered.subscription.zone)
        for line in printed(lines, currency):
            yield metered.period, line, zone


def _item(found: dict[tuple[str, str], Item], line: PaperLine) -> Item:
    first = line.lines[0]
    of_usage = bool(first.model) or first.component.startswith((ALLOWANCE, UNPRICED))
    charge = "" if of_usage else first.component
    key = (first.model, charge or first.register)
    return found.setdefault(key, Item(first.model, first.register, charge))


def _largest_first(item: Item) -> tuple[int, int, str, str]:
    return -abs(item.difference_minor), -item.old.minor, item.model, item.register
