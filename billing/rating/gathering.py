"""A bill from a stream of events: each is counted once, summed, and forgotten.

What is kept of an event is 32 bytes to know it again by, so a file may be larger than the memory
that a list of its events would take. Reserved capacity is the exception: it is filled request by
request, so tariffs that have it need the events themselves.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b

from billing.rating.bill import Bill, add_load, bill, bill_events
from billing.rating.capacity import Capacity
from billing.rating.charge import Facts
from billing.rating.event import Event
from billing.rating.events import usage_of_one
from billing.rating.period import QUARTER, Period
from billing.rating.scope import What
from billing.rating.segments import boundaries
from billing.rating.usage import PricedTerms, Usage

_DIGEST_BYTES = 16


class Outcome(StrEnum):
    """What became of one event."""

    TAKEN = "taken"
    DUPLICATE = "duplicate"  # same identity, same facts: a replay
    CONFLICT = "conflict"  # same identity, other facts: the first stands
    OUTSIDE = "outside"  # of another time


@dataclass(slots=True)
class Identities:
    """The events seen so far, each as a digest of who it is and one of what it says."""

    seen: dict[bytes, bytes] = field(default_factory=dict)

    def outcome(self, event: Event) -> Outcome:
        """Say whether an event is new, and remember it."""
        content = _digest(_content(event))
        known = self.seen.setdefault(_digest((event.source, event.id)), content)
        if known is content:
            return Outcome.TAKEN
        return Outcome.DUPLICATE if known == content else Outcome.CONFLICT


@dataclass(slots=True)
class Gathered:
    """Events of a period as their readings would hold them, and how many came."""

    period: Period
    stretches: Sequence[PricedTerms]
    counts: Counter[Outcome] = field(default_factory=Counter)
    identities: Identities = field(default_factory=Identities)
    sums: Counter[tuple[datetime, What]] = field(default_factory=Counter)
    load: dict[str, dict[datetime, int]] = field(default_factory=dict)
    kept: list[Event] = field(default_factory=list)
    sizes: frozenset[int] = field(init=False)
    keeps: bool = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = boundaries(self.stretches)
        charges = (charge for one in self.stretches for charge in one.terms.charges)
        self.keeps = any(isinstance(charge, Capacity) for charge in charges)

    def add(self, event: Event) -> Outcome:
        """Count an event, if it is new and began within the period."""
        outcome = self.identities.outcome(event)
        if outcome is Outcome.TAKEN and event.at("request_start") not in self.period:
            outcome = Outcome.OUTSIDE
        self.counts[outcome] += 1
        if outcome is Outcome.TAKEN:
            self._sum(event)
        return outcome

    def bill(self, facts: Facts, *, tax_percent: Decimal = Decimal(0)) -> Bill:
        """Bill what was gathered. The caller puts `load` into the facts."""
        if self.keeps:
            return bill_events(self.kept, self.stretches, facts, tax_percent=tax_percent)
        usage = [
            Usage(start, start + QUARTER, *what[:4], quantity, *what[4:])
            for (start, what), quantity in self.sums.items()
        ]
        return bill(usage, self.stretches, facts, tax_percent=tax_percent)

    def _sum(self, event: Event) -> None:
        add_load(self.load, event)
        if self.keeps:
            self.kept.append(event)
            return
        for item in usage_of_one(event, self.stretches, self.sizes):
            self.sums[item.start, item.what] += item.quantity


def gathered(events: Iterable[Event], period: Period, stretches: Sequence[PricedTerms]) -> Gathered:
    """Gather the events of a period, one by one."""
    found = Gathered(period, stretches)
    for event in events:
        found.add(event)
    return found


def _content(event: Event) -> object:
    """What makes events the same: their fields, in whatever order the registers were sent."""
    return replace(event, usage=dict(sorted(event.usage.items())))


def _digest(facts: object) -> bytes:
    return blake2b(repr(facts).encode(), digest_size=_DIGEST_BYTES).digest()
