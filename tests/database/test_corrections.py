"""Any course of corrections and backfills, against a dictionary."""

from __future__ import annotations

import itertools
import random
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from metering import backfills, reverting, rollup
from metering.usage.correction import Correction
from metering.usage.event import UsageEvent
from tests import build
from tests.conftest import NOW
from tests.corrections import (
    amend,
    event,
    nothing_waits,
    opened,
    send,
    void,
)
from tests.database.test_rollup import expected, hours_off, summed
from tests.meter import (
    apply_all,
    database,
    empty_meter,
    readings_of,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


NUMBERS = itertools.count()
IDS = st.integers(0, 9).map(str)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), IDS, st.integers(0, 5)),
        st.tuples(st.just("void"), IDS, IDS),
        st.tuples(st.just("amend"), IDS, IDS, st.integers(0, 5)),
        st.tuples(st.just("into"), IDS, st.integers(0, 5)),
        st.tuples(st.sampled_from(["close", "revert", "apply", "again"])),
    ),
    min_size=1,
    max_size=25,
)


class Model:
    """What shall count, kept the simple way: one dictionary, and a set of what was taken back."""

    def __init__(self) -> None:
        self.events: dict[str, UsageEvent] = {}
        self.box_of: dict[str, int] = {}
        self.voids: dict[str, str] = {}  # id of the void: its target
        self.taken: dict[str, str] = {}  # target: what took it back
        self.boxes: dict[int, str] = {}

    def stands(self, event_id: str) -> bool:
        return event_id in self.events or event_id in self.voids

    def is_reverted(self, event_id: str) -> bool:
        return self.boxes.get(self.box_of.get(event_id, -1)) == "reverted"

    def take_back(self, event_id: str, target: str) -> bool:
        """Whether a correction with this id takes the target back now."""
        free = not self.stands(event_id) and target in self.events
        if not free or target in self.taken or self.is_reverted(target):
            return False
        self.taken[target] = event_id
        return True

    def counting(self) -> list[UsageEvent]:
        return [
            event
            for event_id, event in self.events.items()
            if event_id not in self.taken
            and self.boxes.get(self.box_of.get(event_id, -1), "closed") == "closed"
        ]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS, st.randoms(use_true_random=False))
def test_any_course_of_corrections_and_backfills_is_what_a_dictionary_says(
    database: Database, acme: Organization, steps: list[Any], chance: random.Random
) -> None:
    organization = build.make_organization(name="T", slug=f"c{next(NUMBERS)}")
    model, box = Model(), opened(organization)
    model.boxes[box] = "open"
    sent: list[tuple[Any, int | None]] = []

    def deliver(item: Any, into: int | None = None) -> None:
        sent.append((item, into))
        send(database, organization, [item], backfill_id=into)

    for kind, *arguments in steps:
        match kind, arguments:
            case "event" | "into", [name, size]:
                into = box if kind == "into" else None
                one = event(name, usage={"input": size, "own": 1})
                if not model.stands(name):
                    model.events[name] = one
                    if into is not None:
                        model.box_of[name] = into
                deliver(one, into)
            case "void", [name, target]:
                if model.take_back(name, target):
                    model.voids[name] = target
                deliver(void(name, target))
            case "amend", [name, target, size]:
                item = amend(name, target, usage={"input": size}, model="amended")
                if model.take_back(name, target):
                    assert item.event
                    model.events[name] = item.event
                deliver(item)
            case "close" | "revert", _:
                step = backfills.close if kind == "close" else backfills.revert
                step(organization, box, now=NOW)
                model.boxes[box] = "closed" if kind == "close" else "reverted"
                if chance.random() < 0.5 and kind == "close":
                    backfills.revert(organization, box, now=NOW)
                    model.boxes[box] = "reverted"
                box = opened(organization)
                model.boxes[box] = "open"
            case "apply", _:
                rollup.apply_pending(chance.randint(1, 3))
                if chance.random() < 0.3:
                    reverting.apply_reverts()
            case "again", _ if sent:
                item, into = chance.choice(sent)
                is_open = into is None or model.boxes[into] == "open"
                if is_open and _is_settled(model, item):
                    send(database, organization, [item], backfill_id=into)
    apply_all()
    assert nothing_waits()
    project_id = organization.projects.get().pk
    wanted = expected(model.counting(), project_id)
    assert {k: v for k, v in summed(organization).items() if v} == {
        k: v for k, v in wanted.items() if v
    }
    assert hours_off() == 0
    before = readings_of(organization)
    rollup.rebuild(organization.pk)
    assert readings_of(organization) == before
    assert hours_off() == 0


def _is_settled(model: Model, item: UsageEvent | Correction) -> bool:
    """Whether sending it again changes nothing: what was refused before may be taken now."""
    return model.stands(item.id)
