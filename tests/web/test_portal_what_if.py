"""The portal's page of what past periods would have cost under another tariff."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from accounts.models import Organization, User
from billing import negotiations, subscriptions
from billing.models import Subscription, Tariff
from tests import build
from tests.conftest import NOW
from tests.web.portal_acme import MTOK, at_now, invoice, metered, signed_in, text_of, use

__all__ = ["at_now", "invoice", "metered"]
pytestmark = pytest.mark.usefixtures("at_now")
PAGE = "/o/acme/tariff/what-if/"
TIMES = "\N{MULTIPLICATION SIGN}"
# A dollar a period, and half of what Acme pays; two dollars a million for what comes out.
FEE: dict[str, Any] = {
    "currency": "USD",
    "components": [
        {"code": "in", "models": ["*"], "registers": ["input"], "shape": "flat", "per": MTOK,
         "price": "0.20"},
        {"code": "out", "models": ["*"], "registers": ["output"], "shape": "flat", "per": MTOK,
         "price": "2.00"},
    ],
    "charges": [{"code": "base", "kind": "standing", "each": "period", "price": "0.40"}],
}  # fmt: skip


@pytest.fixture
def fee(metered: Subscription) -> Tariff:
    return offered("fee", FEE)


def offered(code: str, document: dict[str, Any], **which: Any) -> Tariff:
    tariff = build.make_tariff(code=code, document=document, currency=document["currency"], **which)
    tariff.offered = True
    tariff.save(update_fields=["offered"])
    return tariff


def said(user: User, query: str = "?tariff=fee&periods=3&prices=then") -> str:
    return text_of(signed_in(user), PAGE + query).replace(TIMES, "x")


def test_each_ended_period_stands_beside_what_it_would_have_cost(fee: Tariff, alice: User) -> None:
    """October: 1.5 M in and 0.25 M out, a dollar a million, or 0.30 and 0.50 and the fee."""
    words = said(alice)
    assert "Yes: Fee would have been $0.55 cheaper" in words
    assert "Oct 1, 2026 to Oct 31, 2026 $1.75 $1.20 -$0.55" in words
    assert "Together $1.75 $1.20 -$0.55" in words
    assert "gpt-5, input $1.50 $0.30 -$1.20" in words
    assert "gpt-5, output $0.25 $0.50 $0.25" in words
    assert "Base $0.00 $0.40 $0.40" in words


def test_where_both_cost_the_same_is_said_and_drawn(fee: Tariff, alice: User) -> None:
    words = said(alice)
    assert "Both cost the same at about 0.42x the usage (between 0x and 0.5x)" in words
    assert "0x $0.00 $0.40 $0.40 0.5x $0.88 $0.80 -$0.08 1x $1.75 $1.20 -$0.55" in words
    response = signed_in(alice).get(f"{PAGE}?tariff=fee")
    chart = response.context["chart"]
    assert chart["series"][1]["data"][:3] == ["0.40", "0.80", "1.20"]
    assert b'id="break-even-data"' in response.content


def test_a_dearer_tariff_and_the_same_are_said(fee: Tariff, alice: User) -> None:
    offered("dear", build.flat_document(price="3.00"))
    offered("like", build.flat_document(price="1.00"))
    assert "No: Dear would have been $3.50 dearer" in said(alice, "?tariff=dear")
    assert "Like would have cost the same" in said(alice, "?tariff=like")


def test_usage_without_a_price_is_no_saving(fee: Tariff, alice: User) -> None:
    offered("poor", {"currency": "USD", "components": FEE["components"][:1]})
    words = said(alice, "?tariff=poor")
    assert "It cannot be said" in words
    assert "Some of what was used has no price under the other tariff." in words
    assert "It cannot be said while some of what you used has no price there." in words
    assert "gpt-5, output $0.25 no price" in words


def test_what_was_negotiated_is_said(
    fee: Tariff, metered: Subscription, alice: User, now: datetime
) -> None:
    negotiations.agree(
        metered, {"discounts": [{"code": "ten", "models": ["*"], "percent": "10"}]},
        metered.starts_at, now, reference="letter", correcting=True,
    )  # fmt: skip
    words = said(alice)
    assert "What was negotiated counts in what is paid now" in words
    assert "Together $1.58 $1.20" in words


def test_a_tariff_that_was_not_there_yet_is_compared_by_its_prices_of_now(
    fee: Tariff, alice: User
) -> None:
    offered("young", FEE, valid_from=datetime(2026, 11, 5, tzinfo=UTC))
    assert "Young had no prices then. Compare with its prices of now." in said(
        alice, "?tariff=young"
    )
    words = said(alice, "?tariff=young&prices=now")
    assert "Yes: Young would have been $0.55 cheaper" in words
    offered("later", FEE, valid_from=datetime(2026, 12, 5, tzinfo=UTC))
    assert "Later has no prices now." in said(alice, "?tariff=later&prices=now")


def test_another_currency_is_named_and_not_offered(fee: Tariff, alice: User) -> None:
    offered("euro", build.flat_document(currency="EUR"))
    words = said(alice, "")
    assert "Not to be compared, because billed in another currency: Euro." in words
    assert "Select a valid choice" in said(alice, "?tariff=euro")


def test_a_period_in_another_currency_cannot_be_compared(acme: Organization, alice: User) -> None:
    euro = build.make_tariff(code="euro", currency="EUR")
    Organization.objects.filter(pk=acme.pk).update(currency="EUR")
    acme.refresh_from_db()
    before = build.make_subscription(
        organization=acme, starts_at=datetime(2026, 8, 1, tzinfo=UTC), tariff=euro
    )
    subscriptions.end(before, datetime(2026, 9, 1, tzinfo=UTC))
    Organization.objects.filter(pk=acme.pk).update(currency="USD")
    acme.refresh_from_db()
    build.make_subscription(organization=acme, starts_at=datetime(2026, 9, 1, tzinfo=UTC))
    offered("fee", FEE)
    assert "One of these periods was billed in another currency than USD." in said(alice)
    assert "Fee would have been" in said(alice, "?tariff=fee&periods=1")


def test_tariffs_that_are_not_offered_stay_somebodys_secret(
    fee: Tariff, alice: User, globex: Organization
) -> None:
    build.make_tariff(code="secret")
    assert "Secret" not in said(alice, "")
    assert "Select a valid choice" in said(alice, "?tariff=secret")


def test_nothing_to_compare_with_is_said(metered: Subscription, alice: User) -> None:
    assert "No other tariff in USD is offered to you." in said(alice, "")


def test_before_the_first_period_has_ended_there_is_nothing_to_compare(
    acme: Organization, alice: User
) -> None:
    offered("fee", FEE)
    assert "No billing period has ended yet" in said(alice)
    build.make_subscription(organization=acme, starts_at=datetime(2026, 11, 1, tzinfo=UTC))
    assert "No billing period has ended yet" in said(alice)


def test_an_idle_period_says_that_nothing_was_used(acme: Organization, alice: User) -> None:
    build.make_subscription(organization=acme, starts_at=datetime(2026, 10, 1, tzinfo=UTC))
    offered("fee", FEE)
    words = said(alice)
    assert "Nothing was used." in words
    assert "No: Fee would have been $0.40 dearer" in words


def test_the_bare_page_asks_and_rates_nothing(
    fee: Tariff, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.what_if.between", None)
    words = said(alice, "")
    assert "Would another tariff have been cheaper?" in words
    assert "Together" not in words


@pytest.mark.parametrize("query", ["?tariff=fee&periods=99", "?tariff=fee&prices=x", "?periods=3"])
def test_a_wrong_choice_is_told(fee: Tariff, alice: User, query: str) -> None:
    words = said(alice, query)
    assert "Select a valid choice" in words or "This field is required" in words
    assert "Together" not in words


def test_the_tariff_page_leads_here(fee: Tariff, alice: User) -> None:
    html = signed_in(alice).get("/o/acme/tariff/").content.decode()
    assert f'href="{PAGE}"' in html


def test_usage_of_now_is_not_part_of_it(fee: Tariff, acme: Organization, alice: User) -> None:
    before = said(alice)
    use(acme, NOW.replace(minute=0, second=0), 9 * MTOK)
    assert said(alice) == before
