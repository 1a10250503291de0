"""Why a line says what it says: in sentences, in readings, and in what changed since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from billing import negotiations, pricing
from billing.drafting import billed
from billing.lines import is_charge, rated
from billing.models import Invoice, InvoiceLine, Subscription
from billing.rating.difference import still_owed
from billing.rating.period import Period
from billing.rating.rate import RatedLine, Segment, segments
from billing.rating.sentences import paper_sentences, sentences
from metering import readings


@dataclass(frozen=True, slots=True)
class QuarterHour:
    """One quarter-hour's quantity."""

    starts_at: datetime
    quantity: int


@dataclass(frozen=True, slots=True)
class Day:
    """One local day's quantity, and the quarter-hours it is the sum of."""

    day: date
    quantity: int
    quarter_hours: list[QuarterHour]


@dataclass(frozen=True, slots=True)
class Share:
    """A line, on whatever document, that bills some of the same usage."""

    invoice_number: str
    position: int
    description: str
    quantity: int
    amount_minor: int
    is_this_line: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """`quantity` is the sum of the days: what the meter shows now for the model and register, in
    the time the line's price was in force. `shares` bill the model and register in the whole
    period of use; steps, allowances and buckets divide it among them. A charge has no days, and its
    shares are of the charge. `changes` are not billed
    yet: they stand on the organization's next invoice."""

    line: InvoiceLine
    sentences: list[str]
    zone: str
    usage: Period
    days: list[Day]
    quantity: int
    shares: list[Share]
    metered: int  # model and register in the whole period of use, as it comes to now
    billed: int  # the sum of the shares
    changes: list[RatedLine]
    changes_in_words: list[str]


def explain(line: InvoiceLine) -> Explanation:
    """Tell where a line's quantity and price come from, down to the quarter-hour."""
    invoice = line.invoice
    usage = Period(line.usage_start, line.usage_end)
    subscription = _subscription_then(invoice, usage)
    days = _days(line, subscription, usage)
    shares = _shares(line)
    (now,) = pricing.lines_as_known([(subscription, usage)])
    changes = _changes(line, subscription, usage, now)
    zone = ZoneInfo(invoice.zone)
    return Explanation(
        line=line,
        sentences=paper_sentences(rated(line), invoice.currency, zone),
        zone=invoice.zone,
        usage=usage,
        days=days,
        quantity=sum(day.quantity for day in days),
        shares=shares,
        metered=sum(one.quantity for one in now if _alike(one, line)),
        billed=sum(share.quantity for share in shares),
        changes=changes,
        changes_in_words=[sentences(change, invoice.currency)[0] for change in changes],
    )


def _subscription_then(invoice: Invoice, usage: Period) -> Subscription:
    """The subscription that was in force when the usage happened; the invoice may be a later's."""
    return (
        Subscription.objects.select_related("organization", "tariff")
        .filter(organization=invoice.organization_id, starts_at__lte=usage.start)
        .order_by("starts_at")
        .reverse()[0]
    )


def _days(line: InvoiceLine, subscription: Subscription, usage: Period) -> list[Day]:
    zone = ZoneInfo(line.invoice.zone)
    if is_charge(line):
        return []
    in_force = _in_force(line, subscription, usage)
    query = readings.Query(
        start=usage.start,
        end=usage.end,
        step="quarter_hour",
        zone=line.invoice.zone,
        group_by=(),
        filters={"model": [line.model], "register": [line.register]},
    )
    days: dict[date, list[QuarterHour]] = {}
    for row in readings.series(line.invoice.organization_id, query):
        if row.starts_at is None or not row.quantity:
            continue
        if any(segment.start <= row.starts_at < segment.end for segment in in_force):
            days.setdefault(row.starts_at.astimezone(zone).date(), []).append(
                QuarterHour(row.starts_at, row.quantity)
            )
    return [
        Day(day, sum(quarter.quantity for quarter in quarters), quarters)
        for day, quarters in sorted(days.items())
    ]


def _in_force(line: InvoiceLine, subscription: Subscription, usage: Period) -> Sequence[Segment]:
    """When the line's price was in force. A version that was corrected since has no such time:
    then it is the whole period."""
    pieces = [
        segment
        for segment in segments(negotiations.terms_in(subscription, usage))
        if segment.version == line.version and line.bucket in ("", segment.bucket)
    ]
    return pieces or [Segment(usage.start, usage.end, line.version, line.bucket)]


def _shares(line: InvoiceLine) -> list[Share]:
    same_usage = InvoiceLine.objects.filter(
        invoice__organization=line.invoice.organization_id,
        invoice__status=Invoice.Status.ISSUED,
        usage_start=line.usage_start,
        usage_end=line.usage_end,
        model=line.model,
        register=line.register,
    ).select_related("invoice")
    if is_charge(line):
        same_usage = same_usage.filter(component=line.component)
    return [
        Share(
            invoice_number=str(share.invoice),
            position=share.position,
            description=share.description,
            quantity=share.quantity,
            amount_minor=share.amount_minor,
            is_this_line=share.pk == line.pk,
        )
        for share in same_usage.order_by("invoice__number", "position")
    ]


def _changes(
    line: InvoiceLine, subscription: Subscription, usage: Period, now: list[RatedLine]
) -> list[RatedLine]:
    (before,) = billed([(subscription, usage)])
    return [change for change in still_owed(now, before) if _alike(change, line)]


def _alike(one: RatedLine, line: InvoiceLine) -> bool:
    """Whether both are of one model and register; of charges, whether they are the same one."""
    same = (one.model, one.register) == (line.model, line.register)
    return same and (not is_charge(line) or one.component == line.component)
