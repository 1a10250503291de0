"""Upstream costs passed on: what the usage cost when it was used, with a markup, or no document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.test import Client

from accounts import people
from accounts.models import Organization
from billing import catalog, costs, invoicing, upstream, what_if
from billing.comparisons import Verdict
from billing.feeds.listing import Listed, ListedModel, Listing
from billing.models import Invoice, ProviderCost, Subscription
from metering import readings, reaggregation
from tests import build
from tests.pure.tariffs import component

pytestmark = pytest.mark.django_db

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
TENTH = datetime(2026, 11, 10, 7, 30, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
MTOK = 1_000_000


def passing_on(markup: str = "20", **fields: Any) -> dict[str, Any]:
    """Usage costs nothing but what it cost upstream, and that much more."""
    charge = {"code": "upstream", "kind": "pass_through", "models": ["*"], "markup_percent": markup}
    free = component("all", registers=["input", "output"], price="0")
    return {"currency": "USD", "components": [free], "charges": [charge], **fields}


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    tariff = build.make_tariff(document=passing_on())
    return build.make_subscription(organization=acme, starts_at=NOVEMBER, tariff=tariff)


def cost(price: str, at: datetime, register: str = "input", above: int = 0) -> None:
    listed = Listed("up", "gpt-5", register, Decimal(price), above, at)
    listing = Listing("list", "1", "d" * 64, (listed,), (ListedModel("up", "gpt-5"),), ())
    made = upstream.propose(listing, actor=None, now=at)
    who = people.create_verified(
        f"{at:%d}-{register}-{above}@cloud.example", "correct horse", staff=True
    )
    upstream.approve(list(made.proposals.values_list("pk", flat=True)), actor=who, now=at)


def use(of: Subscription, at: datetime, quantity: int, **what: Any) -> None:
    build.make_reading(organization=of.organization, starts_at=at, quantity=quantity, **what)


def close(subscription: Subscription, now: datetime = DECEMBER) -> list[Invoice]:
    return invoicing.close_period(subscription.pk, now)


def passed(invoice: Invoice) -> list[tuple[str, int, int]]:
    lines = invoice.lines.filter(register="provider_cost").order_by("position")
    return [(line.model, line.quantity, line.amount_minor) for line in lines]


def test_usage_costs_what_it_cost_upstream_when_it_was_used_and_the_markup(
    subscription: Subscription,
) -> None:
    """2 at 0.25, 5 at 0.10 and 1 at 2.00 a million are 3.00, and 20% more."""
    cost("0.25", NOVEMBER)
    cost("0.10", TENTH)
    cost("2", NOVEMBER, "output")
    use(subscription, TENTH - timedelta(minutes=15), 2 * MTOK)
    use(subscription, TENTH, 5 * MTOK)
    use(subscription, TENTH, MTOK, register="output")
    (invoice,) = close(subscription)
    assert passed(invoice) == [("gpt-5", 3 * MTOK, 360)]
    assert invoice.total_minor == 360
    line = invoice.lines.get(register="provider_cost")
    assert line.description == "gpt-5: provider's cost (upstream), with a markup of 20%"
    assert (
        "The provider's cost of 3.00 USD (5,000,000 input at 0.1 USD a million, 2,000,000 input at "
        "0.25 USD a million, 1,000,000 output at 2 USD a million) with a markup of 20%."
    ) in invoicing.explain(line).sentences


def test_a_period_with_an_unknown_cost_is_not_billed_and_says_of_what(
    subscription: Subscription,
) -> None:
    """Never as nothing, in silence; once it is approved the period closes."""
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, MTOK)
    use(subscription, NOVEMBER, 7, register="output")
    assert close(subscription) == []
    said = str(invoicing.waiting_for(subscription, DECEMBER))
    assert said.startswith("upstream costs that are passed on and not known (output of gpt-5)")
    assert Invoice.objects.count() == 0
    cost("1000", NOVEMBER, "output")
    assert invoicing.waiting_for(subscription, DECEMBER) is None
    (invoice,) = close(subscription)
    assert passed(invoice) == [("gpt-5", 257_000, 31)]


def test_a_cost_that_is_known_only_for_a_later_time_is_unknown_before(
    subscription: Subscription,
) -> None:
    cost("0.25", TENTH)
    use(subscription, NOVEMBER, MTOK)
    assert close(subscription) == []


def test_pages_show_what_is_known_of_the_open_period(
    subscription: Subscription, acme: Organization
) -> None:
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, 4 * MTOK)
    use(subscription, NOVEMBER, 7, register="output")
    found = costs.so_far(acme, TENTH)
    assert found is not None
    assert found.amount_minor == 120


def test_each_version_passes_on_its_own_part_of_the_period(subscription: Subscription) -> None:
    """The first at 20%, then another at 50%, then one that passes nothing on."""
    cost("1", NOVEMBER)
    fifth, twentieth = NOVEMBER + timedelta(days=4), NOVEMBER + timedelta(days=19)
    tariff = subscription.tariff
    catalog.publish_approved(tariff, passing_on("50"), fifth, NOVEMBER, correcting=False)
    catalog.publish_approved(
        tariff, build.flat_document(price="7"), twentieth, NOVEMBER, correcting=False
    )
    for day in (NOVEMBER, fifth, twentieth):
        use(subscription, day, MTOK)
    (invoice,) = close(subscription)
    assert passed(invoice) == [("gpt-5", MTOK, 120), ("gpt-5", MTOK, 150)]
    assert invoice.total_minor == 120 + 150 + 700


def test_late_usage_is_passed_on_as_a_difference(subscription: Subscription) -> None:
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, 2 * MTOK)
    close(subscription)
    use(subscription, NOVEMBER, MTOK)
    (december,) = close(subscription, JANUARY)
    assert passed(december) == [("gpt-5", 250_000, 30)]


def test_late_usage_of_a_model_without_a_cost_holds_up_the_next_document(
    subscription: Subscription,
) -> None:
    cost("0.25", NOVEMBER)
    close(subscription)
    use(subscription, NOVEMBER, MTOK, model="llama")
    assert close(subscription, JANUARY) == []
    assert "input of llama" in str(invoicing.waiting_for(subscription, JANUARY))


def test_a_size_that_an_upstream_charges_by_is_told_apart(subscription: Subscription) -> None:
    assert 150_000 not in readings.input_limits()
    cost("0.25", NOVEMBER)
    cost("0.50", NOVEMBER, above=150_000)
    assert 150_000 in readings.input_limits()
    assert [one.organization_id for one in reaggregation.progress()] == [
        subscription.organization_id
    ]
    assert close(subscription) == []
    while reaggregation.step():
        pass
    assert len(close(subscription)) == 1


def test_what_is_not_covered_is_not_passed_on(acme: Organization) -> None:
    document = passing_on()
    document["charges"][0]["models"] = ["gpt-*"]
    document["components"] = build.flat_document()["components"]
    tariff = build.make_tariff(document=document)
    subscription = build.make_subscription(organization=acme, starts_at=NOVEMBER, tariff=tariff)
    use(subscription, NOVEMBER, 3 * MTOK, model="llama")
    (invoice,) = close(subscription)
    assert passed(invoice) == []
    assert invoice.total_minor == 300
    assert not ProviderCost.objects.exists()


def test_a_comparison_passes_costs_on_and_leaves_out_who_has_an_unknown_one(
    subscription: Subscription,
) -> None:
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, MTOK)
    first, last = NOVEMBER.date(), DECEMBER.date()

    def compared() -> tuple[Verdict, int, int]:
        other = what_if.Alternative(passing_on("100"))
        (found,) = what_if.compare(other, first, last, DECEMBER).found
        return found.verdict, found.old_minor, found.new_minor

    assert compared() == (Verdict.DEARER, 30, 50)
    use(subscription, NOVEMBER, MTOK, model="llama")
    assert compared() == (Verdict.COST_UNKNOWN, 0, 0)


def test_a_page_about_a_billed_line_does_not_wait_for_costs(subscription: Subscription) -> None:
    cost("0.25", NOVEMBER)
    use(subscription, NOVEMBER, MTOK)
    (invoice,) = close(subscription)
    use(subscription, NOVEMBER, MTOK, model="llama")
    found = invoicing.explain(invoice.lines.get(register="input"))
    assert [change.model for change in found.changes] == []


def test_the_console_says_which_cost_a_period_waits_for(subscription: Subscription) -> None:
    use(subscription, NOVEMBER, 7, register="output")
    client = Client()
    client.force_login(people.create_verified("ann@cloud.example", "correct horse", staff=True))
    with time_machine.travel(DECEMBER + timedelta(hours=1), tick=False):
        page = f"/console/close/{subscription.pk}/"
        shown = client.get(page)
        assert "The oldest period waits for upstream costs" in shown.content.decode()
        assert "output of gpt-5" in client.get("/console/close/").content.decode()
        refused = client.post(f"{page}now/")
        assert refused.status_code == 422
        assert "It waits for upstream costs" in refused.content.decode()
