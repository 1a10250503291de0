"""A bill as a JSON document: one form for `manage.py rate` and for the API, to the byte.

`docs/reference/rating-json.md` describes it. Fields are added and never renamed or removed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from billing.rating.bill import STEPS, Bill
from billing.rating.charges import CHARGES
from billing.rating.commitment import Commitment
from billing.rating.ladder import Ladder
from billing.rating.line import ALLOWANCE, RatedLine
from billing.rating.money import from_minor, total
from billing.rating.period import Period
from billing.rating.rate import sentences

COLUMNS = (
    "version", "component", "model", "register", "bucket", "step", "quantity", "unit_price", "per",
    "amount",
)  # fmt: skip
_DRAIN, _PRICE, _CHARGE, _LADDER, _COMMIT, _ROUND, _TAX = 8, 9, 11, 12, 13, 14, 15
_DOES = {step.number: step.does for step in STEPS}


class StepTotal(NamedTuple):
    """What one of the sixteen steps added to the bill."""

    number: int
    does: str
    lines: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Counted:
    """How many events a bill is of, and how many were left out."""

    events: int
    duplicates: int = 0
    conflicts: int = 0


def statement(
    bill: Bill, period: Period, counted: Counted | None = None, *, explain: bool = False
) -> dict[str, object]:
    """Return the document. Money is text, so that no reader takes it for a float."""
    document: dict[str, object] = {
        "currency": bill.currency,
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "lines": [_line(line, bill.currency, explain=explain) for line in bill.lines],
        "steps": [_step(step) for step in step_totals(bill)],
        "exact": plain(total(line.amount for line in bill.lines)),
        "net": _money(bill.net_minor, bill.currency),
        "tax": _money(bill.tax_minor, bill.currency),
        "total": _money(bill.total_minor, bill.currency),
    }
    if counted is not None:
        document |= {
            "events": counted.events,
            "duplicates": counted.duplicates,
            "conflicts": counted.conflicts,
        }
    return document


def written(document: Mapping[str, object]) -> str:
    """Return a document as text, in the one way it is written."""
    return json.dumps(document, indent=2) + "\n"


def row(line: RatedLine) -> list[str]:
    """Return the cells of a line, by COLUMNS."""
    cells = (getattr(line, name) for name in COLUMNS)
    return [plain(cell) if isinstance(cell, Decimal) else str(cell) for cell in cells]


def step_totals(bill: Bill) -> list[StepTotal]:
    """Return what each step that did something added; together they are the total."""
    return list(_steps(bill))


def plain(amount: Decimal) -> str:
    """Return an amount with all its digits and no exponent."""
    return f"{amount:f}"


def _steps(bill: Bill) -> Iterator[StepTotal]:
    by_step: dict[int, list[RatedLine]] = {}
    for line in bill.lines:
        by_step.setdefault(_step_of(line), []).append(line)
    for number, lines in sorted(by_step.items()):
        yield StepTotal(number, _DOES[number], len(lines), total(one.amount for one in lines))
    exact = total(line.amount for line in bill.lines)
    rounding = total([from_minor(bill.net_minor, bill.currency), -exact])
    if rounding:
        yield StepTotal(_ROUND, _DOES[_ROUND], len(bill.paper), rounding)
    if bill.tax_minor:
        yield StepTotal(_TAX, _DOES[_TAX], 1, from_minor(bill.tax_minor, bill.currency))


def _step_of(line: RatedLine) -> int:
    shape = str(line.trace.get("shape"))
    if line.component.startswith(ALLOWANCE):
        return _DRAIN
    if shape == Ladder.KIND:
        return _LADDER
    if shape == Commitment.KIND:
        return _COMMIT
    return _CHARGE if shape in CHARGES else _PRICE


def _line(line: RatedLine, currency: str, *, explain: bool) -> dict[str, object]:
    shown: dict[str, object] = dict(zip(COLUMNS, row(line), strict=True))
    shown |= {"quantity": line.quantity, "step": line.step, "per": line.per}
    shown["trace"] = line.trace
    why: Sequence[str] = sentences(line, currency) if explain else ()
    return shown | ({"why": list(why)} if why else {})


def _step(step: StepTotal) -> dict[str, object]:
    return {
        "number": step.number,
        "does": step.does,
        "lines": step.lines,
        "amount": plain(step.amount),
    }


def _money(minor: int, currency: str) -> str:
    return plain(from_minor(minor, currency))
