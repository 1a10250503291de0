"""Sizes of requests that prices ask for: readings are made to tell them apart when prices are set.

Terms are published at once; what readings of the time since do not tell yet is summed anew from
events (`metering.reaggregation`), and no period it falls into closes before that is done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from billing.models import Subscription, Tariff
from billing.rating.period import Period
from metering import readings


@dataclass(frozen=True, slots=True)
class Plan:
    """What readings have to learn for some terms."""

    sizes: tuple[int, ...]  # at which they tell nothing apart so far, in tokens
    since: Mapping[int, datetime]  # by organization: whose usage is summed anew from then on

    @property
    def sentence(self) -> str:
        """What will happen, for whoever publishes; empty if nothing does."""
        said = []
        if self.sizes:
            sizes = ", ".join(f"{size:,}" for size in self.sizes)
            said.append(f"Readings will tell requests apart at an input of {sizes} tokens as well.")
        if self.since:
            first = min(self.since.values()).strftime("%Y-%m-%d %H:%M")
            said.append(
                f"Usage since {first} UTC of those who are on these prices "
                f"({len(self.since):,} so far) is summed anew from its events. Until that is done "
                "no period with such usage is closed, and its cost so far is that of smaller "
                "requests; the pipeline page shows how far it is."
            )
        return " ".join(said)


def plan(sizes: Collection[int], since: Mapping[int, datetime]) -> Plan:
    """What would have to be learnt for prices that change at these sizes, since an instant each."""
    needed = readings.needs_telling(sizes, since)
    return Plan(needed.sizes, {one: since[one] for one in needed.organization_ids})


def no_room_for(sizes: Collection[int]) -> str | None:
    """Why readings cannot learn to tell these sizes apart; None if they can, or do."""
    known = readings.input_limits()
    if len({*known, *sizes}) <= readings.INPUT_LIMITS_MAX:
        return None
    told = ", ".join(f"{size:,}" for size in known)
    return (
        f"Readings tell requests apart at {readings.INPUT_LIMITS_MAX} sizes of input at most, and "
        f"there is no room for these: choose among {told}."
    )


def subscribers(tariff: Tariff, period: Period) -> dict[int, datetime]:
    """The organizations on a tariff in a stretch of time, and from when on they are in it."""
    found = Subscription.objects.filter(
        Q(ends_at=None) | Q(ends_at__gt=period.start), tariff=tariff, starts_at__lt=period.end
    )
    since: dict[int, datetime] = {}
    for organization_id, starts_at in found.values_list("organization", "starts_at"):
        since[organization_id] = max(
            period.start, min(starts_at, since.get(organization_id, starts_at))
        )
    return since
