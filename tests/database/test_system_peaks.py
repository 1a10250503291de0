"""The whole system's peak of a period: found once, in all usage that had come by then."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing import invoicing, subscriptions, what_if
from billing.comparisons import Verdict
from billing.drafting import billed
from billing.models import Invoice, Subscription, SystemPeak, Tariff
from billing.rating.bill import add_load, charged
from billing.rating.charge import Facts
from billing.rating.event import Event
from billing.rating.period import Period
from billing.rating.rate import PricedTerms
from billing.rating.tariff import parse
from billing.what_if import Alternative
from metering.usage.event import UsageEvent
from tests import build
from tests.database.test_invoicing import pending
from tests.meter import apply_all, database, empty, empty_meter, store_events

__all__ = ["database", "empty_meter"]

pytestmark = pytest.mark.usefixtures("empty_meter")

Database = psycopg.Connection[Any]
SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def document(window: int = 15, step: int = 15) -> dict[str, Any]:
    """Nothing but the own load at the system's peak, a dollar for a thousand tokens a minute."""
    demand = {
        "code": "pool", "kind": "demand", "price": "1", "basis": "coincident",
        "window_minutes": window, "step_minutes": step,
    }  # fmt: skip
    return {**build.flat_document(price="0"), "charges": [demand]}


def use(organization: Organization, *tpm: int, since: datetime = SEPTEMBER) -> None:
    """So many tokens a minute, one quarter-hour after the other."""
    for number, rate in enumerate(tpm):
        at = since + QUARTER * number
        build.make_reading(organization=organization, starts_at=at, quantity=rate * 15)


def on(organization: Organization, tariff: Tariff, **fields: Any) -> Subscription:
    starts_at = fields.pop("starts_at", SEPTEMBER)
    return build.make_subscription(
        organization=organization, starts_at=starts_at, tariff=tariff, **fields
    )


def demand_of(invoice: Invoice) -> int | None:
    """The tokens a minute that a document bills."""
    line = invoice.lines.filter(component="pool").first()
    return line.quantity if line else None


def close(subscription: Subscription) -> Invoice:
    (invoice,) = invoicing.close_period(subscription.pk, OCTOBER)
    return invoice


def test_no_peak_is_found_while_usage_of_anybody_is_still_to_be_summed(
    acme: Organization, globex: Organization
) -> None:
    """It is kept for good, so it is found in all that had come by then or not at all."""
    tariff = build.make_tariff(document=document())
    subscription = on(acme, tariff)
    use(acme, 10, 20)
    pending(globex, state="pending", received_at=OCTOBER - timedelta(minutes=1))
    assert invoicing.close_period(subscription.pk, OCTOBER) == []
    said = invoicing.waiting_for(subscription, OCTOBER)
    assert said is not None
    assert said.startswith("usage of any organization, received before 2026-10-01T00:00:00+00:00")
    plain = on(globex, build.make_tariff(code="plain"), starts_at=OCTOBER - timedelta(days=3))
    assert invoicing.waiting_for(plain, OCTOBER) != said
    assert not SystemPeak.objects.exists()


def test_usage_received_after_a_period_could_be_closed_is_not_waited_for(
    acme: Organization, globex: Organization
) -> None:
    subscription = on(acme, build.make_tariff(document=document()))
    use(acme, 10, 20)
    pending(globex, state="pending", received_at=OCTOBER)
    assert invoicing.waiting_for(subscription, OCTOBER) is None
    assert demand_of(close(subscription)) == 20


def test_a_peak_that_is_known_is_waited_for_by_nobody(
    acme: Organization, globex: Organization
) -> None:
    tariff = build.make_tariff(document=document())
    first, second = on(acme, tariff), on(globex, tariff)
    use(acme, 10, 20)
    use(globex, 4, 3)
    assert demand_of(close(first)) == 20
    others = build.make_organization(name="Others", slug="others")
    pending(others, state="failed", received_at=SEPTEMBER)
    assert demand_of(close(second)) == 3


def test_everybody_with_other_billing_periods_has_a_peak_of_their_own(
    acme: Organization, globex: Organization
) -> None:
    """September in Shanghai ends 16 hours into the last of it here."""
    tariff = build.make_tariff(document=document())
    shanghai = build.make_organization(name="S", slug="s", zone="Asia/Shanghai")
    use(acme, 10, 50)
    use(shanghai, 7, 5)
    use(globex, 900, since=OCTOBER - timedelta(hours=1))  # October already, in Shanghai
    use(shanghai, 2, since=OCTOBER - timedelta(hours=1))
    here, there = on(acme, tariff), on(shanghai, tariff)
    assert demand_of(close(here)) is None  # Acme used nothing when the others were at their peak
    assert demand_of(close(there)) == 5
    kept = SystemPeak.objects.order_by("period_end").values_list("starts_at", flat=True)
    assert list(kept) == [SEPTEMBER + QUARTER, OCTOBER - timedelta(hours=1)]


def test_a_comparison_looks_for_a_peak_that_nobody_was_billed_by_and_keeps_nothing(
    acme: Organization, globex: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    tariff = build.make_tariff()
    for organization in (acme, globex):
        on(organization, tariff)
    use(acme, 4_000, 1_000)
    use(globex, 1_000, 9_000)
    other = Alternative(document())
    days = (date(2026, 9, 1), date(2026, 10, 1))
    answer = what_if.compare(other, *days, OCTOBER)
    assert {one.organization: one.new_minor for one in answer.compared} == {
        acme: 100, globex: 900,
    }  # fmt: skip
    assert not SystemPeak.objects.exists()
    assert list(other.looked.values()) == [SEPTEMBER + QUARTER]  # once for both


def test_a_comparison_goes_by_the_peak_that_was_billed(
    acme: Organization, globex: Organization
) -> None:
    """Late usage would have made another one; both sides come to what is on the invoice."""
    tariff = build.make_tariff(document=document())
    subscription = on(acme, tariff)
    use(acme, 4_000, 1_000)
    use(globex, 1_000, 9_000)
    invoice = close(subscription)
    use(globex, 20_000)
    days = (date(2026, 9, 1), date(2026, 10, 1))
    (found,) = what_if.compare(Alternative(document()), *days, OCTOBER).found
    assert (found.old_minor, found.new_minor) == (invoice.total_minor, invoice.total_minor)
    assert found.verdict == Verdict.SAME


def test_a_ratchet_remembers_the_loads_at_the_systems_earlier_peaks(
    acme: Organization, globex: Organization
) -> None:
    of = document()
    of["charges"][0]["ratchet"] = {"percent": 80, "months": 2}
    subscription = on(
        acme, build.make_tariff(document=of), starts_at=datetime(2026, 8, 1, tzinfo=UTC)
    )
    use(globex, 9_000, since=datetime(2026, 8, 3, tzinfo=UTC))
    use(acme, 1_000, 5_000, since=datetime(2026, 8, 3, tzinfo=UTC))
    use(globex, 9_000)
    use(acme, 10)
    august, september = invoicing.close_period(subscription.pk, OCTOBER)
    assert demand_of(august) == 1_000
    assert demand_of(september) == 800


NUMBERS = count(1)
NAMES = ("a", "b", "c")
USED = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.integers(0, 119),
        st.sampled_from([1, 14, 15_000, 15_001, 40_000]),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(USED, st.sampled_from([(15, 15), (30, 15), (30, 30), (45, 15)]))
def test_invoices_are_the_rating_of_everybodys_events(
    database: Database,
    acme: Organization,
    used: list[tuple[str, int, int]],
    window: tuple[int, int],
) -> None:
    """The peak is worked out from the events of all, slot by slot; the load from one's own."""
    empty()
    run = next(NUMBERS)
    # Months of their own for each run: what was found of a month stays.
    start = datetime(2026 - run // 12, 1 + run % 12, 1, tzinfo=UTC)
    tariff = build.make_tariff(code=f"pool-{run}", document=document(*window), valid_from=start)
    organizations = {
        name: build.make_organization(name=name, slug=f"{name}-{run}") for name in NAMES
    }
    events: dict[str, list[UsageEvent]] = {name: [] for name in NAMES}
    for number, (name, minute, tokens) in enumerate(used):
        at = start + timedelta(minutes=minute, seconds=59)
        events[name] += [UsageEvent(f"e{number}", "oracle", at, "gpt-5", {"input": tokens})]
    for name, sent in events.items():
        if sent:
            store_events(database, organizations[name], sent)
    apply_all()
    for name, organization in organizations.items():
        subscription = on(organization, tariff, starts_at=start)
        period = subscriptions.period_at(subscription, start)
        # Only what these have sent: the door's clock is of today, so it is after this period.
        (invoice, *_) = invoicing.close_period(subscription.pk, period.end)
        (lines,) = billed([(subscription, period)])
        found = [line.quantity for line in lines if line.component == "pool"]
        assert found == by_hand(events, name, period, f"pool-{run}@1", window), invoice


def by_hand(
    events: dict[str, list[UsageEvent]], name: str, period: Period, version: str,
    window: tuple[int, int],
) -> list[int]:  # fmt: skip
    """What the engine bills, told of the first of the windows in which most was used."""
    minutes, step = window
    sums: Counter[datetime] = Counter()
    for one in (one for sent in events.values() for one in sent):
        for first in range(0, 24 * 60, step):
            start = period.start + timedelta(minutes=first)
            if start <= one.occurred_at < start + timedelta(minutes=minutes):
                sums[start] += sum(one.usage.values())
    most = max(sums.values())
    peak = min(start for start, tokens in sums.items() if tokens == most)
    load: dict[str, dict[datetime, int]] = {}
    for one in events[name]:
        add_load(load, Event(one.id, one.occurred_at, one.model, one.usage))
    facts = Facts(zone=ZoneInfo("UTC"), whole=period, load=load, system_peaks={"pool": peak})
    stretches = [PricedTerms(version, period, parse(document(*window)))]
    return [line.quantity for line in charged([], stretches, facts)]
