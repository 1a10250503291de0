"""Every accepted event has exactly one fate, and the fates add up: to the event and to the token.

The worlds are random: models with a price, with free tokens, with a price of zero and with none at
all, late usage, voids, amendments, void invoices, corrected tariffs. What must hold is asked after
every step, against the stored events and the documents themselves.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from accounts.models import Organization
from billing import catalog, fate_totals, invoicing, reckoning, searching, subscriptions, trail
from billing.fates import Fate, Reason, Verdict
from billing.models import Invoice, InvoiceLine, Subscription
from billing.rating.period import Period
from metering import readings, tally_blocks
from metering.readings import EventPlace, EventSearch
from metering.usage.correction import Correction
from metering.usage.event import UsageEvent
from tests import build
from tests.corrections import send
from tests.meter import apply_all, database, empty_meter, make_event

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


def add_months(month: datetime, months: int) -> datetime:
    """The first day of another month."""
    years, past = divmod(month.month - 1 + months, 12)
    return month.replace(year=month.year + years, month=past + 1)


# Five months that are over by the database's clock, which says how far back a void may reach.
M5 = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
M4, M3, M2, M1 = (add_months(M5, -months) for months in (1, 2, 3, 4))
MTOK = 1_000_000
MONTH = timedelta(days=31)


def document(price: str = "2.00") -> dict[str, object]:
    """Two models with free input, one of them in steps; one for nothing; one by the call."""
    component = {"registers": ["input", "output"], "per": MTOK}
    return {
        "currency": "USD",
        "allowances": [
            {"code": "welcome", "tokens": MTOK, "models": ["a", "b"], "registers": ["input"]}
        ],
        "components": [
            {**component, "code": "a", "models": ["a"], "shape": "flat", "price": price},
            {**component, "code": "b", "models": ["b"], "shape": "graduated",
             "steps": [{"from": 0, "price": "3"}, {"from": 2 * MTOK, "price": "1"}]},
            {**component, "code": "free", "models": ["free"], "shape": "flat", "price": "0"},
            {"code": "calls", "models": ["called"], "registers": ["requests"], "shape": "flat",
             "per": 1, "price": "0.01"},
        ],
    }  # fmt: skip


@pytest.fixture
def subscription(empty_meter: None, acme: Organization) -> Subscription:
    tariff = build.make_tariff(document=document())
    return build.make_subscription(organization=acme, starts_at=M1, tariff=tariff)


def event(number: object, at: datetime, model: str, **usage: int) -> UsageEvent:
    return make_event(
        now=at, id=f"e-{number}", occurred_at=at.isoformat(), model=model, usage=usage
    )


def verdict(organization: Organization, event_id: str, now: datetime) -> tuple[Fate, Reason]:
    (found,) = readings.find_events(organization.pk, event_id=event_id)
    followed = trail.follow(organization, found, now)
    assert trail.verdicts(organization, [found], now) == {found.place: followed.verdict}
    return followed.verdict


def test_an_event_waits_is_billed_and_says_what_it_came_to(
    database: Database, subscription: Subscription
) -> None:
    acme = subscription.organization
    send(database, acme, [event(1, M1, "a", input=1_500_000, output=400_000)])
    assert verdict(acme, "e-1", M1) == (Fate.PENDING, Reason.NOT_APPLIED)
    apply_all()
    assert verdict(acme, "e-1", M1) == (Fate.PENDING, Reason.PERIOD_OPEN)
    assert verdict(acme, "e-1", M2) == (Fate.PENDING, Reason.PERIOD_ENDED)
    (invoice,) = invoicing.close_period(subscription.pk, M2)
    assert verdict(acme, "e-1", M2) == (Fate.BILLED, Reason.PRICED)
    (found,) = readings.find_events(acme.pk)
    followed = trail.follow(acme, found, M2)
    input_, output = followed.registers
    # A million of the input was free: that sum is shared between two lines.
    assert [(part.fate, part.quantity) for part in input_.parts] == [
        (Fate.FREE, MTOK), (Fate.BILLED, 500_000),
    ]  # fmt: skip
    assert (input_.in_reading, input_.in_sum, input_.is_exact) == (1_500_000, 1_500_000, False)
    assert input_.amount == Decimal("1.00")
    (part,) = output.parts
    assert (output.amount, output.is_exact, output.fate) == (Decimal("0.8"), True, Fate.BILLED)
    (line,) = part.lines
    assert (str(line.invoice), line.register, line.quantity) == (
        invoice.number, "output", 400_000,
    )  # fmt: skip
    invoicing.void(invoice, "wrong buyer", M2)
    assert verdict(acme, "e-1", M2) == (Fate.PENDING, Reason.INVOICE_VOID)
    invoicing.close_period(subscription.pk, M2)
    assert verdict(acme, "e-1", M2) == (Fate.BILLED, Reason.PRICED)


def test_fates_are_told_apart(database: Database, subscription: Subscription) -> None:
    acme = subscription.organization
    send(database, acme, [
        event("free", M1, "free", input=5),
        event("unpriced", M1, "nobody", input=5),
        event("allowance", M1, "b", input=5),
        event("nothing", M1, "a", input=0),
        event("called", M1, "called", input=0),
        event("before", M1 - timedelta(days=1), "a", input=5),
        event("void", M1, "a", output=5),
        event("amended", M1, "a", output=5),
    ])  # fmt: skip
    amendment = Correction("e-by", "gateway-1", "e-amended", None, event("by", M1, "a", output=6))
    send(database, acme, [Correction("v", "gateway-1", "e-void", "twice", None), amendment])
    apply_all()
    invoicing.close_period(subscription.pk, M2)
    told = {
        name: verdict(acme, f"e-{name}", M2)
        for name in ("free", "unpriced", "allowance", "nothing", "called", "before", "void",
                     "amended", "by")
    }  # fmt: skip
    assert told == {
        "free": (Fate.FREE, Reason.NOT_CHARGED),
        "unpriced": (Fate.UNPRICED, Reason.NO_PRICE),
        "allowance": (Fate.FREE, Reason.NOT_CHARGED),
        "nothing": (Fate.FREE, Reason.NOTHING_USED),
        "called": (Fate.BILLED, Reason.PRICED),
        "before": (Fate.UNPRICED, Reason.NO_SUBSCRIPTION),
        "void": (Fate.VOID, Reason.VOIDED),
        "amended": (Fate.VOID, Reason.AMENDED),
        "by": (Fate.BILLED, Reason.PRICED),
    }
    whole = reckoning.of_organization(acme, M2)
    assert whole.events == {
        Fate.VOID: 2, Fate.PENDING: 0, Fate.BILLED: 2, Fate.UNPRICED: 2, Fate.FREE: 3,
    }  # fmt: skip


def test_late_usage_waits_for_the_next_invoice_and_no_longer(
    database: Database, subscription: Subscription
) -> None:
    acme = subscription.organization
    send(database, acme, [event(1, M1, "a", output=10)])
    apply_all()
    invoicing.close_period(subscription.pk, M2)
    send(database, acme, [event(2, M1, "a", output=7)])
    apply_all()
    assert verdict(acme, "e-1", M2) == (Fate.BILLED, Reason.PRICED)
    assert verdict(acme, "e-2", M2) == (Fate.PENDING, Reason.DIFFERENCE_DUE)
    month = reckoning.of_period(subscription, Period(M1, M2), M2)
    assert month.quantities[Fate.PENDING] == {"output": 7}
    (invoice,) = invoicing.close_period(subscription.pk, M3)
    assert verdict(acme, "e-2", M3) == (Fate.BILLED, Reason.PRICED)
    (found,) = readings.find_events(acme.pk, event_id="e-2")
    lines = trail.follow(acme, found, M3).lines
    assert [(line.quantity, line.invoice_id == invoice.pk) for line in lines] == [
        (10, False), (7, True),
    ]  # fmt: skip


def test_a_price_corrected_since_leaves_billed_what_was_billed(
    database: Database, subscription: Subscription
) -> None:
    acme = subscription.organization
    send(database, acme, [event(1, M1, "a", output=MTOK)])
    apply_all()
    invoicing.close_period(subscription.pk, M2)
    catalog.correct(subscription.tariff, document("2.50"), M1, M2)
    assert verdict(acme, "e-1", M2) == (Fate.BILLED, Reason.PRICED)
    invoicing.close_period(subscription.pk, M3)
    assert verdict(acme, "e-1", M3) == (Fate.BILLED, Reason.PRICED)
    (found,) = readings.find_events(acme.pk)
    assert trail.follow(acme, found, M3).amount == Decimal("2.5")


WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def test_no_batch_is_applied_while_a_document_is_made(
    database: Database, subscription: Subscription
) -> None:
    """So the clock alone tells which of them the document has seen."""
    send(database, subscription.organization, [event(1, M1, "a", output=10)])
    worker = threading.Thread(target=_apply_elsewhere)
    with transaction.atomic():
        invoice = invoicing.draft(subscription, Period(M1, M2))
        worker.start()
        while database.execute(WAITING).fetchone() == (0,):
            assert worker.is_alive(), "it was applied beside the document"
    worker.join()
    (found,) = readings.find_events(subscription.organization_id)
    assert found.applied_at is not None
    assert found.applied_at > invoice.created_at
    assert not invoice.lines.exists()


def _apply_elsewhere() -> None:
    try:
        apply_all()
    finally:
        connection.close()


@dataclass
class World:
    """An organization over three months, and a hand that does things to it."""

    database: Database
    subscription: Subscription
    random: random.Random
    now: datetime = M2
    sent: list[str] = field(default_factory=list)
    prices: int = 0

    @property
    def organization(self) -> Organization:
        return self.subscription.organization

    def step(self) -> None:
        weighted = {self.send: 8, self.apply: 4, self.month: 2, self.take_back: 2,
                    self.void_invoice: 1, self.correct: 1, self.count: 4}  # fmt: skip
        (done,) = self.random.choices(list(weighted), list(weighted.values()))
        done()

    def send(self) -> None:
        batch = [self._event() for _ in range(self.random.randint(1, 6))]
        send(self.database, self.organization, batch)

    def _event(self) -> UsageEvent:
        at = max(M1 - timedelta(days=2), self.now - timedelta(days=self.random.randint(0, 34)))
        at += timedelta(minutes=self.random.randint(0, 1440))
        registers = self.random.sample(["input", "output", "own"], self.random.randint(1, 3))
        usage = {name: self.random.choice([0, 5, 300_000, 900_000]) for name in registers}
        model = self.random.choice(["a", "b", "free", "nobody", "called"])
        self.sent.append(f"e-{len(self.sent)}")
        return event(len(self.sent) - 1, at, model, **usage)

    def apply(self) -> None:
        apply_all()

    def month(self, last: datetime = M4) -> None:
        apply_all()
        self.now = min(last, subscriptions.period_at(self.subscription, self.now).end)
        invoicing.close_period(self.subscription.pk, self.now)

    def take_back(self) -> None:
        left = [one for one in self.sent if one.startswith("e-")]
        if left:
            target = self.random.choice(left)
            self.sent[self.sent.index(target)] = f"gone-{target}"
            send(self.database, self.organization,
                 [Correction(f"v-{target}", "gateway-1", target, None, None)])  # fmt: skip

    def count(self) -> None:
        """Some blocks of some period, as a worker does."""
        subscription, period = self.random.choice(fate_totals.periods(self.organization, self.now))
        fate_totals.count_on(
            subscription.pk, period.start, self.now,
            is_time_up=lambda: self.random.random() < 0.3,
        )  # fmt: skip

    def void_invoice(self) -> None:
        issued = list(Invoice.objects.filter(status=Invoice.Status.ISSUED).order_by("number"))
        if issued:
            invoicing.void(self.random.choice(issued), "to try", self.now)

    def correct(self) -> None:
        self.prices += 1
        price = f"2.{self.prices:02}"
        catalog.correct(self.subscription.tariff, document(price), M1, self.now)


STORED = """
    SELECT register, sum(quantity) FROM metering_event CROSS JOIN LATERAL (
        SELECT 'requests' AS register, 1 AS quantity UNION ALL
        SELECT 'input', input UNION ALL SELECT 'output', output UNION ALL
        SELECT key, value::bigint FROM jsonb_each_text(other)) one
    WHERE organization_id = %s GROUP BY register HAVING sum(quantity) > 0
"""


def stored(organization: Organization) -> dict[str, int]:
    """What all stored events add up to, past everything that is tried here."""
    with connection.cursor() as cursor:
        cursor.execute(STORED, [organization.pk])
        return {register: int(quantity) for register, quantity in cursor.fetchall()}


def check(world: World) -> None:
    organization, now = world.organization, world.now
    whole = reckoning.of_organization(organization, now)
    assert +whole.total() == stored(organization)
    # Each event by itself, as its page says it, comes to the same.
    events = readings.find_events(organization.pk, limit=1000)
    by_itself = trail.verdicts(organization, events, now)
    assert Counter(by_itself.values()) == whole.verdicts
    assert len(by_itself) == whole.total()["requests"]
    for fate in Fate:
        met = [event.place for event in events if by_itself[event.place].fate is fate]
        assert searched(organization, fate, now) == met


def check_periods(world: World) -> None:
    """Each period by itself adds up, to the readings and to all of it."""
    reckoned = reckoning.of_organization(world.organization, world.now)
    outside = reckoning._of_gap(world.organization.pk, reckoning.BEGINNING, M1)
    events: Counter[Fate] = Counter(outside.events)
    for subscription, period in fate_totals.periods(world.organization, world.now):
        totals = fate_totals.of_period(subscription, period, world.now)
        assert totals.astray == []
        assert totals.events == sum(one.events for one in totals.fates)
        for one in totals.registers:
            assert sum(one.by_fate.values()) == one.total
        events.update({one.fate: one.events for one in totals.fates})
    assert events == reckoned.events


def searched(organization: Organization, fate: Fate, now: datetime) -> list[EventPlace]:
    """Where the events of a fate are, page by page."""
    found: list[EventPlace] = []
    search = EventSearch()
    for _ in range(10_000):
        page = searching.event_page(organization, search, fate, now, limit=3)
        found += [event.place for event, _ in page.events]
        if page.next is None:
            return found
        search = EventSearch(before=page.next)
    raise AssertionError("the pages do not end")


def check_documents(world: World) -> None:
    """The fates are the sums of the issued lines, whichever way those came about."""
    whole = reckoning.of_organization(world.organization, world.now)
    unsubscribed = reckoning._of_gap(world.organization.pk, reckoning.BEGINNING, M1)
    assert whole.verdicts[Verdict(Fate.PENDING, Reason.DIFFERENCE_DUE)] == 0
    on_paper: Counter[Fate] = Counter()
    for line in InvoiceLine.objects.filter(invoice__status=Invoice.Status.ISSUED):
        if line.register != "requests":
            on_paper[fate_on_paper(line.component)] += line.quantity
    for fate in (Fate.BILLED, Fate.FREE, Fate.UNPRICED):
        on_lines = whole.quantities[fate].total() - unsubscribed.quantities[fate].total()
        assert on_lines == on_paper[fate], fate
    assert on_paper.total()


def fate_on_paper(component: str) -> Fate:
    """By the words of the tariff above."""
    if component == "unpriced":
        return Fate.UNPRICED
    return Fate.FREE if component in ("allowance:welcome", "free") else Fate.BILLED


@pytest.mark.parametrize("seed", range(8))
def test_the_fates_of_a_random_world_add_up_after_every_step(
    database: Database, subscription: Subscription, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "LOOKED_AT_MAX", 20)
    monkeypatch.setattr(searching, "AT_ONCE", 7)
    monkeypatch.setattr(tally_blocks, "BLOCK_EVENTS", 5)
    world = World(database, subscription, random.Random(seed))
    for _ in range(14):
        world.step()
        check(world)
        check_periods(world)
    while world.now < M5:
        world.month(last=M5)
    check(world)
    check_documents(world)


def test_what_does_not_add_up_is_said_and_how_much_is_missing(
    database: Database, subscription: Subscription, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = subscription.organization
    send(database, acme, [event(1, M1, "a", output=10), event(2, M1, "nobody", output=5)])
    apply_all()
    periods = fate_totals.periods(acme, M2)
    assert fate_totals.of_period(*periods[-1], M2).astray == []
    database.execute(
        "UPDATE metering_reading SET quantity = 7 WHERE register = 'output' AND quantity = 10"
    )
    database.execute(
        "UPDATE metering_readinghour SET quantity = 7 WHERE register = 'output' AND quantity = 10"
    )
    (astray,) = fate_totals.of_period(*periods[-1], M2).astray
    assert (astray.register, astray.by_events, astray.in_readings) == ("output", 15, 12)
    with pytest.raises(SystemExit):
        call_command("fates", "acme", period=M1.isoformat())
    assert "output does not add up: 15 by the events, 12 in the readings" in capsys.readouterr().out


def test_a_period_of_too_many_events_is_counted_beforehand(
    database: Database, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally_blocks, "BLOCK_EVENTS", 2)
    acme, period = subscription.organization, Period(M1, M2)
    for number in range(5):
        send(database, acme, [event(number, M1, "a", output=number + 1)])
    apply_all()
    whole = fate_totals.of_period(subscription, period, M2)
    with pytest.raises(fate_totals.TooManyEvents) as refused:
        fate_totals.of_period(subscription, period, M2, events_max=1)
    assert (refused.value.counted, refused.value.events) == (0, 5)
    told = [
        fate_totals.count_on(subscription.pk, M1, M2, is_time_up=lambda: True) for _ in range(3)
    ]
    assert told == [(2, 5, False), (4, 5, False), (4, 5, True)]
    assert fate_totals.of_period(subscription, period, M2, events_max=1) == whole
    assert fate_totals.count_on(subscription.pk, M1 - MONTH, M2, is_time_up=bool) is None
