"""How the pipeline does: figures for the dashboard and the pipeline page. Reads, never writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Now

from accounts.models import Organization
from billing import invoicing
from billing.models import Invoice, Subscription
from metering import readings, reaggregation, rejections
from metering.models import Heartbeat, IngestBatch
from metering.readings import Freshness
from metering.reaggregation import Progress

HEARTBEAT_AGE_MAX = timedelta(seconds=30)
LAG_MAX_S = 60  # readings are made every few seconds; a minute behind, somebody should look
SHOWN_MAX = 100

BY_HOUR = """
    WITH first (hour) AS (
        VALUES (date_trunc('hour', %(now)s::timestamptz, 'UTC') - interval '23 hours')
    ), arrived AS (
        SELECT date_trunc('hour', received_at, 'UTC') AS hour, sum(accepted) AS accepted,
               sum(duplicate) AS duplicate, sum(conflict) AS conflict, sum(rejected) AS rejected
        FROM metering_ingestbatch
        WHERE received_at >= (SELECT hour FROM first)
        GROUP BY 1
    )
    SELECT hours.hour, coalesce(accepted, 0), coalesce(duplicate, 0), coalesce(conflict, 0),
           coalesce(rejected, 0)
    FROM first
    CROSS JOIN generate_series(first.hour, first.hour + interval '23 hours', '1 hour')
        AS hours (hour)
    LEFT JOIN arrived ON arrived.hour = hours.hour
    ORDER BY hours.hour
"""
PARTITIONS = """
    SELECT replace(child.relname, 'metering_segment_', ''),
           pg_get_expr(child.relpartbound, child.oid),
           greatest(child.reltuples, 0)::bigint, pg_total_relation_size(child.oid)
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
    WHERE pg_inherits.inhparent = 'metering_segment'::regclass
    ORDER BY child.relname DESC LIMIT 60
"""


@dataclass(frozen=True, slots=True)
class Hour:
    """What arrived within one hour."""

    starts_at: datetime
    accepted: int
    duplicate: int
    conflict: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Partition:
    """One week of events on disk, a segment for each batch; the count is the planner's estimate."""

    name: str
    bounds: str
    segments: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Billing:
    """What waits to be billed, and what was billed in the last thirty days, by currency."""

    periods_due: int
    waiting_longest: datetime | None
    drafts: int
    issued: list[tuple[str, int, int]]  # currency, documents, minor units


@dataclass(frozen=True, slots=True)
class Health:
    """Everything the dashboard shows."""

    freshness: Freshness
    hours: list[Hour]
    workers: list[Heartbeat]
    workers_alive: int
    billing: Billing

    @property
    def lag_is_bad(self) -> bool:
        """Whether the oldest pending batch has waited too long."""
        return (self.freshness.oldest_pending_s or 0) > LAG_MAX_S

    def total(self, outcome: str) -> int:
        """How many events had this outcome in the last 24 hours."""
        return sum(getattr(hour, outcome) for hour in self.hours)

    @property
    def accepted(self) -> int:
        return self.total("accepted")

    @property
    def duplicate(self) -> int:
        return self.total("duplicate")

    @property
    def conflict(self) -> int:
        return self.total("conflict")

    @property
    def rejected(self) -> int:
        return self.total("rejected")


def look(now: datetime) -> Health:
    """Look at everything once."""
    alive = Heartbeat.objects.filter(seen_at__gt=Now() - HEARTBEAT_AGE_MAX)
    return Health(
        freshness=readings.freshness(),
        hours=by_hour(now),
        workers=list(Heartbeat.objects.order_by("-seen_at")[:SHOWN_MAX]),
        workers_alive=alive.count(),
        billing=billing(now),
    )


def by_hour(now: datetime) -> list[Hour]:
    """What arrived in each of the last 24 hours, this one included."""
    with connection.cursor() as cursor:
        cursor.execute(BY_HOUR, {"now": now})
        return [Hour(row[0], *(int(count) for count in row[1:])) for row in cursor.fetchall()]


def billing(now: datetime) -> Billing:
    """What waits, and what was done."""
    due = invoicing.due(now=now)
    first = Subscription.objects.filter(pk__in=due[:1]).values_list("next_close_at", flat=True)
    issued = (
        Invoice.objects.filter(status=Invoice.Status.ISSUED, issued_at__gt=now - timedelta(days=30))
        .order_by("currency")
        .values_list("currency")
        .annotate(documents=Count("pk"), minor=Sum("total_minor"))
    )
    return Billing(
        periods_due=len(due),
        waiting_longest=first.first(),
        drafts=Invoice.objects.filter(status=Invoice.Status.DRAFT).count(),
        issued=list(issued),
    )


def open_batches(state: str) -> list[tuple[IngestBatch, Organization | None]]:
    """The oldest batches in a state other than applied, and whose they are."""
    batches: QuerySet[IngestBatch] = IngestBatch.objects.filter(state=state).order_by("id")
    shown = list(batches[:SHOWN_MAX])
    owners = Organization.objects.in_bulk({batch.organization_id for batch in shown})
    return [(batch, owners.get(batch.organization_id)) for batch in shown]


def reaggregations() -> list[tuple[Progress, Organization | None]]:
    """Readings that are summed anew, those that fail first, and whose they are."""
    shown = reaggregation.progress(SHOWN_MAX)
    owners = Organization.objects.in_bulk({one.organization_id for one in shown})
    return [(one, owners.get(one.organization_id)) for one in shown]


def full_quarantines(now: datetime) -> list[tuple[Organization, int]]:
    """Organizations of whose rejected events some are not kept today, and how many."""
    full = rejections.full_quarantines(now)[:SHOWN_MAX]
    owners = Organization.objects.in_bulk([organization_id for organization_id, _ in full])
    return [(owners[owner], left_out) for owner, left_out in full if owner in owners]


def partitions() -> list[Partition]:
    """Where events lie, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONS)
        return [Partition(*row) for row in cursor.fetchall()]
