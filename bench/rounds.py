"""One round of sending, by the clock on the wall and by processor seconds; and who sends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bench import batches, scratch


class Run(NamedTuple):
    """One round of one way: events by the clock on the wall and by processor seconds."""

    per_s: float
    per_database_core_s: float
    per_core_s: float  # of the database and of whatever stands in front of it


def run(way: str, act: Callable[[], Any], count: int, clock: scratch.CoreClock) -> Run:
    """The senders' own work is not counted, only that of who receives."""
    events = count * batches.EVENTS
    receiver = clock.door_s if way == "http" else time.process_time
    receiver_before, database_before = receiver(), clock.database_s()
    started_at = time.perf_counter()
    act()
    took_s = time.perf_counter() - started_at
    database_s = max(clock.database_s() - database_before, 0.01)
    receiver_s = receiver() - receiver_before
    return Run(events / took_s, events / database_s, events / (database_s + receiver_s))


def organization() -> tuple[int, str]:
    """Organization 1 of the scratch database, its default project, and a key that may send."""
    from django.conf import settings

    from accounts import keys
    from accounts.models import ApiKey, Organization, Project

    organization = Organization.objects.create(
        name="Bench", slug="bench", currency="USD", zone="UTC"
    )
    Project.objects.create(organization=organization, slug="default", name="Default")
    new = keys.make(settings.KEY_PEPPER)
    ApiKey.objects.create(
        organization=organization, name="bench", prefix=new.prefix, digest=new.digest,
        scopes=["ingest"],
    )  # fmt: skip
    return organization.pk, new.text
