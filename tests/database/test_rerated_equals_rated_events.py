"""The oracle of re-rating: after any course of things, documents are the pure rating of the events.

Late usage, corrected prices, void documents, closes and re-ratings come in any order; then the rest
is closed and re-rated. Nothing is left to bill by the engine alone, to the minor unit.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import User
from billing import catalog, invoicing, reckoning, rerating
from billing.drafting import billed
from billing.models import Invoice, ProviderCost, ReratingJob, Subscription
from billing.rating.difference import still_owed
from billing.rating.paper import printed_minor
from billing.rating.period import Period
from billing.rating.rate import PricedTerms
from metering.usage.event import UsageEvent
from tests import build
from tests.database.test_invoice_equals_rated_events import (
    CHANGE,
    NOVEMBER,
    OCTOBER,
    PERIODS,
    SEPTEMBER,
    Oracle,
    buy_upstream,
    documents,
    events,
    numbers,
    store_in_turn,
    subscribed,
    to_event,
)
from tests.meter import apply_all, database, empty, empty_meter

__all__ = ["database", "empty_meter"]

pytestmark = pytest.mark.usefixtures("empty_meter")

NOW = NOVEMBER + timedelta(days=3)
FIRST, LAST = date(2026, 9, 1), date(2026, 11, 1)


class Corrected(Oracle):
    """The oracle, whose first version was published again: it is the third one now."""

    def _stretches(self, period: Period) -> list[PricedTerms]:
        return [
            replace(one, version=f"{self.code}@3") if one.version == f"{self.code}@1" else one
            for one in super()._stretches(period)
        ]


class World:
    """One organization, its events as far as they have come, and what was done to its bill."""

    def __init__(
        self, database: psycopg.Connection[Any], first: Any, second: Any, third: Any
    ) -> None:
        self.slug = f"rerated-{next(numbers)}"
        self.organization = build.make_organization(name=self.slug, slug=self.slug)
        self.actor = build.make_user(email=f"{self.slug}@one.example")
        self.approver = build.make_user(email=f"{self.slug}@two.example")
        self.subscription = subscribed(self.organization, first)
        self._publish(second, CHANGE, correcting=False)
        self.database, self.third = database, third
        self.oracle = Oracle(self.slug, first, second, [])

    def report(self, reported: list[UsageEvent]) -> None:
        self.oracle.events.extend(to_event(one) for one in reported)
        store_in_turn(self.database, self.organization, reported)

    def close(self) -> None:
        due = [OCTOBER, NOVEMBER][min(self._issued().count(), 1)]
        invoicing.close_period(self.subscription.pk, due)

    def correct(self) -> None:
        if not isinstance(self.oracle, Corrected):
            self._publish(self.third, SEPTEMBER, correcting=True)
            self.oracle = Corrected(self.slug, self.third, self.oracle.second, self.oracle.events)

    def void(self) -> None:
        last = self.organization.invoices.filter(status="issued").order_by("-pk").first()
        if last is not None:
            invoicing.void(last, "try again", OCTOBER)

    def rerate(self) -> None:
        if self._issued().exists():
            rerate(self.subscription, self.actor, self.approver)

    def _publish(self, document: Any, valid_from: datetime, *, correcting: bool) -> None:
        """The readings learn at once what its prices ask for."""
        tariff = self.subscription.tariff
        known_at = OCTOBER if correcting else SEPTEMBER
        catalog.publish_approved(tariff, document, valid_from, known_at, correcting=correcting)
        apply_all()

    def _issued(self) -> Any:
        return self.organization.invoices.filter(status="issued", kind=Invoice.Kind.INVOICE)


def rerate(subscription: Subscription, actor: User, approver: User) -> None:
    """A whole job: started by one, approved by another."""
    job = rerating.start(
        FIRST,
        LAST,
        organizations=[subscription.organization],
        reason="as it should be",
        actor=actor,
        now=NOW,
    )
    job = rerating.work(job.pk, lambda: NOW)
    if job.state == ReratingJob.State.COMPARED:
        rerating.approve(job.pk, digest=job.digest, comment="", actor=approver, now=NOW)
        job = rerating.work(job.pk, lambda: NOW)
    assert job.state == ReratingJob.State.DONE
    assert not job.items.filter(state="failed").exists()


steps = st.lists(
    st.one_of(st.integers(1, 4), st.sampled_from(["close", "correct", "void", "rerate"])),
    max_size=7,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents, documents, documents, events, steps)
def test_after_any_course_of_things_documents_are_the_rating_of_the_events(
    database: psycopg.Connection[Any],
    first: dict[str, Any],
    second: dict[str, Any],
    third: dict[str, Any],
    reported: list[UsageEvent],
    course: list[int | str],
) -> None:
    empty()
    if not ProviderCost.objects.exists():  # a period waits for costs that are not known
        buy_upstream()
    world = World(database, first, second, third)
    left = [one._replace(id=f"e{number}") for number, one in enumerate(reported)]
    for step in course:
        if isinstance(step, int):
            world.report(left[:step])
            left = left[step:]
        else:
            getattr(world, step)()
    world.report(left)
    invoicing.close_period(world.subscription.pk, NOVEMBER)
    world.rerate()
    issued = Invoice.objects.count()

    periods = [(world.subscription, period) for period in PERIODS]
    for expected, carried in zip(world.oracle.lines(), billed(periods), strict=True):
        assert printed_minor(still_owed(expected, carried), "USD") == 0
    world.rerate()
    assert Invoice.objects.count() == issued
    fates = [reckoning.of_period(*of_period, now=NOW) for of_period in periods]
    assert sum(one.verdicts.total() for one in fates) == len(reported)
