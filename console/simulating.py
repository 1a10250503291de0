"""Made-up usage of an organization, sent as a customer's machines would send it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from accounts.models import Organization
from console import sending
from metering.usage.event import AGE_MAX
from workloads import shape
from workloads.request import Request
from workloads.sender import Tally
from workloads.shape import Mix

REQUESTS_PER_DAY = 1_000
CLOCKS_APART = timedelta(minutes=5)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Simulation:
    """One organization's workload: a stretch of time, a seed, a mix of clients."""

    organization: Organization
    mix: Mix
    seed: int
    start: datetime
    end: datetime

    @property
    def source(self) -> str:
        """Names the workload: what would draw other events has another source."""
        hours = (self.end - self.start) // timedelta(hours=1)
        drawn_from = hashlib.sha256(repr(self.mix).encode()).hexdigest()[:8]
        return f"simulate:{self.seed}:{self.end:%Y%m%dT%H%MZ}:{hours}h:{drawn_from}"

    def expected(self) -> int:
        """About how many events it has."""
        return self.mix.requests_per_day * ((self.end - self.start) // timedelta(hours=1)) // 24

    def requests(self, *, now: datetime) -> Iterator[Request]:
        """The events in the order of sending; those that became too old to be taken are left."""
        oldest_us = (now - AGE_MAX + CLOCKS_APART - self.start) // MICROSECOND
        drawn = shape.requests(self.mix, seed=self.seed, start=self.start, end=self.end)
        return (request for request in drawn if request.offset_us >= oldest_us)


def mix_of(organization: Organization, *, scale: Decimal) -> Mix:
    """The default clients, on the organization's own projects and mostly in its own zone."""
    slugs = organization.projects.filter(archived_at=None).values_list("slug", flat=True)
    return Mix(
        projects=tuple(slugs),
        zones=(organization.zone, organization.zone, *Mix().zones),
        requests_per_day=max(1, int(REQUESTS_PER_DAY * scale)),
    )


def send(simulation: Simulation, *, url: str, now: datetime) -> Tally:
    """Send it all; sent again, the same events are duplicates."""
    with sending.keys_for([simulation.organization], name="simulate") as keys:
        ready = sending.batches(
            simulation.requests(now=now),
            key_of=lambda _request: keys[simulation.organization.pk],
            source=simulation.source,
            start=simulation.start,
        )
        return sending.send(ready, url=url, total=simulation.expected())
