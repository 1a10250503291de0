"""Negotiated terms of a subscription: agreed from an instant on, and the prices that follow.

An agreement is never edited. A later one takes over the rest of it; an empty document goes back to
the tariff as it is listed. Where billed periods are touched, their difference stands on the next
invoice, as with a corrected tariff.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Q

from accounts import prepared
from accounts.prepared import Columns
from billing import catalog, telling, timeline
from billing.catalog import ApprovalNeeded, Preview, TariffRefused
from billing.models import Invoice, NegotiatedTerms, Subscription, Tariff
from billing.rating.changes import changes
from billing.rating.jumps import jumps
from billing.rating.negotiated import Agreement, merged, parse_agreement
from billing.rating.period import QUARTER, Period, quarter_hour
from billing.rating.rate import PricedTerms
from billing.rating.tariff import TariffInvalid, Terms


def agree(
    subscription: Subscription,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    reference: str,
    correcting: bool = False,
) -> NegotiatedTerms:
    """Let negotiated terms hold from an instant on; `correcting` also where it is billed.

    ApprovalNeeded where the organization's prices would jump; TariffInvalid points at what is
    wrong in the document.
    """
    with transaction.atomic():
        _lock(subscription)
        found = preview(subscription, document, valid_from).jumps
        if found:
            raise ApprovalNeeded(found)
        return publish_approved(
            subscription, document, valid_from, now, reference=reference, correcting=correcting
        )


@transaction.atomic
def publish_approved(
    subscription: Subscription,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    reference: str,
    correcting: bool,
) -> NegotiatedTerms:
    """Let terms hold that two people have agreed on, however far prices jump."""
    agreement = parse_agreement(document)
    _lock(subscription)
    _check_start(subscription, valid_from, now, correcting=correcting)
    if not reference:
        raise TariffRefused("Name the agreement these terms follow from.")
    until = timeline.take_over(subscription.negotiated.all(), valid_from, now)
    terms = _terms_where_it_fits(
        subscription.tariff, agreement, Period(valid_from, until or catalog.FOREVER)
    )
    last = subscription.negotiated.aggregate(last=Max("number"))["last"] or 0
    agreed = NegotiatedTerms.objects.create(
        subscription=subscription,
        number=last + 1,
        valid_from=valid_from,
        valid_to=until,
        known_at=now,
        document=document,
        reference=reference,
    )
    telling.ask(
        terms,
        {subscription.organization_id: valid_from},
        reason=f"{subscription.tariff.code}+n{agreed.number}",
    )
    return agreed


def preview(
    subscription: Subscription, document: Mapping[str, object], valid_from: datetime
) -> Preview:
    """What an agreement would change for the organization; publishes nothing.

    Changes are those of the agreement; jumps are those of the prices that follow from it and the
    tariff together.
    """
    agreement = parse_agreement(document)
    version = catalog.version_at(subscription.tariff, valid_from)
    if version is None:
        raise TariffRefused(f"{subscription.tariff.code} has no prices then; publish them first.")
    in_force = timeline.at(subscription.negotiated.all(), valid_from)
    before = parse_agreement(in_force.document) if in_force else Agreement()
    listed = catalog.terms_of(version)
    old, new = merged(listed, before), _fitting(listed, agreement)
    return Preview(
        changes(before.as_document(), agreement.as_document()),
        jumps(old, new, settings.PRICE_JUMP_FACTOR),
        telling.plan([new], {subscription.organization_id: valid_from}),
    )


def terms_in(subscription: Subscription, period: Period) -> list[PricedTerms]:
    """The terms in force for an organization during a period, stretch by stretch, tiling it."""
    (stretches,) = terms_in_each([(subscription, period)])
    return stretches


AGREED = Columns(NegotiatedTerms, "agreed", without=["document", "reference"])
VALID = f"""
    SELECT {AGREED.text} FROM billing_negotiatedterms agreed
    WHERE subscription_id = ANY(%s) AND withdrawn_at IS NULL ORDER BY valid_from
"""  # noqa: S608 - names of columns


def terms_in_each(wanted: Sequence[tuple[Subscription, Period]]) -> list[list[PricedTerms]]:
    """The terms of several periods, listed and negotiated, found in two statements."""
    listed = catalog.terms_in_each([(of.tariff, period) for of, period in wanted])
    agreed: dict[int, list[NegotiatedTerms]] = defaultdict(list)
    for found in prepared.rows(VALID, [list({of.pk for of, _ in wanted})]):
        row = AGREED.instance(found)
        agreed[row.subscription_id].append(row)
    return [
        [piece for stretch in stretches for piece in _cut(stretch, agreed[of.pk])]
        for (of, _), stretches in zip(wanted, listed, strict=True)
    ]


def terms_at(subscription: Subscription, moment: datetime) -> PricedTerms | None:
    """The terms in force for an organization at an instant; None where the tariff has no prices."""
    instant = quarter_hour(moment)
    version = catalog.version_at(subscription.tariff, instant)
    if version is None:
        return None
    (found,) = terms_in(subscription, Period(instant, instant + QUARTER))
    return found


def agreement_at(subscription: Subscription, moment: datetime) -> Agreement:
    """What is agreed at an instant; nothing where the tariff holds as listed."""
    row = at(subscription, moment)
    return agreement_of(row) if row else Agreement()


def at(subscription: Subscription, moment: datetime) -> NegotiatedTerms | None:
    """The agreement in force at an instant; None where the tariff holds as listed."""
    return timeline.at(subscription.negotiated.all(), moment)


def agreement_of(row: NegotiatedTerms) -> Agreement:
    """What an agreement says, parsed once: a published document never changes."""
    return _parsed(_Published(row))


def _cut(stretch: PricedTerms, agreed: Sequence[NegotiatedTerms]) -> Iterator[PricedTerms]:
    """Yield a stretch of listed terms in pieces: with each agreement in it, and without."""
    reached, end = stretch.period.start, stretch.period.end
    for row in agreed:
        starts, ends = max(row.valid_from, reached), min(row.valid_to or end, end)
        if ends <= starts:
            continue
        if starts > reached:
            yield PricedTerms(stretch.version, Period(reached, starts), stretch.terms)
        yield _with(row, stretch, Period(starts, ends))
        reached = ends
    if reached < end:
        yield PricedTerms(stretch.version, Period(reached, end), stretch.terms)


def _with(row: NegotiatedTerms, stretch: PricedTerms, period: Period) -> PricedTerms:
    agreement = agreement_of(row)
    if agreement == Agreement() or not stretch.terms.components:
        return PricedTerms(stretch.version, period, stretch.terms)
    return PricedTerms(f"{stretch.version}+n{row.number}", period, merged(stretch.terms, agreement))


class _Published:
    """An agreement as a cache key: equal by its identity, for its document never changes."""

    def __init__(self, row: NegotiatedTerms) -> None:
        self.row = row
        self._key = (row.pk, row.subscription_id, row.number, row.known_at)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Published) and self._key == other._key


@lru_cache(maxsize=1_024)
def _parsed(published: _Published) -> Agreement:
    return parse_agreement(published.row.document)


def _check_start(
    subscription: Subscription, valid_from: datetime, now: datetime, *, correcting: bool
) -> None:
    if quarter_hour(valid_from) != valid_from:
        raise TariffRefused("Terms must start on a quarter-hour: readings are no finer.")
    ends_at = subscription.ends_at
    if valid_from < subscription.starts_at or (ends_at is not None and valid_from >= ends_at):
        raise TariffRefused("Terms must start while the subscription runs.")
    if correcting:
        if valid_from < now - catalog.CORRECTION_AGE_MAX:
            days = catalog.CORRECTION_AGE_MAX.days
            raise TariffRefused(f"A correction reaches back {days} days at most.")
        return
    billed = subscription.invoices.filter(status=Invoice.Status.ISSUED)
    billed_until: datetime | None = billed.aggregate(until=Max("period_end"))["until"]
    if billed_until is not None and valid_from < billed_until:
        raise TariffRefused(
            f"{subscription.organization} is billed until {billed_until.isoformat()}; choose that "
            "instant or a later one, or correct, which bills the difference."
        )


def _terms_where_it_fits(tariff: Tariff, agreement: Agreement, period: Period) -> list[Terms]:
    """All that follows from both.

    Every version of the tariff that the agreement meets must go with it.
    """
    found = []
    versions = tariff.versions.filter(
        Q(valid_to=None) | Q(valid_to__gt=period.start), withdrawn_at=None
    ).filter(valid_from__lt=period.end)
    for version in versions:
        terms = _fitting(catalog.terms_of(version), agreement)
        catalog.refuse_what_is_not_carried(terms)
        found.append(terms)
    return found


def _fitting(listed: Terms, agreement: Agreement) -> Terms:
    """Both as one; what is wrong of it is said at a field of the agreement."""
    try:
        return merged(listed, agreement)
    except TariffInvalid as refused:
        part, _, rest = refused.pointer.removeprefix("/").partition("/")
        place = rest.partition("/")[0]
        ours = len(getattr(agreement, part, ()))
        if part == "components" and place.isdecimal() and int(place) >= ours:
            raise TariffInvalid(
                "/discounts", f"do not fit the tariff, which {refused.detail}"
            ) from refused
        raise


def _lock(subscription: Subscription) -> None:
    """Whoever publishes the tariff waits here too: an agreement must fit every version of it."""
    Tariff.objects.select_for_update(no_key=True).get(pk=subscription.tariff_id)
