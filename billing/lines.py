"""Rated lines on paper, and back: what an invoice line is made of, and the words on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from accounts import prepared
from billing.models import Invoice, InvoiceLine
from billing.rating.charges import CHARGES
from billing.rating.line import ALLOWANCE, UNPRICED, RatedLine
from billing.rating.money import from_minor, written
from billing.rating.negotiated import is_negotiated
from billing.rating.paper import PaperLine
from billing.rating.period import Period
from metering import readings

Said = Mapping[str, Any]


class Drafted(NamedTuple):
    """A line of a document that is to be written: the columns of InvoiceLine."""

    position: int
    usage_start: datetime
    usage_end: datetime
    version: str
    component: str
    model: str
    register: str
    bucket: str
    step: int
    description: str
    quantity: int
    unit_price: Decimal | None
    per: int
    amount_exact: Decimal
    amount_minor: int
    trace: Said


def on_paper(invoice: Invoice, position: int, period: Period, paper: PaperLine) -> Drafted:
    """The line of a document. Where prices differ in it there is no unit price, but its parts."""
    first = paper.lines[0]
    trace = dict(first.trace)
    if len(paper.lines) > 1:
        trace |= {
            "first": min(str(line.trace["first"]) for line in paper.lines),
            "last": max(str(line.trace["last"]) for line in paper.lines),
            "parts": [[f"{line.unit_price:f}", line.quantity] for line in paper.lines],
            **_difference(paper),
        }
    return Drafted(
        position=position,
        usage_start=period.start,
        usage_end=period.end,
        version=first.version,
        component=first.component,
        model=first.model,
        register=first.register,
        bucket=first.bucket,
        step=first.step,
        description=_describe(invoice, period, first),
        quantity=paper.quantity,
        unit_price=paper.unit_price,
        per=first.per,
        amount_exact=paper.amount,
        amount_minor=paper.minor,
        trace=trace,
    )


# One parameter for all lines of a document, whatever their number.
INSERT = """
    WITH document AS (
        INSERT INTO billing_invoice ({document_columns}, seller, buyer, void_reason)
        VALUES ({document_values}, '{{}}', '{{}}', '') RETURNING id, created_at
    ), line AS (
        INSERT INTO billing_invoiceline (invoice_id, {columns})
        SELECT document.id, {columns}
        FROM document, json_to_recordset(%(lines)s::json) AS line (
            position integer, usage_start timestamptz, usage_end timestamptz, version text,
            component text, model text, register text, bucket text, step smallint,
            description text, quantity bigint, unit_price numeric, per bigint,
            amount_exact numeric, amount_minor bigint, trace jsonb)
    )
    SELECT id, created_at FROM document
"""
DOCUMENT_COLUMNS = (
    "organization_id", "subscription_id", "status", "period_start", "period_end", "currency",
    "zone", "subtotal_minor", "tax_minor", "total_minor", "replaces_id", "kind", "corrects_id",
)  # fmt: skip
INSERT = INSERT.format(
    columns=", ".join(Drafted._fields),
    document_columns=", ".join(DOCUMENT_COLUMNS),
    document_values=", ".join(f"%({column})s" for column in DOCUMENT_COLUMNS),
)


def insert(draft: Invoice, lines: Sequence[Drafted]) -> None:
    """Write a draft and its lines, in one statement and without reading back the lines' ids."""
    rows = [line._asdict() for line in lines]
    document = {column: getattr(draft, column) for column in DOCUMENT_COLUMNS}
    written = prepared.rows(INSERT, {**document, "lines": json.dumps(rows, default=str)})
    ((draft.pk, draft.created_at),) = written
    draft._state.adding = False


class Carried(NamedTuple):
    """What there is to know of a line on a document to bill the difference to it."""

    version: str
    component: str
    model: str
    register: str
    bucket: str
    step: int
    quantity: int
    unit_price: Decimal | None
    per: int
    trace: Said


def rated(line: InvoiceLine | Carried) -> list[RatedLine]:
    """The rated lines that a line on paper was: one, or one for each of its prices."""
    parts = line.trace.get("parts")
    if parts is None:
        assert line.unit_price is not None
        return [_rated(line, line.unit_price, line.quantity, line.trace)]
    trace = {name: value for name, value in line.trace.items() if name != "parts"}
    return [_rated(line, Decimal(price), quantity, trace) for price, quantity in parts]


def is_charge(line: InvoiceLine | RatedLine) -> bool:
    """Whether a line is of a charge and of no usage."""
    return line.trace.get("shape") in CHARGES


def _difference(paper: PaperLine) -> Said:
    """What several prices' quantities were and are, added up; empty where none was billed."""
    found = [line.trace.get("difference") for line in paper.lines]
    if not any(found):
        return {}
    billed = sum(said["billed"] for said in found if isinstance(said, Mapping))
    return {"difference": {"now": billed + paper.quantity, "billed": billed}}


def _rated(
    line: InvoiceLine | Carried, unit_price: Decimal, quantity: int, trace: Said
) -> RatedLine:
    return RatedLine(
        version=line.version,
        component=line.component,
        model=line.model,
        register=line.register,
        bucket=line.bucket,
        step=line.step,
        quantity=quantity,
        unit_price=unit_price,
        per=line.per,
        trace=trace,
    )


def _describe(invoice: Invoice, period: Period, line: RatedLine) -> str:
    words = [*_of_charge(line, invoice.currency)] if is_charge(line) else [*_of_usage(line)]
    if period.start != invoice.period_start:
        words.append(f"difference for {_days(period, invoice.zone)}")
    return ", ".join(words)


def _of_usage(line: RatedLine) -> Iterator[str]:
    yield f"{line.model}: {readings.register_label(line.register)}"
    if line.bucket:
        yield line.bucket.replace("_", "-")
    for name, noun in (("step", "step"), ("volume", "step"), ("tier", "tier")):
        step = line.trace.get(name)
        if isinstance(step, dict):
            yield f"{noun} {step['number']} of {step['of']}"
    modifiers = line.trace.get("modifiers")
    if isinstance(modifiers, list):
        yield from (f"x {modifier['factor']} ({modifier['code']})" for modifier in modifiers)
    if line.component.startswith(ALLOWANCE):
        yield f"free ({line.component.removeprefix(ALLOWANCE)})"
    if is_negotiated(line.trace):
        yield "negotiated"
    if line.component == UNPRICED:
        yield "no price, not charged"


def _of_charge(line: RatedLine, currency: str) -> Iterator[str]:
    kind = str(line.trace["shape"])
    said = line.trace.get(kind, {})
    assert isinstance(said, Mapping)
    named = f"{NAMES[kind]} ({line.component})"
    yield f"{line.model}: {named.lower()}" if line.model else named
    yield from _NUMBERS[kind](
        line, said, lambda minor: written(from_minor(minor, currency), currency)
    )


Money = Callable[[int], str]
NAMES = {
    "demand": "Demand",
    "capacity": "Reserved capacity",
    "standing": "Standing charge",
    "pass_through": "Provider's cost",
    "fee": "Fee",
    "minimum": "Minimum charge",
    "ladder": "Adjustment",
    "commitment": "Commitment",
}


def _standing(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    if said["days"] != said["of"] or said["each"] == "day":
        yield f"{said['days']} of {said['of']} days"


def _demand(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    if line.step:
        yield "beyond the contract"
    else:
        of = "at the system's peak" if said["basis"] == "coincident" else "peak of"
        yield f"{of} {said['measured_tpm']:,} tokens a minute"


def _capacity(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    side = line.register.partition("_")[0]
    yield f"{said[f'{side}_tpm']:,} {side} tokens a minute"


def _pass_through(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    yield f"with a markup of {line.trace['markup_percent']}%"


def _fee(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    if said:
        yield f"{said['percent']}% of {money(said['of_minor'])}"


def _minimum(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    yield f"what {money(said['eligible_minor'])} fall short of {money(said['minimum_minor'])}"


def _ladder(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    yield f"{said['percent']}% of {money(said['of_minor'])}"


def _commitment(line: RatedLine, said: Said, money: Money) -> Iterator[str]:
    yield f"what {money(said['spent_minor'])} fall short of {money(said['committed_minor'])}"


_NUMBERS: Mapping[str, Callable[[RatedLine, Said, Money], Iterator[str]]] = {
    "demand": _demand,
    "capacity": _capacity,
    "standing": _standing,
    "pass_through": _pass_through,
    "fee": _fee,
    "minimum": _minimum,
    "ladder": _ladder,
    "commitment": _commitment,
}


def _days(period: Period, zone: str) -> str:
    first = period.start.astimezone(ZoneInfo(zone)).date()
    last = (period.end - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
    return f"{first.isoformat()} to {last.isoformat()}"
