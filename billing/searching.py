"""Events with what became of each; and only those of one fate, where one is asked for.

A fate is nowhere written down: it follows from how the event's period stands. So a search by fate
goes through events that match in all else, newest first, and keeps those that met it. It looks at
so many at most for one page and then says how far it came. What was taken back is written down, and
is found without looking at the rest; and nothing that is billed, free or unpriced lies in a period
that no document has looked at yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Max

from accounts.models import Organization
from billing.fates import Fate, Verdict
from billing.models import Invoice
from billing.trail import Teller
from metering import readings
from metering.readings import EventPage, EventPlace, EventSearch, FoundEvent

LOOKED_AT_MAX = 10_000  # events of a page
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class ToldPage:
    """Some events with their fates, newest first; `looked_back_to` where the search was cut."""

    events: list[tuple[FoundEvent, Verdict]]
    next: EventPlace | None
    looked_back_to: datetime | None = None


def event_page(
    organization: Organization,
    search: EventSearch,
    fate: Fate | None,
    now: datetime,
    *,
    limit: int,
) -> ToldPage:
    """The newest events that match and met the fate, or any where None is asked for."""
    teller = Teller(organization, now)
    if fate is None:
        page = readings.event_page(organization.pk, search, limit=limit)
        return ToldPage(teller.tell(page.events), page.next, page.looked_back_to)
    found: list[tuple[FoundEvent, Verdict]] = []
    looked_at = 0
    for page in _pages(organization.pk, _narrowed(search, organization, fate)):
        looked_at += len(page.events)
        found += [told for told in teller.tell(page.events) if told[1].fate is fate]
        if len(found) > limit:
            return ToldPage(found[:limit], found[limit - 1][0].place)
        if page.looked_back_to or (looked_at >= LOOKED_AT_MAX and page.next):
            reached = page.looked_back_to or page.events[-1].received_at
            return ToldPage(found, page.next, reached)
    return ToldPage(found, None)


def _narrowed(search: EventSearch, organization: Organization, fate: Fate) -> EventSearch:
    """The same search without what cannot have met the fate."""
    if fate is Fate.VOID:
        return replace(search, is_taken_back=True)
    decided_until = None if fate is Fate.PENDING else _decided_until(organization, fate)
    if decided_until is None:
        return search
    return replace(search, end=min(search.end or decided_until, decided_until))


def _decided_until(organization: Organization, fate: Fate) -> datetime | None:
    """From when on no event can be billed, free or unpriced; None where it may at any time."""
    newest = organization.subscriptions.order_by("-starts_at").first()
    if newest is None or (fate is Fate.UNPRICED and newest.ends_at is not None):
        return None
    issued = organization.invoices.filter(status=Invoice.Status.ISSUED)
    billed_until: datetime | None = issued.aggregate(until=Max("period_end"))["until"]
    return max(newest.starts_at, billed_until or newest.starts_at)


def _pages(organization_id: int, search: EventSearch) -> Iterator[EventPage]:
    """One after the other, to the end."""
    while True:
        page = readings.event_page(organization_id, search, limit=AT_ONCE)
        yield page
        if page.next is None:
            return
        search = replace(search, before=page.next)
