"""What prices ask of readings, which learn it when prices are set: sizes of requests, and sums by
the minute.

Terms are published at once; what readings of the time since do not tell yet is summed anew from
events (`metering.reaggregation`), and no period it falls into closes before that is done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from billing.models import Subscription, Tariff
from billing.rating.period import Period
from billing.rating.tariff import Terms
from metering import readings

PERIOD_MAX = timedelta(days=32)  # no billing period is longer, whatever the clocks do in it


@dataclass(frozen=True, slots=True)
class Plan:
    """What readings have to learn for some terms."""

    sizes: tuple[int, ...]  # at which they tell nothing apart so far, in tokens
    by_minute: bool  # whether a peak is looked for within quarter-hours
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
            anew = "is summed by the minute too" if self.by_minute else "is summed anew"
            said.append(
                f"Usage since {first} UTC of those who are on these prices "
                f"({len(self.since):,} so far) {anew}, from its events. Until that is done no "
                f"period with such usage is closed, and its cost so far is that of {self._less}; "
                "the pipeline page shows how far it is."
            )
        return " ".join(said)

    @property
    def _less(self) -> str:
        if not self.by_minute:
            return "smaller requests"
        return "smaller requests and of a lower peak" if self.sizes else "a lower peak"


def plan(terms: Collection[Terms], since: Mapping[int, datetime]) -> Plan:
    """What would have to be learnt for some terms, by each organization since an instant."""
    sizes, by_minute = _asked(terms)
    since = _reaching_back(since) if by_minute else since
    needed = readings.needs_telling(sizes, since, by_minute=by_minute)
    learning = {one: since[one] for one in needed.organization_ids}
    return Plan(needed.sizes, by_minute, learning)


def ask(terms: Collection[Terms], since: Mapping[int, datetime], *, reason: str) -> None:
    """Have readings learn what some terms ask for; in the transaction that makes them hold."""
    sizes, by_minute = _asked(terms)
    readings.tell_apart(
        sizes,
        _reaching_back(since) if by_minute else since,
        reason=reason,
        by_minute=by_minute,
    )


def is_told(terms: Collection[Terms], organization_id: int, since: datetime) -> bool:
    """Whether an organization's readings since an instant tell all that some terms ask for."""
    sizes, by_minute = _asked(terms)
    return readings.tells_apart(organization_id, sizes, since, by_minute=by_minute)


def _asked(terms: Collection[Terms]) -> tuple[frozenset[int], bool]:
    """The sizes at which prices change, and whether a peak is looked for by the minute."""
    sizes = frozenset[int]().union(*(one.boundaries for one in terms))
    return sizes, any(one.by_minute for one in terms)


def _reaching_back(since: Mapping[int, datetime]) -> dict[int, datetime]:
    """Demand is charged for the whole of the billing period that an instant lies in."""
    return {one: at - PERIOD_MAX for one, at in since.items()}


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
