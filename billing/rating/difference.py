"""Correct by difference: late usage, a changed tariff and the ordinary month are one function."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from billing.rating.line import LineKey, RatedLine


def still_owed(rated: Iterable[RatedLine], billed: Iterable[RatedLine]) -> list[RatedLine]:
    """Return what the period costs now, less what earlier documents carry, line by line.

    Lines of one key are added up. A negative quantity is money to give back; a difference of
    zero is no line. In the order of `rated`, then what is billed and no longer owed, by key.
    """
    now, of = _sums(rated)
    before, carried = _sums(billed)
    of |= {key: carried[key] for key in sorted(carried.keys() - of.keys())}
    return [
        _less(line, now[key], before[key]) for key, line in of.items() if now[key] != before[key]
    ]


def _sums(lines: Iterable[RatedLine]) -> tuple[Counter[LineKey], dict[LineKey, RatedLine]]:
    quantities: Counter[LineKey] = Counter()
    of: dict[LineKey, RatedLine] = {}
    for line in lines:
        key = line.key
        quantities[key] += line.quantity
        of.setdefault(key, line)
    return quantities, of


def _less(line: RatedLine, now: int, before: int) -> RatedLine:
    if not before and line.quantity == now and "difference" not in line.trace:
        return line
    trace = {name: value for name, value in line.trace.items() if name != "difference"}
    if before:
        trace["difference"] = {"now": now, "billed": before}
    return replace(line, quantity=now - before, trace=trace)
