"""One round of sending, by the clock on the wall and by processor seconds; and who sends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import batches, scratch

if TYPE_CHECKING:
    from accounts.models import Organization


OVER_HTTP = ("http", "django")


class Run(NamedTuple):
    """One round of one way: events by the clock on the wall and by processor seconds."""

    per_s: float
    per_database_core_s: float
    per_core_s: float  # of the database and of whatever stands in front of it


def run(way: str, act: Callable[[], Any], count: int, clock: scratch.CoreClock) -> Run:
    """The senders' own work is not counted, only that of who receives."""
    events = count * batches.EVENTS
    receiver = clock.door_s if way in OVER_HTTP else time.process_time
    receiver_before, database_before = receiver(), clock.database_s()
    started_at = time.perf_counter()
    act()
    took_s = time.perf_counter() - started_at
    database_s = max(clock.database_s() - database_before, 0.01)
    receiver_s = receiver() - receiver_before
    return Run(events / took_s, events / database_s, events / (database_s + receiver_s))


def organization(slug: str = "bench") -> tuple[Organization, str]:
    """An organization of the scratch database, its default project, and a key that may send."""
    from tests import build

    made = build.make_organization(name=slug.title(), slug=slug)
    _, key = build.make_key(organization=made, scopes=("ingest",))
    return made, key
