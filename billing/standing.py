"""How a billing period stands: what its usage came to, line by line, and which documents carry it.

The period is rated again by the engine itself, and its lines are found on the issued documents by
their keys. Where a price was corrected since and the difference is not billed yet, a key of now is
on no document: then the issued lines of the same model and register tell what it was billed as.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from accounts.models import Organization
from billing import pricing, subscriptions
from billing.earlier import LATE_USAGE_MAX
from billing.fates import Fate, Reason, first, of_line
from billing.lines import is_charge, rated
from billing.models import Invoice, InvoiceLine, Subscription
from billing.rating.line import LineKey
from billing.rating.period import Period
from billing.rating.rate import Segment, Share, segments
from billing.rating.scope import What
from billing.rating.segments import as_priced, boundaries

Place = tuple[datetime, What]  # the start of a segment, and what was used in it


@dataclass(slots=True)
class Carried:
    """What issued documents carry under one key."""

    quantity: int = 0
    lines: list[InvoiceLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Standing:
    """One billing period, rated as of now, beside its documents."""

    subscription: Subscription
    period: Period
    unbilled: Reason | None  # why it has no issued invoice; None where it has one
    seen_until: datetime | None  # what was applied before is on the documents, and nothing later
    segments: Sequence[Segment]
    sizes: frozenset[int]  # of input, at which some price changes
    shares: Mapping[Place, Sequence[Share]]
    rated: Mapping[LineKey, int]  # how much now goes onto each line
    carried: Mapping[LineKey, Carried]

    def segment_at(self, moment: datetime) -> Segment:
        """The stretch without a change of prices around an instant of the period."""
        return self.segments[bisect_right([one.start for one in self.segments], moment) - 1]

    def shares_of(self, segment: Segment, what: What) -> Sequence[Share]:
        """The lines that some usage of a segment went onto, with how much went onto each."""
        return self.shares.get((segment.start, as_priced(what, self.sizes)), ())

    def on_documents(self, shares: Iterable[Share]) -> list[Share]:
        """Those whose line stands on issued documents."""
        return [share for share in shares if self.is_carried(share.key)]

    def is_carried(self, key: LineKey) -> bool:
        return key in self.carried and self.carried[key].quantity != 0

    def fates_of(self, shares: Sequence[Share], what: What) -> list[Fate]:
        """What the documents made of some usage: a fate for each share that they carry, in order.

        Where they carry none of them, the one fate of the lines of its model and register.
        """
        if carried := self.on_documents(shares):
            return [of_line(share.key, self.carried) for share in carried]
        others = [key for key in self.carried if self.is_carried(key)]
        alike = [key for key in others if (key.model, key.register) == (what.model, what.register)]
        return [first(of_line(key, others) for key in alike) if alike else Fate.PENDING]

    def is_settled(self, segment: Segment, used: Iterable[What]) -> bool:
        """Whether documents carry the lines of some usage exactly as they are rated now."""
        keys = {share.key for what in used for share in self.shares_of(segment, what)}
        return all(
            key in self.carried and self.carried[key].quantity == self.rated[key] for key in keys
        )

    def was_late(self, applied_at: datetime | None) -> bool:
        """Whether a batch was applied after the last document that looked at the period."""
        assert self.seen_until is not None or self.unbilled is not None
        return self.seen_until is None or applied_at is None or applied_at >= self.seen_until


def at(organization: Organization, moment: datetime, now: datetime) -> Standing | None:
    """The standing of the period that an instant of use falls into; None: nobody subscribed."""
    subscription = subscriptions.current(organization, moment)
    if subscription is None:
        return None
    return of(subscription, subscriptions.period_at(subscription, moment), now)


def of(subscription: Subscription, period: Period, now: datetime) -> Standing:
    """The standing of one billing period."""
    documents = _documents(subscription, period)
    own = [
        one for one in documents
        if one.subscription_id == subscription.pk and one.period_start == period.start
    ]  # fmt: skip
    lines = _lines(subscription, period)
    (metered,) = pricing.meter([(subscription, period)])
    shares: dict[Place, list[Share]] = defaultdict(list)
    rated_now: Counter[LineKey] = Counter()
    for share in metered.shares(pricing.past_of(metered)):
        rated_now[share.key] += share.quantity
        shares[share.segment.start, share.what].append(share)
    return Standing(
        subscription=subscription,
        period=period,
        unbilled=None if own else _why_unbilled(subscription, period, now),
        seen_until=_seen_until(own, documents, lines, subscription, period) if own else None,
        segments=segments(metered.stretches),
        sizes=boundaries(metered.stretches),
        shares=shares,
        rated=rated_now,
        carried=_carried(lines),
    )


def _documents(subscription: Subscription, period: Period) -> list[Invoice]:
    """The organization's issued invoices of this period and of later ones."""
    return list(
        Invoice.objects.filter(
            organization=subscription.organization_id,
            status=Invoice.Status.ISSUED,
            period_start__gte=period.start,
        )
    )


def _lines(subscription: Subscription, period: Period) -> list[InvoiceLine]:
    issued = InvoiceLine.objects.filter(
        invoice__organization=subscription.organization_id,
        invoice__status=Invoice.Status.ISSUED,
        invoice__period_end__gt=period.start,
        usage_start=period.start,
        usage_end=period.end,
    )
    found = issued.select_related("invoice").order_by("invoice__issued_at", "position")
    return [line for line in found if not is_charge(line)]


def _carried(lines: Iterable[InvoiceLine]) -> dict[LineKey, Carried]:
    carried: dict[LineKey, Carried] = defaultdict(Carried)
    for line in lines:
        for part in rated(line):
            carried[part.key].quantity += part.quantity
            if line not in carried[part.key].lines:
                carried[part.key].lines.append(line)
    return dict(carried)


def _seen_until(
    own: Sequence[Invoice],
    documents: Sequence[Invoice],
    lines: Sequence[InvoiceLine],
    subscription: Subscription,
    period: Period,
) -> datetime:
    """When the newest document was made that looked at the period.

    Its own did; those that carry a line of it did; and so did every later invoice that it was not
    too old for: see `billing.earlier.may_have_changed`. A note looks at the period it corrects. A
    draft lets no batch be applied while it is made (`readings.stand_still`), so what was applied
    before, by the same clock, it has seen.
    """
    carrying = {line.invoice_id for line in lines}
    looked = [
        one.created_at
        for one in documents
        if one.pk in carrying
        or (
            not one.is_note
            and one.period_start > period.start
            and one.currency == subscription.tariff.currency
            and period.end > one.period_start - LATE_USAGE_MAX
        )
    ]
    return max([one.created_at for one in own] + looked)


def _why_unbilled(subscription: Subscription, period: Period, now: datetime) -> Reason:
    if now < period.end:
        return Reason.PERIOD_OPEN
    void = subscription.invoices.filter(
        status=Invoice.Status.VOID, period_start=period.start, period_end=period.end
    )
    return Reason.INVOICE_VOID if void.exists() else Reason.PERIOD_ENDED
