"""A replay: which file becomes whose usage at which instants, sent once however often it is run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from django.core.management.base import CommandError
from django.db.models import Min

from accounts import organizations
from accounts.models import Organization
from billing import catalog, invoicing, subscriptions
from billing.models import Subscription, Tariff
from billing.rating.period import calendar_month, local_day
from console import reconciling, sending
from console.journal import Journal
from console.progress import Progress
from console.reconciling import BilledPeriod, Books
from metering.models import EventKey, UsageEvent
from metering.usage.event import AGE_MAX, AHEAD_MAX
from workloads import traces
from workloads.request import Request
from workloads.sender import Tally
from workloads.traces import Format, Summary

# Sending takes a while, and the server's clock is another one: stay clear of the edge.
AGE_MARGIN = timedelta(hours=1)
DEFAULT_AGE_MAX = timedelta(days=34)
LINGER_S = 1  # how long a paced event waits for company
FILE_NAME_MAX = 80  # a source has 128 characters at most
MICROSECOND = timedelta(microseconds=1)
DEFAULT_MODELS = {Format.AZURE: "gpt-5", Format.MOONCAKE: "kimi-k2"}


@dataclass(frozen=True, slots=True)
class Trace:
    """A file, read through once: what it holds and the name its events go by."""

    path: Path
    format: Format
    model: str
    limit: int | None
    summary: Summary
    source: str

    def requests(self) -> Iterator[Request]:
        return traces.read(self.path, self.format, model=self.model, limit=self.limit)

    def within(self, start: datetime) -> tuple[datetime, datetime]:
        """The first and the last instant of it, if offset 0 is at start."""
        return (
            start + self.summary.first_offset_us * MICROSECOND,
            start + self.summary.last_offset_us * MICROSECOND,
        )


@dataclass(slots=True)
class Replay:
    """A trace with a place in time and somebody to bill for each client."""

    trace: Trace
    start: datetime
    by_client: dict[str, Organization]  # "" stands for everybody
    tariff: Tariff | None
    billed_before: list[BilledPeriod] = field(default_factory=list)

    @property
    def organizations(self) -> list[Organization]:
        return list({found.pk: found for found in self.by_client.values()}.values())

    def organization_of(self, request: Request) -> Organization:
        return self.by_client.get(request.client) or self.by_client[""]


def read_trace(path: Path, trace_format: Format, *, model: str, limit: int | None) -> Trace:
    """Read a file through and add it up, before anything is sent."""
    model = model or DEFAULT_MODELS.get(trace_format, "unknown")
    requests = traces.read(path, trace_format, model=model, limit=limit)
    summary = traces.summarize(requests)
    if not summary.rows:
        raise CommandError(f"{path.name} has no rows.")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name)[-FILE_NAME_MAX:]
    source = f"replay:{name}:{traces.digest(path)[:12]}"
    return Trace(path, trace_format, model, limit, summary, source)


def choose_start(
    trace: Trace, asked: datetime | None, who: Sequence[Organization], zone: str, now: datetime
) -> tuple[datetime, str]:
    """When offset 0 is, and why: as asked, as before, as the file says, or in the last month."""
    if asked is not None:
        return asked.astimezone(UTC), "as asked"
    before = _start_before(trace, who)
    if before is not None:
        return before, "as in the earlier run: the same events again"
    if trace.format is Format.CSV and (origin := traces.origin(trace.path)):
        return origin, "as the file says"
    start, why = default_start(trace.summary, ZoneInfo(zone), now)
    since = Subscription.objects.filter(organization__in=who).aggregate(since=Min("starts_at"))
    if since["since"] is None or since["since"] <= start:
        return start, why
    return _yesterday(ZoneInfo(zone), now), (
        f"yesterday: nobody is billed before {since['since']:%Y-%m-%d %H:%M} UTC"
    )


def default_start(summary: Summary, zone: ZoneInfo, now: datetime) -> tuple[datetime, str]:
    """The latest local midnight from which the whole trace falls into last month.

    Last month can be invoiced at once. Where that is too long ago to be accepted, yesterday.
    """
    month = calendar_month(zone, calendar_month(zone, now).start - MICROSECOND)
    length = (summary.last_offset_us + 1) * MICROSECOND
    day = local_day(zone, month.end - MICROSECOND)
    while day.start + length > month.end:
        day = local_day(zone, day.start - MICROSECOND)
    if day.start >= max(month.start, now - DEFAULT_AGE_MAX):
        return day.start, "within last month, which can be invoiced at once"
    return _yesterday(zone, now), "yesterday: last month is too long ago for it"


def _yesterday(zone: ZoneInfo, now: datetime) -> datetime:
    return local_day(zone, local_day(zone, now).start - MICROSECOND).start


def check_window(trace: Trace, start: datetime, now: datetime, speed: int | None) -> None:
    """Refuse before sending what the door would refuse event by event."""
    first, last = trace.within(start)
    oldest = now - AGE_MAX + AGE_MARGIN
    if first < oldest:
        raise CommandError(
            f"The first row would be of {first:%Y-%m-%d %H:%M} UTC; events older than "
            f"{AGE_MAX.days} days are not accepted. Choose --start {oldest:%Y-%m-%dT%H:%M:%SZ} "
            "or later."
        )
    sent_at = now + (last - start) / speed if speed else now
    if last > sent_at + AHEAD_MAX:
        raise CommandError(
            f"The last row would be of {last:%Y-%m-%d %H:%M} UTC, which is still to come when it "
            "is sent. Choose an earlier --start, or --speed 1 to replay in real time."
        )


def _start_before(trace: Trace, who: Sequence[Organization]) -> datetime | None:
    """Where an earlier run of this file placed offset 0, read off its first stored event."""
    key = EventKey.objects.filter(
        organization_id__in=[one.pk for one in who], source=trace.source, event_id="1"
    ).first()
    if key is None:
        return None
    stored = UsageEvent.objects.get(
        organization_id=key.organization_id, batch_id=key.batch_id, ordinal=key.ordinal
    )
    return stored.occurred_at - next(trace.requests()).offset_us * MICROSECOND


def existing(slug: str) -> Organization:
    """The organization of this slug, or a sentence that says how to make one."""
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(
            f"There is no organization {slug!r}; make it with: manage.py create_organization"
        )
    return found


def per_client(trace: Trace, tariff: Tariff, zone: str, now: datetime) -> dict[str, Organization]:
    """An organization for every client of the trace, made where it is missing."""
    found: dict[str, Organization] = {}
    with Progress("organizations", len(trace.summary.clients)) as progress:
        for number, client in enumerate(trace.summary.clients, 1):
            found[client] = _of_client(client or trace.path.stem, tariff, zone, now)
            progress.at(number)
    return found


def _of_client(client: str, tariff: Tariff, zone: str, now: datetime) -> Organization:
    slug = re.sub(r"[^a-z0-9]+", "-", f"replay-{client}".lower()).strip("-")[:50].strip("-")
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        found = organizations.create(name=slug, currency=tariff.currency, zone=zone, now=now)
    if found.slug != slug or found.currency != tariff.currency:
        raise CommandError(f"{slug} is an organization billed in {found.currency}; rename it.")
    return found


def billed_periods(replay: Replay, organization: Organization) -> list[BilledPeriod]:
    """The billing periods the replay falls into; CommandError where part of it has none.

    An organization without any subscription gets one, but only after the usage is in: the
    period has ended, and would otherwise be closed at once, and empty.
    """
    first, last = replay.trace.within(replay.start)
    found = reconciling.periods_touched(organization, first, last)
    reached = found[-1][1].end if found else first
    if last >= reached and organization.subscriptions.exists():
        raise CommandError(
            f"{organization.slug} has no subscription at {reached:%Y-%m-%dT%H:%M:%SZ}, so nobody "
            "would pay for this usage. Choose another --start or another organization."
        )
    return found


def look_for_invoices(replay: Replay) -> None:
    """Note which of the periods are invoiced already: what comes now is due with the next one."""
    for organization in replay.organizations:
        replay.billed_before += [
            of for of in billed_periods(replay, organization) if reconciling.is_billed(*of)
        ]


def subscribe_where_missing(replay: Replay) -> None:
    """Put organizations without a subscription on the tariff, from the month of the replay on."""
    first, _ = replay.trace.within(replay.start)
    for organization in replay.organizations:
        if organization.subscriptions.exists():
            continue
        tariff = replay.tariff or tariff_for(organization.currency)
        month = calendar_month(ZoneInfo(organization.zone), first)
        subscriptions.subscribe(organization, tariff, month.start)


def tariff_for(currency: str) -> Tariff:
    """The preset of a currency."""
    return tariff_of(f"standard-{currency.lower()}")


def tariff_of(code: str) -> Tariff:
    """A tariff by its code; CommandError names those there are."""
    found = Tariff.objects.filter(code=code).first()
    if found is None:
        known = ", ".join(Tariff.objects.values_list("code", flat=True)) or "none"
        raise CommandError(f"There is no tariff {code!r}; the tariffs are: {known}.")
    return found


def ensure_presets(now: datetime) -> None:
    """Publish the presets of a Kilotoken that has no tariff yet."""
    if not Tariff.objects.exists():
        catalog.ensure_presets(now)


def paced(requests: Iterable[Request], speed: int, *, skip: int) -> Iterator[Request]:
    """Hold every request back until its instant has come, `speed` times faster than it was.

    Those that need not be sent again pass at once; the clock starts with the first after them.
    """
    began_at: float | None = None
    first_us = 0
    for row, request in enumerate(requests, 1):
        if row > skip and began_at is None:
            began_at, first_us = time.monotonic(), request.offset_us
        if began_at is not None:
            due_s = (request.offset_us - first_us) / 1_000_000 / speed
            time.sleep(max(0, began_at + due_s - time.monotonic()))
        yield request


def send(replay: Replay, *, url: str, speed: int | None, journal: Journal) -> Tally:
    """Send the trace, from where an interrupted run got to; every event under its own key."""
    trace = replay.trace
    stored = EventKey.objects.filter(
        organization_id__in=[one.pk for one in replay.organizations], source=trace.source
    )
    skip = journal.rows_answered(at_most=stored.count())
    requests = trace.requests()
    if speed is not None:
        requests = paced(requests, speed, skip=skip)
    with sending.keys_for(replay.organizations, name="replay") as keys:
        ready = sending.batches(
            requests,
            key_of=lambda request: keys[replay.organization_of(request).pk],
            source=trace.source,
            start=replay.start,
            skip=skip,
            linger_s=None if speed is None else LINGER_S,
        )
        tally = sending.send(
            ready,
            url=url,
            total=trace.summary.rows - skip,
            on_answer=lambda answer: journal.reached(answer.mark),
        )
    journal.forget()
    return tally


def settle(replay: Replay, *, invoice: bool, now: datetime) -> Books:
    """Wait for the readings, close what has ended, and set the steps side by side."""
    sending.wait_until_applied([one.pk for one in replay.organizations])
    subscribe_where_missing(replay)
    books = Books(file=replay.trace.summary.totals)
    books.file[reconciling.REQUESTS] = replay.trace.summary.rows
    with Progress("organizations reconciled", len(replay.organizations)) as progress:
        for number, organization in enumerate(replay.organizations, 1):
            books.add(_settle_one(replay, organization, invoice=invoice, now=now))
            progress.at(number)
    books.faults = [*reconciling.compare_with_file(books), *books.faults]
    return books


def _settle_one(
    replay: Replay, organization: Organization, *, invoice: bool, now: datetime
) -> Books:
    periods = billed_periods(replay, organization)
    if invoice:
        for subscription in {subscription.pk: subscription for subscription, _ in periods}:
            invoicing.close_period(subscription, now)
    return reconciling.books_of(
        organization,
        periods,
        source=replay.trace.source,
        billed_before=replay.billed_before,
        invoice=invoice,
        now=now,
    )
