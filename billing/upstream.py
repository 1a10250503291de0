"""What upstreams charge: lists are imported as proposals, and a person approves each price.

Nothing is overwritten: an approved price ends the one before it, and both stay on record. Two lists
that disagree are two proposals for the same thing, shown beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import audit
from accounts.models import User
from billing import telling, timeline
from billing.feeds.listing import Listed, ListedModel, Listing
from billing.models import (
    CatalogModel,
    CostImport,
    CostProposal,
    ModelAlias,
    ProviderCost,
    Subscription,
)
from billing.rating.period import quarter_hour
from metering import readings

State = CostProposal.State
Key = tuple[str, str, str, int]  # provider, model, register, above
FAULTS_KEPT_MAX = 500
ALIASES_MAX = 20


class CostRefused(ValueError):
    """The cost stays as it is; the message says why and what to do instead."""


@transaction.atomic
def propose(listing: Listing, *, actor: User | None, now: datetime) -> CostImport:
    """Propose what a list says otherwise than our costs; its earlier open proposals lapse."""
    made = CostImport.objects.create(
        source=listing.source,
        version=listing.version,
        digest=listing.digest,
        imported_at=now,
        imported_by=actor,
        priced=len(listing.prices),
        faults=[fault.as_json() for fault in listing.faults[:FAULTS_KEPT_MAX]],
    )
    CostProposal.objects.filter(source=listing.source, state=State.PROPOSED).update(
        state=State.SUPERSEDED
    )
    known = {_key(cost): cost for cost in in_force(now)}
    told = {(model.provider, model.name): model for model in listing.models}
    CostProposal.objects.bulk_create(
        [
            _proposal(made, one, known.get(_key(one)), told.get((one.provider, one.model)), now)
            for one in {_key(one): one for one in listing.prices}.values()
            if _differs(one, known.get(_key(one)))
        ]
    )
    audit.record(
        "costs.imported",
        subject=made,
        organization=None,
        actor=actor,
        detail={
            "digest": made.digest,
            "proposed": made.proposals.count(),
            "faults": len(listing.faults),
        },
    )
    return made


@transaction.atomic
def approve(proposals: Iterable[int], *, actor: User, now: datetime) -> list[ProviderCost]:
    """Let prices hold from the instants they are proposed from. All of them, or none.

    A price that jumps is approved by somebody else than who imported it. One is also entered
    into the catalogue of models, if no model of its name is there.
    """
    found = _open(proposals)
    current = _current(found, now)
    for proposal in found:
        _refuse_what_may_not_be(proposal, current.get(_key(proposal)), actor)
    for proposal in found:
        if _key(proposal) in current:
            timeline.take_over(_rows(proposal), proposal.valid_from, now)
    costs = ProviderCost.objects.bulk_create([_cost(proposal, now) for proposal in found])
    CostProposal.objects.filter(pk__in=[one.pk for one in found]).update(
        state=State.APPROVED, decided_by=actor, decided_at=now
    )
    _enter(found)
    _tell_sizes_apart(found)
    if costs:
        audit.record(
            "costs.approved",
            subject=f"{len(costs)} prices",
            organization=None,
            actor=actor,
            detail={"proposals": [proposal.pk for proposal in found][:FAULTS_KEPT_MAX]},
        )
    return costs


@transaction.atomic
def refuse(proposals: Iterable[int], *, actor: User, now: datetime) -> int:
    """Leave costs as they are."""
    found = _open(proposals)
    CostProposal.objects.filter(pk__in=[one.pk for one in found]).update(
        state=State.REFUSED, decided_by=actor, decided_at=now
    )
    if found:
        audit.record(
            "costs.refused",
            subject=f"{len(found)} prices",
            organization=None,
            actor=actor,
            detail={"proposals": [one.pk for one in found][:FAULTS_KEPT_MAX]},
        )
    return len(found)


def in_force(moment: datetime) -> QuerySet[ProviderCost]:
    """The costs that hold at an instant."""
    return timeline.holding(ProviderCost.objects.all(), moment).select_related("proposal")


def elsewhere(proposals: Sequence[CostProposal]) -> Mapping[int, str]:
    """What other sources say of the same prices, by proposal: "litellm 1.25".

    Of each source the last it said; refused proposals count too, for the source said it.
    """
    models = {one.model for one in proposals}
    said: dict[Key, dict[str, Decimal]] = {}
    others = CostProposal.objects.filter(model__in=models).order_by("cost_import__imported_at")
    for other in others:
        said.setdefault(_key(other), {})[other.source] = other.price
    return {
        one.pk: ", ".join(
            f"{source} {price.normalize():f}"
            for source, price in sorted(said[_key(one)].items())
            if source != one.source and price != one.price
        )
        for one in proposals
    }


def _proposal(
    made: CostImport,
    one: Listed,
    before: ProviderCost | None,
    told: ListedModel | None,
    now: datetime,
) -> CostProposal:
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # A first cost without a date holds for this month: margins of the month would lack it.
    starts = quarter_hour(now) if before else one.valid_from or month
    return CostProposal(
        cost_import=made,
        source=made.source,
        provider=one.provider,
        model=one.model,
        register=one.register,
        above=one.above,
        price=one.price,
        price_before=before.price if before else None,
        valid_from=starts,
        title=told.title[:200] if told else "",
        context_tokens=told.context_tokens if told else None,
        aliases=list(told.aliases[:ALIASES_MAX]) if told else [],
        jump=_jump(before.price, one.price) if before else "",
        proposed_by=made.imported_by,
    )


def _jump(before: Decimal, after: Decimal) -> str:
    """Why a change of price takes a second person; "" if it does not."""
    factor = settings.PRICE_JUMP_FACTOR
    if before == 0 or after == 0:
        return "from or to nothing"
    if after > before * factor:
        return f"more than {factor} times as much"
    return f"less than 1/{factor} of it" if after * factor < before else ""


def _differs(one: Listed, known: ProviderCost | None) -> bool:
    return known is None or known.price != one.price


def _key(row: Listed | CostProposal | ProviderCost) -> Key:
    return row.provider, row.model, row.register, row.above


def _open(proposals: Iterable[int]) -> list[CostProposal]:
    """Lock the open ones, in one order: whoever decides the same waits here."""
    rows = CostProposal.objects.select_for_update(of=("self",)).filter(
        pk__in=list(proposals), state=State.PROPOSED
    )
    return list(rows.select_related("cost_import").order_by("pk"))


def _current(found: Sequence[CostProposal], now: datetime) -> dict[Key, ProviderCost]:
    models = {proposal.model for proposal in found}
    return {_key(cost): cost for cost in in_force(now).filter(model__in=models)}


def _refuse_what_may_not_be(
    proposal: CostProposal, current: ProviderCost | None, actor: User
) -> None:
    if proposal.jump and proposal.proposed_by_id == actor.pk:
        raise CostRefused(
            f"{proposal} is {proposal.jump}: somebody else than who imported it has to approve it."
        )
    if (current.price if current else None) != proposal.price_before:
        raise CostRefused(f"{proposal} has changed since it was proposed; import the list again.")


def _rows(proposal: CostProposal) -> QuerySet[ProviderCost]:
    provider, model, register, above = _key(proposal)
    return ProviderCost.objects.filter(
        provider=provider, model=model, register=register, above=above
    )


def _cost(proposal: CostProposal, now: datetime) -> ProviderCost:
    return ProviderCost(
        provider=proposal.provider,
        model=proposal.model,
        register=proposal.register,
        above=proposal.above,
        price=proposal.price,
        valid_from=proposal.valid_from,
        known_at=now,
        proposal=proposal,
    )


def _tell_sizes_apart(found: Sequence[CostProposal]) -> None:
    """Whoever is billed what upstreams charge is billed by the sizes they charge by."""
    sizes = {one.above for one in found if one.above}
    if not sizes:
        return
    since = min(one.valid_from for one in found if one.above)
    if refusal := telling.no_room_for(sizes):
        raise CostRefused(refusal)
    on_prices = Subscription.objects.filter(Q(ends_at=None) | Q(ends_at__gt=since))
    readings.tell_apart(
        sizes,
        dict.fromkeys(on_prices.values_list("organization", flat=True), since),
        reason="upstream costs",
    )


def _enter(found: Sequence[CostProposal]) -> None:
    """Put new models into the catalogue, with those of their names that nobody else has."""
    taken = set(CatalogModel.objects.values_list("name", flat=True))
    taken |= set(ModelAlias.objects.values_list("name", flat=True))
    new = {one.model: one for one in reversed(found) if one.model not in taken}
    made = CatalogModel.objects.bulk_create(
        [
            CatalogModel(
                name=one.model,
                provider=one.provider[:100],
                title=one.title,
                context_tokens=one.context_tokens,
                source=str(one.cost_import)[:200],
            )
            for one in new.values()
        ]
    )
    taken |= new.keys()
    aliases: dict[str, ModelAlias] = {}
    for model in made:
        for name in new[model.name].aliases:
            if name not in taken:
                aliases.setdefault(name, ModelAlias(model=model, name=name))
    ModelAlias.objects.bulk_create(aliases.values())
