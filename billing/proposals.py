"""Four eyes: prices that jump wait for a second person, and what is approved is what was shown.

Whoever may publish prices proposes; somebody else who may approve them decides. A proposal rests
on what was published before it: once that has changed it can only be refused, and proposed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from accounts import audit
from accounts.models import Organization, User
from billing import catalog, negotiations
from billing.catalog import Preview, TariffRefused
from billing.models import NegotiatedTerms, PriceProposal, Subscription, Tariff, TariffVersion

State = PriceProposal.State
Subject = Tariff | Subscription


def preview(subject: Subject, document: Mapping[str, object], valid_from: datetime) -> Preview:
    """What a document would change, and what of it takes a second person."""
    if isinstance(subject, Tariff):
        return catalog.preview(subject, document, valid_from)
    return negotiations.preview(subject, document, valid_from)


def digest_of(
    subject: Subject, document: Mapping[str, object], valid_from: datetime, how: str
) -> str:
    """The SHA-256 of what would be published: for what, from when, in which way, at what terms."""
    shown = [subject._meta.model_name, subject.pk, valid_from.isoformat(), how, document]
    canonical = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check(
    subject: Subject,
    document: Mapping[str, object],
    valid_from: datetime,
    how: str,
    *,
    source: str,
    now: datetime,
) -> None:
    """Publish, and take it back: raises what publishing would raise, but for jumps."""
    with transaction.atomic():
        _publish(subject, document, valid_from, how, source, now)
        transaction.set_rollback(True)


@transaction.atomic
def propose(
    subject: Subject,
    document: Mapping[str, object],
    valid_from: datetime,
    how: str,
    *,
    reason: str,
    source: str,
    actor: User,
    now: datetime,
) -> PriceProposal:
    """Put prices before a second person, in place of an earlier proposal for the same thing.

    They are tried first, so only what could be published is proposed.
    """
    if not reason.strip():
        raise TariffRefused("Say why: whoever approves it reads the reason.")
    _lock(subject)
    shown = preview(subject, document, valid_from)
    check(subject, document, valid_from, how, source=source, now=now)
    for_subject = {"tariff" if isinstance(subject, Tariff) else "subscription": subject}
    PriceProposal.objects.filter(**for_subject, state=State.PROPOSED).update(
        state=State.SUPERSEDED, decided_by=actor, decided_at=now
    )
    proposal = PriceProposal.objects.create(
        **for_subject,
        how=how,
        valid_from=valid_from,
        document=document,
        digest=digest_of(subject, document, valid_from, how),
        after_number=_last_number(subject),
        source=source,
        reason=reason.strip(),
        changes=[change.as_json() for change in shown.changes],
        jumps=[jump.as_json() for jump in shown.jumps],
        proposed_by=actor,
        proposed_at=now,
    )
    _record("price.proposed", proposal, actor, {"reason": proposal.reason})
    return proposal


@transaction.atomic
def approve(
    proposal_id: int, *, digest: str, comment: str, actor: User, now: datetime
) -> TariffVersion | NegotiatedTerms:
    """Publish what was proposed, exactly as `digest` shows that it was read."""
    proposal = _open(proposal_id)
    subject = subject_of(proposal)
    if proposal.proposed_by_id == actor.pk:
        raise TariffRefused("Somebody else has to approve it: four eyes see more than two.")
    if digest != digest_of(subject, proposal.document, proposal.valid_from, proposal.how):
        raise TariffRefused("This is not what was shown to you; open the proposal again.")
    if is_stale(proposal):
        raise TariffRefused(
            "Other prices were published since it was proposed, so what it changes is no longer "
            "what it shows. Refuse it, and propose again."
        )
    published = _publish(
        subject, proposal.document, proposal.valid_from, proposal.how, proposal.source, now
    )
    _decide(proposal, State.APPROVED, comment, actor, now)
    return published


@transaction.atomic
def refuse(proposal_id: int, *, comment: str, actor: User, now: datetime) -> None:
    """Leave prices as they are; the reason goes on record."""
    if not comment.strip():
        raise TariffRefused("Say why: whoever proposed it reads the reason.")
    _decide(_open(proposal_id), State.REFUSED, comment, actor, now)


@transaction.atomic
def withdraw(proposal_id: int, *, actor: User, now: datetime) -> None:
    """Take back one's own proposal."""
    proposal = _open(proposal_id)
    if proposal.proposed_by_id != actor.pk:
        raise TariffRefused("Only its author withdraws a proposal; refuse it instead.")
    _decide(proposal, State.WITHDRAWN, "", actor, now)


def publish(
    subject: Subject,
    document: Mapping[str, object],
    valid_from: datetime,
    how: str,
    *,
    source: str,
    actor: User,
    now: datetime,
) -> TariffVersion | NegotiatedTerms:
    """Publish prices alone. ApprovalNeeded where they jump: propose them then."""
    with transaction.atomic():
        _lock(subject)
        found = preview(subject, document, valid_from).jumps
        if found:
            raise catalog.ApprovalNeeded(found)
        published = _publish(subject, document, valid_from, how, source, now)
        audit.record(
            "price.published",
            subject=published,
            organization=_organization(subject),
            actor=actor,
            detail={"how": how, "valid_from": valid_from.isoformat(), "source": source},
        )
    return published


def is_stale(proposal: PriceProposal) -> bool:
    """Whether other prices were published since it was proposed."""
    return _last_number(subject_of(proposal)) != proposal.after_number


def with_staleness(proposals: QuerySet[PriceProposal]) -> QuerySet[PriceProposal]:
    """The same rows, each with `stale`: `is_stale` of many in the one statement."""
    of_tariff = TariffVersion.objects.filter(
        Q(tariff=OuterRef("tariff")) | Q(tariff=OuterRef("subscription__tariff"))
    )
    agreed = NegotiatedTerms.objects.filter(subscription=OuterRef("subscription"))
    return proposals.annotate(stale=~Q(after_number=_last(of_tariff) + _last(agreed)))


def _last(rows: QuerySet[Any]) -> Coalesce:
    """The highest number of a subquery's rows; 0 of none."""
    return Coalesce(Subquery(rows.order_by("-number").values("number")[:1]), 0)


def subject_of(proposal: PriceProposal) -> Subject:
    """The tariff or the subscription that the prices are for."""
    subject = proposal.tariff or proposal.subscription
    assert subject is not None  # the constraint proposal_is_for_one_thing
    return subject


def _open(proposal_id: int) -> PriceProposal:
    """Lock what it is for, then the proposal: publishing takes the first lock too."""
    subject = subject_of(PriceProposal.objects.get(pk=proposal_id))
    _lock(subject)
    proposal = PriceProposal.objects.select_for_update(of=("self",)).get(pk=proposal_id)
    if proposal.state != State.PROPOSED:
        raise TariffRefused(f"It is {proposal.get_state_display()} already.")
    return proposal


def _lock(subject: Subject) -> None:
    tariff_id = subject.pk if isinstance(subject, Tariff) else subject.tariff_id
    Tariff.objects.select_for_update(no_key=True).get(pk=tariff_id)


def _last_number(subject: Subject) -> int:
    """The last version of the tariff; for a subscription also the last terms negotiated.

    Their sum, since both only rise: either one changes it.
    """
    if isinstance(subject, Tariff):
        return int(subject.versions.aggregate(last=Max("number"))["last"] or 0)
    agreed = subject.negotiated.aggregate(last=Max("number"))["last"] or 0
    return int(agreed) + _last_number(subject.tariff)


def _publish(
    subject: Subject,
    document: Mapping[str, object],
    valid_from: datetime,
    how: str,
    source: str,
    now: datetime,
) -> TariffVersion | NegotiatedTerms:
    correcting = how == PriceProposal.How.CORRECT
    if isinstance(subject, Tariff):
        return catalog.publish_approved(
            subject, document, valid_from, now, correcting=correcting, source=source
        )
    return negotiations.publish_approved(
        subject, document, valid_from, now, correcting=correcting, reference=source
    )


def _decide(proposal: PriceProposal, state: str, comment: str, actor: User, now: datetime) -> None:
    still_open = PriceProposal.objects.filter(pk=proposal.pk, state=State.PROPOSED)
    moved = still_open.update(
        state=state, decided_by=actor, decided_at=now, decision=comment.strip()
    )
    assert moved == 1, "its lock is held"
    _record(f"price.{state}", proposal, actor, {"comment": comment.strip()})


def _record(
    action: str, proposal: PriceProposal, actor: User, detail: Mapping[str, object]
) -> None:
    subject = subject_of(proposal)
    audit.record(
        action,
        subject=f"{proposal} of {subject}",
        organization=_organization(subject),
        actor=actor,
        detail={
            **detail,
            "digest": proposal.digest,
            "valid_from": proposal.valid_from.isoformat(),
            "how": proposal.how,
        },
    )


def _organization(subject: Subject) -> Organization | None:
    return None if isinstance(subject, Tariff) else subject.organization
