"""Invoices: drafted, issued, void; and the close of a billing period, one transaction each.

`docs/guides/close-a-month.md` tells the whole of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Least

from accounts import audit, prepared
from accounts.models import User
from billing import issuing, negotiations, passing_on, pricing, subscriptions
from billing.documents import Documents
from billing.drafting import draft, owed, write_draft
from billing.earlier import PeriodOf, may_have_changed
from billing.explaining import explain
from billing.models import Invoice, Subscription
from billing.rating.period import Period
from billing.waiting import CostUnknown, NotYet
from metering import readings

__all__ = [
    "InvoiceRefused",
    "PeriodsDoNotTile",
    "close_period",
    "draft",
    "due",
    "explain",
    "issue",
    "owed",
    "void",
    "waiting_for",
]

log = logging.getLogger(__name__)


class InvoiceRefused(ValueError):
    """The document stays as it is; the message says why."""


class PeriodsDoNotTile(Exception):
    """A subscription's invoices are not of the periods it has now: nothing more is billed."""


@transaction.atomic
def issue(invoice: Invoice, now: datetime) -> None:
    """Give a draft its number, freeze it, and copy onto it who sells and who buys."""
    drafts = Invoice.objects.select_for_update(no_key=True)
    if not drafts.filter(pk=invoice.pk, status=Invoice.Status.DRAFT).exists():
        raise InvoiceRefused("Only a draft can be issued.")
    if now < invoice.period_end:
        raise InvoiceRefused("Its period has not ended yet.")
    issuing.freeze(invoice, now)


@transaction.atomic
def void(invoice: Invoice, reason: str, now: datetime, *, actor: User | None = None) -> None:
    """Take an issued document back. Its number stays.

    An invoice takes the notes that correct it along, and its period is due again, as a new
    document. What a note alone carried is a difference on the next invoice.
    """
    if not reason.strip():
        raise InvoiceRefused("Say why: the reason stands on the document.")
    subscriptions.lock(invoice.organization_id)
    for note in invoice.notes.filter(status=Invoice.Status.ISSUED).order_by("pk"):
        _take_back(note, f"{invoice.number} was voided: {reason.strip()}", now, actor)
    _take_back(invoice, reason.strip(), now, actor)
    if not invoice.is_note:
        due_again = Subscription.objects.filter(pk=invoice.subscription_id)
        due_again.update(next_close_at=Least(F("next_close_at"), invoice.period_end))
        readings.open_again(invoice.organization_id, invoice.period_start, invoice.period_end)
    invoice.refresh_from_db()


def due(now: datetime) -> list[int]:
    """The subscriptions with a period to close, those waiting longest first."""
    ready = Subscription.objects.filter(next_close_at__lte=now)
    return list(ready.order_by("next_close_at", "starts_at").values_list("pk", flat=True))


def close_period(subscription_id: int, now: datetime) -> list[Invoice]:
    """Issue the invoice of every period that has ended and has none, oldest first.

    Running it twice, or on many connections at once, issues each of them once.
    """
    issued: list[Invoice] = []
    try:
        while invoice := _close_next(subscription_id, now):
            issued.append(invoice)
            next_close_at = invoice.subscription.next_close_at
            if next_close_at is None or next_close_at > now:
                break
    except NotYet as reason:
        log.info("subscription %s: a period waits for %s", subscription_id, reason)
    return issued


def waiting_for(subscription: Subscription, now: datetime) -> str | None:
    """What the next period that could be closed still waits for; None if for nothing."""
    siblings = list(Subscription.objects.filter(organization=subscription.organization_id))
    documents = Documents.of(subscription.organization_id)
    open_periods = _open(subscription, documents, now)
    if not _closable(subscription, open_periods, now):
        return None
    period = open_periods[0]
    return _obstacle(subscription, siblings, period, documents, now) or _why_not_yet(
        [(subscription, period), *may_have_changed(subscription, period, documents)]
    )


def _why_not_yet(periods: Sequence[PeriodOf]) -> str | None:
    """Why no document of these periods can be made; closing finds it while it drafts."""
    if unsettled := pricing.unsettled_readings(periods):
        return str(unsettled)
    terms = negotiations.terms_in_each(periods)
    if unfound := pricing.unfound_peaks(periods, terms):
        return str(unfound)
    if not any(map(passing_on.is_asked_for, terms)):
        return None
    unknown = {one for metered in pricing.meter(periods) for one in metered.unknown_costs}
    return str(CostUnknown(unknown)) if unknown else None


@transaction.atomic
def _close_next(subscription_id: int, now: datetime) -> Invoice | None:
    """Close one period under the lock of the organization's subscriptions. None: nothing to do."""
    siblings = subscriptions.lock_siblings(subscription_id)
    (subscription,) = [one for one in siblings if one.pk == subscription_id]
    documents = Documents.of(subscription.organization_id)
    open_periods = _open(subscription, documents, now)
    if not _closable(subscription, open_periods, now):
        _set_next_close(subscription, open_periods, now)
        return None
    period, *later = open_periods
    obstacle = _obstacle(subscription, siblings, period, documents, now)
    if obstacle:
        log.info("%s: period until %s waits for %s", subscription, period.end, obstacle)
        return None
    invoice = write_draft(subscription, period, documents)
    _set_next_close(subscription, later, now)
    issuing.freeze(invoice, now)
    return invoice


def _take_back(document: Invoice, reason: str, now: datetime, actor: User | None) -> None:
    issued = Invoice.objects.filter(pk=document.pk, status=Invoice.Status.ISSUED)
    if not issued.update(status=Invoice.Status.VOID, voided_at=now, void_reason=reason):
        raise InvoiceRefused("Only an issued document can be voided.")
    audit.record(
        f"{document.kind}.voided",
        subject=document.number,
        organization=document.organization,
        actor=actor,
        detail={"reason": reason, "total_minor": document.total_minor},
    )


def _closable(subscription: Subscription, open_periods: list[Period], now: datetime) -> bool:
    """Whether the oldest open period is past its grace."""
    return bool(open_periods) and subscriptions.closes_at(subscription, open_periods[0]) <= now


def _open(subscription: Subscription, documents: Documents, now: datetime) -> list[Period]:
    """The ended periods without an invoice. PeriodsDoNotTile rather than bill any time twice."""
    ended = subscriptions.periods_ended(subscription, now)
    billed = documents.billed(subscription)
    strange = billed - set(ended)
    if strange:
        raise PeriodsDoNotTile(f"{subscription}: invoiced, but none of its periods: {strange}")
    return [period for period in ended if period not in billed]


def _obstacle(
    subscription: Subscription,
    siblings: list[Subscription],
    period: Period,
    documents: Documents,
    now: datetime,
) -> str | None:
    for sibling in siblings:
        if sibling.starts_at >= subscription.starts_at or sibling.next_close_at is None:
            continue
        if _open(sibling, documents, now):
            return f"the last invoice of the subscription before it ({sibling.pk})"
    until = subscriptions.closes_at(subscription, period)
    left = readings.batches_not_applied(subscription.organization_id, received_before=until)
    if left.failed:
        return (
            f"{left.failed} batches received before {until.isoformat()} that could not be added "
            "to the readings"
        )
    if left.pending:
        return f"batches received before {until.isoformat()} that are not in the readings yet"
    return None


SET_NEXT_CLOSE = "UPDATE billing_subscription SET next_close_at = %s WHERE id = %s"


def _set_next_close(subscription: Subscription, left: list[Period], now: datetime) -> None:
    """Say when to look again: at the oldest period left, or at the end of the one that runs."""
    if not left and subscription.ends_at is not None and subscription.ends_at <= now:
        subscription.next_close_at = None
    else:
        period = left[0] if left else subscriptions.period_at(subscription, now)
        subscription.next_close_at = subscriptions.closes_at(subscription, period)
    with prepared.cursor() as cursor:
        cursor.execute(SET_NEXT_CLOSE, [subscription.next_close_at, subscription.pk])
