"""Drafts: what a period costs, and what earlier periods cost by now, less what is billed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Min

from billing import pricing
from billing.models import Invoice, InvoiceLine, Subscription, TariffVersion
from billing.rating.difference import still_owed
from billing.rating.line import ALLOWANCE, UNPRICED, RatedLine
from billing.rating.money import to_minor
from billing.rating.period import Period
from metering import readings

# An event may be 35 days old when it is accepted; two days more for clocks and slow hands.
LATE_USAGE_MAX = timedelta(days=37)
CLOCKS_APART_MAX = timedelta(days=1)

PeriodOf = tuple[Subscription, Period]


def owed(subscription: Subscription, period: Period) -> list[RatedLine]:
    """What a period costs by the readings and the tariff of now, less what is billed for it."""
    (lines,) = _owed([(subscription, period)])
    return lines


def draft(subscription: Subscription, period: Period) -> Invoice:
    """Write the draft of a period's invoice, in place of an older draft of it.

    Its own lines come first; then, oldest first, the differences of earlier periods.
    """
    with transaction.atomic():
        return write_draft(subscription, period)


def write_draft(subscription: Subscription, period: Period) -> Invoice:
    """The same, inside the caller's transaction and without a savepoint of its own."""
    overlapping = subscription.invoices.filter(
        status=Invoice.Status.DRAFT, period_start__lt=period.end, period_end__gt=period.start
    )
    overlapping.delete()
    periods = [(subscription, period), *_may_have_changed(subscription, period)]
    invoice = Invoice(
        organization=subscription.organization,
        subscription=subscription,
        period_start=period.start,
        period_end=period.end,
        currency=subscription.tariff.currency,
        zone=subscription.zone,
        replaces=_voided(subscription, period),
    )
    lines = _lines(invoice, zip(periods, _owed(periods), strict=True))
    invoice.subtotal_minor = sum(line.amount_minor for line in lines)
    invoice.total_minor = invoice.subtotal_minor + invoice.tax_minor
    invoice.save(force_insert=True)
    InvoiceLine.objects.bulk_create(lines)
    return invoice


def billed(periods: Sequence[PeriodOf]) -> list[list[RatedLine]]:
    """What issued documents carry for each period. Neither drafts nor void documents count.

    An organization's subscriptions never overlap, so its periods are known by their instants.
    """
    found: dict[tuple[datetime, datetime], list[RatedLine]] = defaultdict(list)
    first = min(period.start for _, period in periods)
    lines = InvoiceLine.objects.filter(
        invoice__organization=periods[0][0].organization_id,
        invoice__status=Invoice.Status.ISSUED,
        invoice__period_end__gt=first,
        usage_start__gte=first,
    )
    for line in lines.order_by("pk"):
        found[line.usage_start, line.usage_end].append(rated(line))
    return [found[period.start, period.end] for _, period in periods]


def rated(line: InvoiceLine) -> RatedLine:
    """The rated line that a line on paper was."""
    return RatedLine(
        version=line.version,
        component=line.component,
        model=line.model,
        register=line.register,
        bucket=line.bucket,
        step=line.step,
        quantity=line.quantity,
        unit_price=line.unit_price,
        per=line.per,
        trace=line.trace,
    )


def _owed(periods: Sequence[PeriodOf]) -> list[list[RatedLine]]:
    now = [metered.rated() for metered in pricing.meter(periods)]
    before = billed(periods)
    return [still_owed(*of_period) for of_period in zip(now, before, strict=True)]


def _may_have_changed(subscription: Subscription, period: Period) -> list[PeriodOf]:
    """The organization's billed periods that late usage or a corrected tariff may have changed.

    Also those of its earlier subscriptions: whoever changed the tariff still owes them.
    """
    earlier = Invoice.objects.filter(
        organization=subscription.organization_id,
        status=Invoice.Status.ISSUED,
        currency=subscription.tariff.currency,
        period_end__lte=period.start,
    ).order_by("period_start")
    fields = ("subscription", "period_start", "period_end", "created_at")
    billed_periods = list(earlier.values_list(*fields))
    if not billed_periods:
        return []
    # The last one's close saw what was applied, and known, before its end; all else is news.
    _, _, news, drafted_at = billed_periods[-1]
    since = min(
        news - LATE_USAGE_MAX,
        _corrected_since(subscription, news - CLOCKS_APART_MAX),
        _usage_changed_since(subscription, min(news, drafted_at) - CLOCKS_APART_MAX),
    )
    found = [(of, Period(start, end)) for of, start, end, _ in billed_periods if end > since]
    known = {subscription.pk: subscription}
    others = {of for of, _ in found} - known.keys()
    if others:
        known |= Subscription.objects.select_related("organization", "tariff").in_bulk(others)
    return [(known[of], of_period) for of, of_period in found]


def _corrected_since(subscription: Subscription, known_after: datetime) -> datetime:
    """How far back the versions that became known after an instant reach."""
    new = TariffVersion.objects.filter(
        tariff__subscriptions__organization=subscription.organization, known_at__gt=known_after
    )
    reach: datetime | None = new.aggregate(first=Min("valid_from"))["first"]
    return reach or known_after


def _usage_changed_since(subscription: Subscription, known_after: datetime) -> datetime:
    """How far back the voids and backfills that came after an instant reach."""
    reach = readings.changed_since(subscription.organization_id, known_after)
    return reach or known_after


def _voided(subscription: Subscription, period: Period) -> Invoice | None:
    """The void document of this period that no other one replaces yet."""
    return subscription.invoices.filter(
        status=Invoice.Status.VOID,
        period_start=period.start,
        period_end=period.end,
        replaced_by=None,
    ).last()


def _lines(
    invoice: Invoice, owed_by_period: Iterable[tuple[PeriodOf, list[RatedLine]]]
) -> list[InvoiceLine]:
    rows = [(of, line) for of, lines in owed_by_period for line in _as_read(lines)]
    return [_line(invoice, position, of, line) for position, (of, line) in enumerate(rows, start=1)]


def _as_read(lines: Sequence[RatedLine]) -> list[RatedLine]:
    """Model by model, as the document shows them; within a model in the order of rating."""
    models = list(dict.fromkeys(line.model for line in lines))
    return sorted(lines, key=lambda line: models.index(line.model))


def _line(invoice: Invoice, position: int, of: PeriodOf, line: RatedLine) -> InvoiceLine:
    _, period = of
    return InvoiceLine(
        invoice=invoice,
        position=position,
        usage_start=period.start,
        usage_end=period.end,
        description=_describe(invoice, period, line),
        amount_exact=line.amount,
        amount_minor=to_minor(line.amount, invoice.currency),
        quantity=line.quantity,
        trace=dict(line.trace),
        **line.key._asdict(),
    )


def _describe(invoice: Invoice, period: Period, line: RatedLine) -> str:
    words = [f"{line.model}: {readings.register_label(line.register)}"]
    if line.bucket:
        words.append(line.bucket.replace("_", "-"))
    step = line.trace.get("step")
    if isinstance(step, dict):
        words.append(f"step {step['number']} of {step['of']}")
    if line.component.startswith(ALLOWANCE):
        words.append(f"free ({line.component.removeprefix(ALLOWANCE)})")
    if line.component == UNPRICED:
        words.append("no price, not charged")
    if period.start != invoice.period_start:
        words.append(f"difference for {_days(period, invoice.zone)}")
    return ", ".join(words)


def _days(period: Period, zone: str) -> str:
    first = period.start.astimezone(ZoneInfo(zone)).date()
    last = (period.end - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
    return f"{first.isoformat()} to {last.isoformat()}"
