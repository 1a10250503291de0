"""An organization's documents at a glance: which of its periods are billed, drafted or void."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self

from accounts import prepared
from billing.models import Invoice, Subscription
from billing.rating.period import Period


class Document(NamedTuple):
    """One document, as far as another period's asks about it."""

    period: Period
    pk: int
    subscription_id: int
    status: str
    currency: str
    created_at: datetime
    voided_at: datetime | None
    kind: str
    replaced_by: int | None


OF = """
    SELECT document.period_start, document.period_end, document.id, document.subscription_id,
           document.status, document.currency, document.created_at, document.voided_at,
           document.kind, replacing.id
    FROM billing_invoice document
    LEFT JOIN billing_invoice replacing ON replacing.replaces_id = document.id
    WHERE document.organization_id = %s
    ORDER BY document.period_start, document.id
"""


@dataclass(frozen=True, slots=True)
class Documents:
    """All of them, in the order of their periods, fetched in one statement.

    A period has one invoice that counts. The notes that correct it stand beside it: what they carry
    is billed, but no period is closed by them.
    """

    all: Sequence[Document]

    @classmethod
    def of(cls, organization_id: int) -> Self:
        """What there is now. Whoever decides by it holds the lock of the subscriptions."""
        found = prepared.rows(OF, [organization_id])
        return cls([
            Document(Period(start, end), *others) for start, end, *others in found
        ])  # fmt: skip

    @property
    def issued(self) -> list[Document]:
        """The issued invoices."""
        return [one for one in self._invoices if one.status == Invoice.Status.ISSUED]

    @property
    def void_notes(self) -> list[Document]:
        """The notes that were taken back: what they carried is due again."""
        return [
            one
            for one in self.all
            if one.kind != Invoice.Kind.INVOICE and one.status == Invoice.Status.VOID
        ]

    @property
    def _invoices(self) -> list[Document]:
        return [one for one in self.all if one.kind == Invoice.Kind.INVOICE]

    def billed(self, subscription: Subscription) -> set[Period]:
        """The periods of a subscription that have an issued invoice."""
        return {one.period for one in self.issued if one.subscription_id == subscription.pk}

    def drafts(self, subscription: Subscription, period: Period) -> list[int]:
        """The drafts that a new one of this period takes the place of."""
        return [
            one.pk
            for one in self._invoices
            if one.status == Invoice.Status.DRAFT
            and one.subscription_id == subscription.pk
            and one.period.start < period.end
            and period.start < one.period.end
        ]

    def voided(self, subscription: Subscription, period: Period) -> int | None:
        """The last void document of this period that no other one replaces yet."""
        found = [
            one.pk
            for one in self._invoices
            if (one.status, one.subscription_id) == (Invoice.Status.VOID, subscription.pk)
            and one.period == period
            and one.replaced_by is None
        ]
        return max(found, default=None)
