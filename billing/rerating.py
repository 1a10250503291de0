"""Re-rating: billed periods rated by the rules known now, shown, approved, and corrected by notes.

A job has an item for each invoice. Its organizations are worked on one by one, each in one
transaction, by as many workers as come; whoever dies leaves an organization as it was. What is
issued is what was approved: an item whose difference has changed since is shown again instead.
`docs/guides/re-rate.md` tells the whole of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.models import Organization, User
from billing import notes, rerated_sums, subscriptions
from billing.models import Invoice, ReratingItem, ReratingJob, Tariff
from billing.notes import Difference
from billing.rating.money import minor_digits
from billing.rerated_sums import TO_ISSUE
from billing.waiting import NotYet
from metering import readings

log = logging.getLogger(__name__)

State = ReratingJob.State
Item = ReratingItem.State

IDLE_MAX = timedelta(minutes=1)  # after that a job is taken for one that lost its worker


class ReratingRefused(ValueError):
    """The job stays as it is; the message says why and what to do instead."""


@transaction.atomic
def start(
    first: date,
    last: date,
    *,
    tariff: Tariff | None = None,
    organizations: Collection[Organization] = (),
    reason: str,
    actor: User,
    now: datetime,
) -> ReratingJob:
    """Put the invoices of periods that begin on these local days, `last` excluded, into a job."""
    if not reason.strip():
        raise ReratingRefused("Say why: whoever approves it reads the reason.")
    if first >= last:
        raise ReratingRefused("The last day must come after the first; it is not included itself.")
    if first.year < 1970 or last.year > 2200:
        raise ReratingRefused("Choose days within 1970 and 2200.")
    found = _invoices(first, last, tariff, organizations)
    if not found:
        raise ReratingRefused("No issued invoice is of such a period.")
    job = ReratingJob.objects.create(
        tariff=tariff,
        first=first,
        last=last,
        reason=reason.strip(),
        started_by=actor,
        started_at=now,
        worked_at=now,
    )
    job.organizations.set(organizations)
    ReratingItem.objects.bulk_create(
        [
            ReratingItem(
                job=job,
                organization_id=invoice.organization_id,
                invoice=invoice,
                currency=invoice.currency,
            )
            for invoice in found
        ],
        batch_size=1_000,
    )
    _record("rerating.started", job, actor, {"reason": job.reason, "invoices": len(found)})
    return job


@transaction.atomic
def approve(job_id: int, *, digest: str, comment: str, actor: User, now: datetime) -> ReratingJob:
    """Have the notes issued, exactly as `digest` shows that they were read."""
    job = _open(job_id)
    if job.takes_second_person and job.started_by_id == actor.pk:
        raise ReratingRefused("Somebody else has to approve it: four eyes see more than two.")
    if digest != job.digest:
        raise ReratingRefused("This is not what was shown to you; open the re-rating again.")
    job.items.filter(state=Item.CHANGED).update(state=Item.DIFFERS)
    _decide(job, State.ISSUING, comment, actor, now)
    return job


@transaction.atomic
def refuse(job_id: int, *, comment: str, actor: User, now: datetime) -> None:
    """Issue nothing more; the reason goes on record."""
    if not comment.strip():
        raise ReratingRefused("Say why: whoever started it reads the reason.")
    _decide(_open(job_id), State.REFUSED, comment, actor, now)


@transaction.atomic
def withdraw(job_id: int, *, actor: User, now: datetime) -> None:
    """Take back one's own job, before anything of it is issued or what is left of it."""
    job = _open(job_id)
    if job.started_by_id != actor.pk:
        raise ReratingRefused("Only who started it withdraws a re-rating; refuse it instead.")
    _decide(job, State.WITHDRAWN, "", actor, now)


def waiting(now: datetime) -> list[int]:
    """The jobs that have work left and no worker that was heard of lately."""
    working = ReratingJob.objects.filter(state__in=[State.COMPARING, State.ISSUING])
    idle = working.filter(worked_at__lte=now - IDLE_MAX)
    return list(idle.order_by("pk").values_list("pk", flat=True))


def work(job_id: int, clock: Callable[[], datetime]) -> ReratingJob:
    """Do what is left of a job, until it waits for a person or is done. Safe to repeat."""
    steps = {State.COMPARING: _compare_next, State.ISSUING: _issue_next}
    job = ReratingJob.objects.get(pk=job_id)
    while step := steps.get(State(job.state)):
        while step(job_id, clock()):
            pass
        if not _finish(job, clock()):
            break  # another worker is at the last organizations, and will finish
        job.refresh_from_db()
    return job


def _invoices(
    first: date, last: date, tariff: Tariff | None, organizations: Collection[Organization]
) -> list[Invoice]:
    issued = Invoice.objects.filter(
        kind=Invoice.Kind.INVOICE,
        status=Invoice.Status.ISSUED,
        # Days begin up to 14 hours before those of UTC, and up to 12 after.
        period_start__date__gte=first - timedelta(days=1),
        period_start__date__lte=last + timedelta(days=1),
    )
    if tariff is not None:
        issued = issued.filter(subscription__tariff=tariff)
    if organizations:
        issued = issued.filter(organization__in=organizations)
    ordered = issued.order_by("organization", "period_start").only(
        "organization_id", "currency", "zone", "period_start"
    )
    return [invoice for invoice in ordered if _begins(invoice, first, last)]


def _begins(invoice: Invoice, first: date, last: date) -> bool:
    day = invoice.period_start.astimezone(ZoneInfo(invoice.zone)).date()
    return first <= day < last


def _compare_next(job_id: int, now: datetime) -> bool:
    """Compare one organization's invoices. False: none waits, but for those of other workers."""
    return _next(job_id, Item.WAITING, _compare, now)


def _issue_next(job_id: int, now: datetime) -> bool:
    """Issue one organization's notes. False: none is left, but for those of other workers."""
    return _next(job_id, Item.DIFFERS, _issue, now)


# The first item stands for its organization: one worker has all of its items, or none.
CLAIM = """
    SELECT organization_id FROM billing_reratingitem AS item
    WHERE job_id = %(job)s AND state = %(state)s AND NOT EXISTS (
        SELECT FROM billing_reratingitem AS earlier
        WHERE earlier.job_id = item.job_id AND earlier.organization_id = item.organization_id
            AND earlier.state = item.state AND earlier.id < item.id)
    ORDER BY organization_id, id LIMIT 1 FOR UPDATE SKIP LOCKED
"""

Step = Callable[[int, QuerySet[ReratingItem], datetime], None]


@transaction.atomic
def _next(job_id: int, state: str, step: Step, now: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, {"job": job_id, "state": state})
        claimed = cursor.fetchone()
    if claimed is None:
        return False
    (organization_id,) = claimed
    items = ReratingItem.objects.filter(job=job_id, organization=organization_id)
    try:
        with transaction.atomic():
            step(organization_id, items, now)
    except (OperationalError, InterfaceError):
        raise  # the database was not there, or busy: the whole organization is taken up again
    except ReratingRefused as refused:
        items.filter(state=state).update(state=Item.FAILED, failure=str(refused))
    except Exception as error:
        log.exception("re-rating %s: organization %s cannot be rated", job_id, organization_id)
        items.filter(state=state).update(state=Item.FAILED, failure=str(error)[:2_000])
    ReratingJob.objects.filter(pk=job_id).update(worked_at=now)
    return True


def _compare(organization_id: int, items: QuerySet[ReratingItem], now: datetime) -> None:
    for item, difference in _differences(items):
        _show(item, difference, Item.DIFFERS)


def _issue(organization_id: int, items: QuerySet[ReratingItem], now: datetime) -> None:
    """Issue what still is what was approved; the rest is shown again."""
    subscriptions.lock(organization_id)
    readings.stand_still(organization_id)
    approved = []
    for item, difference in _differences(items):
        if item.state != Item.DIFFERS:
            continue
        if difference is not None and difference.digest() == item.digest:
            approved.append((item, difference))
        else:
            _show(item, difference, Item.CHANGED)
    issued = notes.issue([difference for _, difference in approved], now)
    for (item, _), note in zip(approved, issued, strict=True):
        item.state, item.note = Item.ISSUED, note
        item.save(update_fields=["state", "note"])


def _differences(
    items: QuerySet[ReratingItem],
) -> list[tuple[ReratingItem, Difference | None]]:
    """Every item of an organization, all periods rated together; None: its invoice is void."""
    every = list(
        items.select_related(
            "invoice__subscription__tariff",
            "invoice__subscription__organization",
            "invoice__organization",
        ).order_by("invoice__period_end", "pk")
    )
    standing = [one for one in every if one.invoice.status == Invoice.Status.ISSUED]
    try:
        found = notes.differences([one.invoice for one in standing])
    except NotYet as reason:
        raise ReratingRefused(
            f"It waits for {reason}. Start another once that is done."
        ) from reason
    of_item = {one.pk: difference for one, difference in zip(standing, found, strict=True)}
    return [(one, of_item.get(one.pk)) for one in every]


def _show(item: ReratingItem, difference: Difference | None, differs: Item) -> None:
    """Keep what there is to see of an item."""
    if difference is None:
        item.state, item.before_minor, item.difference_minor = Item.VOID, 0, 0
        item.lines, item.digest = [], ""
    else:
        item.state = differs if difference.minor else Item.UNCHANGED
        item.before_minor, item.difference_minor = difference.before_minor, difference.minor
        item.lines, item.digest = difference.as_json(), difference.digest()
    item.save(update_fields=["state", "before_minor", "difference_minor", "lines", "digest"])


@transaction.atomic
def _finish(job: ReratingJob, now: datetime) -> bool:
    """Move a job on that no worker has anything left to do of. False: some are at it still."""
    locked = ReratingJob.objects.select_for_update(no_key=True, of=("self",)).get(pk=job.pk)
    if locked.state != job.state:
        return True  # another worker did
    if locked.items.filter(state__in=_in_work(locked)).exists():
        return False
    if locked.items.filter(state__in=TO_ISSUE).exists():
        locked.state, locked.digest = State.COMPARED, _digest(locked)
        locked.takes_second_person = _takes_second_person(locked)
        locked.decided_by, locked.decided_at, locked.decision = None, None, ""
    else:
        locked.state, locked.finished_at = State.DONE, now
    locked.save()
    return True


def _in_work(job: ReratingJob) -> list[Item]:
    return [Item.WAITING] if job.state == State.COMPARING else [Item.DIFFERS]


def _digest(job: ReratingJob) -> str:
    """The SHA-256 of everything that is to be issued."""
    shown = job.items.filter(state__in=TO_ISSUE).order_by("pk").values_list("pk", "digest")
    text = "\n".join(f"{pk} {digest}" for pk, digest in shown)
    return hashlib.sha256(f"{job.pk}\n{text}".encode()).hexdigest()


def _takes_second_person(job: ReratingJob) -> bool:
    """Whether what is given back and charged comes to more than one person may issue alone."""
    return any(
        sums.debits_minor - sums.credits_minor
        > settings.RERATING_ALONE_MAX * 10 ** minor_digits(sums.currency)
        for sums in rerated_sums.to_issue(job)
    )


def _open(job_id: int) -> ReratingJob:
    job = ReratingJob.objects.select_for_update(no_key=True, of=("self",)).get(pk=job_id)
    if job.state != State.COMPARED:
        raise ReratingRefused(f"It is not waiting for a decision: {job.get_state_display()}.")
    return job


def _decide(job: ReratingJob, state: State, comment: str, actor: User, now: datetime) -> None:
    job.state, job.decision = state, comment.strip()
    job.decided_by, job.decided_at, job.worked_at = actor, now, now
    if state != State.ISSUING:
        job.finished_at = now
    job.save(
        update_fields=[
            "state", "decision", "decided_by", "decided_at", "worked_at", "finished_at",
        ]
    )  # fmt: skip
    action = "approved" if state == State.ISSUING else state
    _record(f"rerating.{action}", job, actor, {"comment": job.decision, "digest": job.digest})


def _record(action: str, job: ReratingJob, actor: User, detail: dict[str, object]) -> None:
    audit.record(action, subject=job, organization=None, actor=actor, detail=detail)
