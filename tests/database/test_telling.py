"""Prices by sizes of request that readings did not tell apart: published, learnt, then billed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from accounts.models import Organization
from billing import catalog, costs, invoicing, negotiations, subscriptions, what_if
from billing.comparisons import Verdict
from billing.models import Subscription
from metering import readings, reaggregation, rollup
from tests import build
from tests.meter import apply_all, database, empty_meter, make_event, store_events
from tests.pure.tariffs import component, tiers

__all__ = ["database", "empty_meter"]

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MTOK = 1_000_000


def by_size(above: int, price: str = "3") -> dict[str, Any]:
    return {
        "currency": "USD",
        "components": [
            component("sizes", registers=["input"], tiers=tiers((0, "1"), (above, price)))
        ],
    }


def send(database: psycopg.Connection[Any], organization: Organization, *sizes: int) -> None:
    """A million requests' worth of input of each size, in November."""
    events = [
        make_event(now=NOVEMBER, id=f"{size}-{number}", occurred_at="2026-10-31T10:00:00Z",
                   usage={"input": size})
        ._replace(occurred_at=NOVEMBER + timedelta(days=3))
        for size in sizes
        for number in range(MTOK // size)
    ]  # fmt: skip
    store_events(database, organization, events)
    while rollup.apply_pending():
        pass


def learn() -> None:
    while reaggregation.step():
        pass


@pytest.fixture
def subscription(empty_meter: None, acme: Organization) -> Subscription:
    tariff = build.make_tariff(document=by_size(16_000))
    return build.make_subscription(organization=acme, starts_at=NOVEMBER, tariff=tariff)


def test_no_period_closes_before_its_readings_tell_what_its_prices_ask(
    database: psycopg.Connection[Any], acme: Organization, subscription: Subscription
) -> None:
    """Of 1 and 3 a million: 20,000 and 25,000 tokens lie in one band of the first set."""
    send(database, acme, 20_000, 25_000)
    catalog.publish_approved(
        subscription.tariff, by_size(20_000), NOVEMBER, NOVEMBER, correcting=False
    )
    assert invoicing.close_period(subscription.pk, DECEMBER) == []
    assert "summed anew" in str(invoicing.waiting_for(subscription, DECEMBER))
    learn()
    assert invoicing.waiting_for(subscription, DECEMBER) is None
    (invoice,) = invoicing.close_period(subscription.pk, DECEMBER)
    assert [(line.quantity, line.amount_minor) for line in invoice.lines.order_by("position")] == [
        (MTOK, 100),
        (MTOK, 300),
    ]
    cost = costs.so_far(acme, DECEMBER - timedelta(hours=1))
    assert cost is not None
    assert cost.amount_minor == 400


def test_prices_published_while_a_draft_is_written_are_not_billed_too_coarsely(
    database: psycopg.Connection[Any],
    acme: Organization,
    subscription: Subscription,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(database, acme, 25_000)
    write_draft = invoicing.write_draft

    def published_meanwhile(*arguments: Any) -> Any:
        catalog.publish_approved(
            subscription.tariff, by_size(20_000), NOVEMBER, NOVEMBER, correcting=False
        )
        return write_draft(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(invoicing, "write_draft", published_meanwhile)
        assert invoicing.close_period(subscription.pk, DECEMBER) == []
    assert not subscription.invoices.exists()


def test_a_correction_of_billed_prices_is_billed_as_the_events_cost(
    database: psycopg.Connection[Any], acme: Organization, subscription: Subscription
) -> None:
    """Closed readings are told apart anew as well; what they add up to is what was billed."""
    send(database, acme, 20_000, 25_000)
    (november,) = invoicing.close_period(subscription.pk, DECEMBER)
    assert november.total_minor == 600
    catalog.publish_approved(
        subscription.tariff, by_size(20_000), NOVEMBER, DECEMBER, correcting=True
    )
    january = DECEMBER + timedelta(days=31)
    assert invoicing.close_period(subscription.pk, january) == []
    learn()
    (december,) = invoicing.close_period(subscription.pk, january)
    assert december.total_minor == -200


def test_late_usage_of_a_closed_period_is_told_apart_as_all_usage_is(
    database: psycopg.Connection[Any], acme: Organization, subscription: Subscription
) -> None:
    """Finer than its prices ask is as good: decision 0003 rates the whole period anew."""
    send(database, acme, 20_000)
    invoicing.close_period(subscription.pk, DECEMBER)
    catalog.publish_approved(
        subscription.tariff, by_size(20_000), DECEMBER, DECEMBER, correcting=False
    )
    send(database, acme, 25_000)
    learn()
    (december,) = invoicing.close_period(subscription.pk, DECEMBER + timedelta(days=31))
    assert [(line.quantity, line.amount_minor) for line in december.lines.all()] == [(MTOK, 300)]


def test_whoever_comes_onto_a_tariff_later_has_his_readings_told_apart_too(
    database: psycopg.Connection[Any], acme: Organization, empty_meter: None
) -> None:
    send(database, acme, 20_000, 25_000)
    tariff = build.make_tariff(document=by_size(20_000))
    subscription = subscriptions.subscribe(acme, tariff, NOVEMBER)
    assert invoicing.close_period(subscription.pk, DECEMBER) == []
    learn()
    (invoice,) = invoicing.close_period(subscription.pk, DECEMBER)
    assert invoice.total_minor == 400


def test_negotiated_sizes_are_learnt_for_who_negotiated_them(
    database: psycopg.Connection[Any],
    acme: Organization,
    globex: Organization,
    subscription: Subscription,
) -> None:
    send(database, acme, 20_000, 25_000)
    send(database, globex, 20_000, 25_000)
    agreed = {"components": by_size(20_000, "2")["components"]}
    shown = negotiations.preview(subscription, agreed, NOVEMBER)
    assert shown.learning.sizes == (20_000,)
    negotiations.publish_approved(
        subscription, agreed, NOVEMBER, NOVEMBER, reference="letter", correcting=False
    )
    assert [one.organization_id for one in reaggregation.progress()] == [acme.pk]
    learn()
    (invoice,) = invoicing.close_period(subscription.pk, DECEMBER)
    assert invoice.total_minor == 300


def test_the_form_says_what_will_happen_before_it_does(subscription: Subscription) -> None:
    tariff = subscription.tariff
    assert catalog.preview(tariff, by_size(128_000), DECEMBER).learning.sentence == ""
    shown = catalog.preview(tariff, by_size(140_000), DECEMBER).learning.sentence
    assert shown.startswith(
        "Readings will tell requests apart at an input of 140,000 tokens as well. Usage since "
        "2026-12-01 00:00 UTC of those who are on these prices (1 so far) is summed anew"
    )
    catalog.publish_approved(tariff, by_size(140_000), DECEMBER, NOVEMBER, correcting=False)
    assert catalog.preview(tariff, by_size(140_000), DECEMBER).learning.sentence == ""


def test_nobody_is_compared_with_sizes_that_his_readings_do_not_tell(
    database: psycopg.Connection[Any], acme: Organization, subscription: Subscription
) -> None:
    send(database, acme, 20_000, 25_000)
    first, last = date(2026, 11, 1), date(2026, 12, 1)

    def compared(document: dict[str, Any]) -> tuple[Verdict, int]:
        other = what_if.Alternative(document)
        (found,) = what_if.compare(other, first, last, DECEMBER).found
        return found.verdict, found.new_minor

    assert compared(by_size(20_000)) == (Verdict.NOT_TOLD_APART, 0)
    assert readings.input_limits()[:2] == (16_000, 16_384)
    catalog.publish_approved(
        subscription.tariff, by_size(20_000), NOVEMBER, NOVEMBER, correcting=False
    )
    assert compared(by_size(20_000, "5")) == (Verdict.NOT_TOLD_APART, 0)
    apply_all()
    assert compared(by_size(20_000, "5")) == (Verdict.DEARER, 600)
