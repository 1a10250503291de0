"""Does it balance, to the token: file = events = readings = rated = invoiced.

Each column is asked of its own step and of none other: the file is read again, the events are
summed where they lie, the readings as billing sees them, the rating is done anew, and the invoices
are added up from their lines. Where an organization holds other usage in the same billing periods,
that usage is a column of its own, so that the sum still balances exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, Sum

from accounts.models import Organization
from billing import invoicing, pricing, reckoning, subscriptions
from billing.lines import is_charge
from billing.models import Invoice, InvoiceLine, Subscription
from billing.rating.charges import CHARGES
from billing.rating.line import RatedLine
from billing.rating.package import PACKAGES
from billing.rating.period import Period
from metering import readings

REQUESTS = "requests"
COLUMNS = ("file", "events", "other", "readings", "rated", "invoiced", "due later")

CORE = ("input", "cache_read", "cache_write", "output", "reasoning")
# Only events whose batch is applied, without those that were taken back: what is on its way is in
# neither column.
FROM = """
      FROM metering_event e
      JOIN metering_ingestbatch b
        ON b.organization_id = e.organization_id AND b.id = e.batch_id
       AND b.received_at = e.received_at AND b.state = 'applied'
      LEFT JOIN (metering_void v JOIN metering_ingestbatch taker
                 ON taker.organization_id = v.organization_id AND taker.id = v.batch_id
                AND taker.state = 'applied')
        ON v.organization_id = e.organization_id
       AND v.target_batch_id = e.batch_id AND v.target_ordinal = e.ordinal
"""
OF_SOURCE = """
      JOIN metering_eventkey k
        ON k.organization_id = e.organization_id
       AND k.batch_id = e.batch_id AND k.ordinal = e.ordinal
     WHERE b.organization_id = ANY(%(who)s) AND e.organization_id = ANY(%(who)s)
       AND k.organization_id = ANY(%(who)s) AND k.source = %(source)s
       AND v.batch_id IS NULL
"""
IN_PERIOD = """
     WHERE e.organization_id = %(who)s AND b.organization_id = %(who)s
       AND e.occurred_at >= %(start)s AND e.occurred_at < %(end)s AND v.batch_id IS NULL
"""
CORE_SUMS = """
    SELECT count(*), sum(e.input), sum(e.cache_read), sum(e.cache_write), sum(e.output),
           sum(e.reasoning)
"""
OTHER_SUMS = """
    SELECT register.key, sum(register.value::bigint)
"""
EACH_OTHER = """
     CROSS JOIN LATERAL jsonb_each_text(e.other) AS register
"""
GROUPED = " GROUP BY register.key"

BilledPeriod = tuple[Subscription, Period]
Totals = Counter[str]


@dataclass(slots=True)
class Books:
    """The columns, register by register, and what does not balance."""

    file: Totals = field(default_factory=Counter)
    events: Totals = field(default_factory=Counter)
    other: Totals = field(default_factory=Counter)
    readings: Totals = field(default_factory=Counter)
    rated: Totals = field(default_factory=Counter)
    invoiced: Totals = field(default_factory=Counter)
    due_later: Totals = field(default_factory=Counter)
    fates: Totals = field(default_factory=Counter)  # no column: all of the events, or a fault
    faults: list[str] = field(default_factory=list)
    invoices: list[str] = field(default_factory=list)

    def column(self, name: str) -> Totals:
        totals: Totals = getattr(self, name.replace(" ", "_"))
        return totals

    def registers(self) -> list[str]:
        """Those that anything was counted in, in the order of a rating key; requests come last."""
        used = {register for name in COLUMNS for register, n in self.column(name).items() if n}
        known = [register for register in CORE if register in used]
        return [*known, *sorted(used - {*CORE, REQUESTS}), REQUESTS]

    def add(self, other: Books) -> None:
        """Take over the columns of one organization."""
        for name in COLUMNS[1:]:
            self.column(name).update(other.column(name))
        self.faults += other.faults
        self.invoices += other.invoices


def periods_touched(
    organization: Organization, start: datetime, end: datetime
) -> list[BilledPeriod]:
    """The billing periods around a stretch of time, up to the first gap: there nobody pays."""
    found: list[BilledPeriod] = []
    moment = start
    while moment <= end:
        subscription = subscriptions.current(organization, moment)
        if subscription is None:
            break
        period = subscriptions.period_at(subscription, moment)
        found.append((subscription, period))
        moment = period.end
    return found


def is_billed(subscription: Subscription, period: Period) -> bool:
    """Whether an issued invoice stands for this period already."""
    return Invoice.objects.filter(
        subscription=subscription, period_start=period.start, status=Invoice.Status.ISSUED
    ).exists()


@transaction.atomic
def books_of(
    organization: Organization,
    periods: Sequence[BilledPeriod],
    *,
    source: str,
    billed_before: Collection[BilledPeriod] = (),
    invoice: bool = True,
    now: datetime,
) -> Books:
    """One organization's columns over whole billing periods, all as of one instant.

    Usage of a period that was billed before this usage came is due with the next invoice, as a
    difference; so is everything in a period that is not over, or was asked not to be invoiced.
    """
    _take_snapshot()
    books = Books(events=events_of([organization.pk], source))
    for subscription, period in periods:
        _add_period(books, subscription, period)
        books.fates.update(reckoning.of_period(subscription, period, now).in_readings())
        if (
            not invoice
            or subscriptions.closes_at(subscription, period) > now
            or (subscription, period) in billed_before
        ):
            books.due_later.update(_totals(invoicing.owed(subscription, period)))
    books.other.subtract(books.events)
    books.faults = [f"{organization.slug}: {fault}" for fault in _faults(books)]
    return books


def events_of(organization_ids: Collection[int], source: str) -> Totals:
    """What the stored events of one source add up to, as far as they are in the readings."""
    return _sums(OF_SOURCE, {"who": list(organization_ids), "source": source})


def _take_snapshot() -> None:
    """One instant for all columns; and every join by hashing, for whole batches are joined.

    The planner takes the three columns of an event's place for independent, expects one row where
    there are thousands, and would go through each batch once for each of its events.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute("SET LOCAL enable_mergejoin = off")


def _add_period(books: Books, subscription: Subscription, period: Period) -> None:
    organization_id = subscription.organization_id
    within = {"who": organization_id, "start": period.start, "end": period.end}
    books.other.update(_sums(IN_PERIOD, within))
    # Rating adds up hours; here the quarter-hours themselves are asked, so that the columns differ
    # where the two do.
    query = readings.Query(period.start, period.end, "quarter_hour", group_by=("register",))
    for row in readings.series(organization_id, query):
        books.readings[row.group[0]] += row.quantity
    (metered,) = pricing.meter([(subscription, period)])
    books.rated.update(_totals(metered.rated(pricing.past_of(metered))))
    issued = InvoiceLine.objects.filter(
        invoice__organization=subscription.organization_id,
        usage_start=period.start,
        usage_end=period.end,
        invoice__status=Invoice.Status.ISSUED,
    )
    of_usage = issued.exclude(trace__shape__in=list(CHARGES)).exclude(register=PACKAGES)
    for register, quantity in of_usage.values_list("register").annotate(total=Sum("quantity")):
        books.invoiced[register] += int(quantity)
    of_period = Q(subscription=subscription, period_start=period.start)
    documents = Invoice.objects.filter(of_period | Q(pk__in=issued.values("invoice")))
    issued_ones = documents.filter(status=Invoice.Status.ISSUED).order_by("number")
    books.invoices += [str(invoice.number) for invoice in issued_ones]


def _sums(which: str, parameters: Mapping[str, Any]) -> Totals:
    totals: Totals = Counter()
    with connection.cursor() as cursor:
        cursor.execute(CORE_SUMS + FROM + which, parameters)
        for register, quantity in zip((REQUESTS, *CORE), cursor.fetchone(), strict=True):
            totals[register] += int(quantity or 0)
        cursor.execute(OTHER_SUMS + FROM + EACH_OTHER + which + GROUPED, parameters)
        for register, quantity in cursor.fetchall():
            totals[register] += int(quantity)
    return totals


def _totals(lines: Iterable[RatedLine]) -> Totals:
    """What lines say was used: charges and opened packages are counted besides it."""
    totals: Totals = Counter()
    for line in lines:
        if not is_charge(line) and line.register != PACKAGES:
            totals[line.register] += line.quantity
    return totals


def _faults(books: Books) -> Iterator[str]:
    """Every pair of neighbouring columns that is not equal, in words."""
    for register in books.registers():
        events = books.events[register] + books.other[register]
        read, rated = books.readings[register], books.rated[register]
        billed = books.invoiced[register] + books.due_later[register]
        if books.other[register] < 0:
            yield f"{register}: {-books.other[register]:,} lie in no billing period"
        elif read != events:
            yield f"{register}: readings are {read:,}, events {events:,}"
        if books.other[register] >= 0 and books.fates[register] != events:
            yield f"{register}: the fates add up to {books.fates[register]:,}, events {events:,}"
        if register == REQUESTS:
            continue  # counted one per event; most tariffs have no price for them and no line
        if rated != read:
            yield f"{register}: rated is {rated:,}, readings are {read:,}"
        if billed != rated:
            yield f"{register}: invoiced and due is {billed:,}, rated {rated:,}"


def compare_with_file(books: Books) -> list[str]:
    """Where the stored events of a replay differ from the file."""
    return [
        f"{register}: the file has {books.file[register]:,}, events {books.events[register]:,}"
        for register in books.registers()
        if books.file[register] != books.events[register]
    ]


def table(books: Books) -> list[str]:
    """The books as text: a row for each register, a column for each step."""
    shown = [
        name
        for name in COLUMNS
        if name not in ("other", "due later") or any(books.column(name).values())
    ]
    rows = [["", *shown]]
    rows += [
        [register, *(_cell(books, name, register) for name in shown)]
        for register in books.registers()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cell(books: Books, column: str, register: str) -> str:
    if register == REQUESTS and column in ("rated", "invoiced", "due later"):
        return "" if not books.column(column)[register] else f"{books.column(column)[register]:,}"
    return f"{books.column(column)[register]:,}"


def notes(books: Books) -> list[str]:
    """What a reader of the table wants to know next."""
    said = []
    if any(books.other.values()):
        said.append(
            "other: usage that these organizations reported in the same billing periods otherwise."
        )
    if any(books.due_later.values()):
        said.append(
            "due later: the period is not over, was not to be invoiced, or was invoiced before "
            "this usage came; the next invoice bills it, as a difference."
        )
    if books.invoices:
        shown = ", ".join(books.invoices[:3]) + (" ..." if len(books.invoices) > 3 else "")
        said.append(f"{len(books.invoices):,} invoice(s): {shown}")
    if not books.faults:
        said.append("It balances, to the token.")
    return said
