"""What an organization's earlier periods came to, as far as a later one depends on it.

Documents say it; of a period that may have changed since, or has no document yet, the lines it has
by now. Both are exact: the documents of a period add up to the period rated anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import QuerySet, Sum

from accounts import prepared
from billing import subscriptions
from billing.documents import Documents
from billing.lines import rated
from billing.models import Invoice, InvoiceLine, Subscription
from billing.rating.difference import still_owed
from billing.rating.line import ALLOWANCE, RatedLine
from billing.rating.paper import printed_minor
from billing.rating.period import Period
from billing.rating.rate import Drained
from billing.rating.usage import PricedTerms
from metering import readings

# An event may be 35 days old when it is accepted; two days more for clocks and slow hands.
LATE_USAGE_MAX = timedelta(days=37)
CLOCKS_APART_MAX = timedelta(days=1)

PeriodOf = tuple[Subscription, Period]


@dataclass(slots=True)
class Earlier:
    """What came before, for periods rated one after another in the order of time.

    The documents of the periods that are rated anew do not count: their lines are added.
    """

    organization_id: int
    rated_anew: frozenset[datetime] = frozenset()  # the starts of those periods
    added: dict[datetime, list[RatedLine]] = field(default_factory=dict)

    def add(self, period: Period, lines: list[RatedLine]) -> None:
        """Take note of what a period costs by now."""
        self.added[period.start] = lines

    def drained(self, period: Period, stretches: Sequence[PricedTerms]) -> Drained:
        """What periods before took from the grants given once, which are the tariff's own."""
        once = [one for at in stretches for one in at.terms.allowances if one.once]
        if not once:
            return {}
        tariff = _tariff(stretches[0].version)
        free = self._free(tariff, {ALLOWANCE + one.code for one in once}, period.start)
        drained: Counter[tuple[str, str]] = Counter()
        for grant in {(one.code, one.each_model): one for one in once}.values():
            for (component, model), tokens in free.items():
                if component == ALLOWANCE + grant.code:
                    drained[grant.counter(model)] += tokens
        return drained

    def spent_minor(self, since: datetime, until: datetime, currency: str) -> int:
        """What the periods that began from one instant to another come to on paper."""
        by_period: dict[datetime, list[RatedLine]] = defaultdict(list)
        for line in self._on_documents(until).filter(usage_start__gte=since).order_by("pk"):
            by_period[line.usage_start] += rated(line)
        anew = {start: lines for start, lines in self.added.items() if since <= start < until}
        return sum(
            printed_minor(still_owed(lines, []), currency) for lines in (by_period | anew).values()
        )

    def _free(self, tariff: str, components: set[str], until: datetime) -> Counter[tuple[str, str]]:
        free: Counter[tuple[str, str]] = Counter()
        carried = self._on_documents(until).filter(
            component__in=components, version__startswith=f"{tariff}@"
        )
        by_model = carried.values_list("component", "model").annotate(Sum("quantity"))
        for component, model, tokens in by_model.order_by():
            free[component, model] += int(tokens)
        for start, lines in self.added.items():
            for line in lines if start < until else ():
                if line.component in components and _tariff(line.version) == tariff:
                    free[line.component, line.model] += line.quantity
        return free

    def _on_documents(self, until: datetime) -> QuerySet[InvoiceLine]:
        return InvoiceLine.objects.filter(
            invoice__organization=self.organization_id,
            invoice__status=Invoice.Status.ISSUED,
            usage_start__lt=until,
        ).exclude(usage_start__in=self.rated_anew)


def may_have_changed(
    subscription: Subscription, period: Period, documents: Documents
) -> list[PeriodOf]:
    """The organization's billed periods that late or corrected usage or tariffs may have changed.

    Also those of its earlier subscriptions: whoever changed the tariff still owes them.
    """
    billed = [
        one
        for one in documents.issued
        if one.currency == subscription.tariff.currency and one.period.end <= period.start
    ]
    if not billed:
        return []
    # The last one's close saw what was applied, and known, before its end; all else is news.
    news, drafted_at = billed[-1].period.end, billed[-1].created_at
    since = min(
        news - LATE_USAGE_MAX,
        _corrected_since(subscription, news - CLOCKS_APART_MAX),
        _usage_changed_since(subscription, min(news, drafted_at) - CLOCKS_APART_MAX),
        *_taken_back_since(documents, news - CLOCKS_APART_MAX),
    )
    found = [one for one in billed if one.period.end > since]
    known = {subscription.pk: subscription}
    others = {one.subscription_id for one in found} - known.keys()
    if others:
        known |= Subscription.objects.select_related("organization", "tariff").in_bulk(others)
    return [(known[one.subscription_id], one.period) for one in found]


def unbilled(subscription: Subscription, period: Period, documents: Documents) -> list[PeriodOf]:
    """The organization's periods before this one that no issued invoice is of."""
    siblings = Subscription.objects.filter(organization=subscription.organization_id)
    return [
        (sibling, ended)
        for sibling in siblings.select_related("organization", "tariff").order_by("starts_at")
        for ended in subscriptions.periods_ended(sibling, period.start)
        if ended not in documents.billed(sibling)
    ]


def before(periods: Sequence[PeriodOf]) -> list[PeriodOf]:
    """The periods besides these that documents do not tell of, up to the last of these."""
    known = {period.start for _, period in periods}
    last = max(periods, key=lambda of_period: of_period[1].start)
    documents = Documents.of(last[0].organization_id)
    found = [*may_have_changed(*last, documents), *unbilled(*last, documents)]
    others = {of_period[1].start: of_period for of_period in found}
    return [others[start] for start in sorted(others.keys() - known)]


CORRECTED_SINCE = """
    SELECT least(
        (SELECT min(valid_from) FROM billing_tariffversion
         WHERE known_at > %(moment)s AND tariff_id IN (
            SELECT tariff_id FROM billing_subscription WHERE organization_id = %(organization)s)),
        (SELECT min(valid_from) FROM billing_negotiatedterms
         WHERE known_at > %(moment)s AND subscription_id IN (
            SELECT id FROM billing_subscription WHERE organization_id = %(organization)s)))
"""


def _corrected_since(subscription: Subscription, known_after: datetime) -> datetime:
    """How far back the versions and agreements that became known after an instant reach."""
    asked = {"organization": subscription.organization_id, "moment": known_after}
    ((reach,),) = prepared.rows(CORRECTED_SINCE, asked)
    found: datetime | None = reach
    return found or known_after


def _usage_changed_since(subscription: Subscription, known_after: datetime) -> datetime:
    """How far back the corrections and backfills that came after an instant reach."""
    reach = readings.changed_since(subscription.organization_id, known_after)
    return reach or known_after


def _taken_back_since(documents: Documents, voided_after: datetime) -> list[datetime]:
    """The starts of the periods whose notes were voided after an instant."""
    return [
        one.period.start
        for one in documents.void_notes
        if one.voided_at is not None and one.voided_at > voided_after
    ]


def _tariff(version: str) -> str:
    return version.partition("@")[0]
