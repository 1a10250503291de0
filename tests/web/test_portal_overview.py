"""The way in and the overview: the numbers that are there, and what to do where there are none."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from django.utils import translation

from accounts.models import Organization, User
from billing import allowance, costs
from billing.models import Invoice, Subscription
from portal import figures
from tests import build
from tests.conftest import NOW
from tests.web.portal_acme import MTOK, at_now, invoice, metered, signed_in, text_of, use

__all__ = ["at_now", "invoice", "metered"]


def test_the_overview_says_what_it_costs_and_what_was_used(
    invoice: Invoice, acme: Organization, alice: User
) -> None:
    page = text_of(signed_in(alice), "/o/acme/")
    expected = costs.so_far(acme, NOW)
    assert expected is not None
    assert expected.expected_minor is not None
    assert "Cost so far $2.50" in page
    assert figures.money_minor(expected.expected_minor, "USD", figures.Locale("en")) in page
    assert "Tokens this period 2.5M 2M of them today" in page
    assert "Period Nov 1, 2026 to Nov 30, 2026, 58% gone by" in page
    assert "Readings up to Nov 18, 2026, 11:07" in page  # Berlin is an hour ahead
    assert "gpt-5 $2.00 80%" in page
    assert "qwen-plus $0.50 20%" in page
    assert f"{invoice.number} : $1.75" in page


def test_the_chart_and_its_table_hold_the_same_whole_numbers(
    metered: Subscription, alice: User
) -> None:
    response = signed_in(alice).get("/o/acme/")
    (data,) = re.findall(
        r'<script id="overview-data" type="application/json">(.*?)</script>',
        response.content.decode(),
    )
    chart = json.loads(data)
    assert [(one["label"], sum(one["data"])) for one in chart["series"]] == [
        ("gpt-5", 2 * MTOK),
        ("qwen-plus", MTOK // 2),
    ]
    assert chart["labels"][0] == "Nov 1"
    assert chart["labels"][-1] == "Nov 18"
    assert all(type(number) is int for one in chart["series"] for number in one["data"])
    page = text_of(signed_in(alice), "/o/acme/")
    assert "Nov 17 0 500,000 500,000 Nov 18 2,000,000 0 2,000,000" in page


def test_a_quota_says_what_is_left(metered: Subscription, acme: Organization, alice: User) -> None:
    allowance.set_quota(acme, 10 * MTOK, actor=alice)
    page = text_of(signed_in(alice), "/o/acme/")
    assert "Whole organization 7.5M left" in page
    assert "2.5M of 10M tokens, 25%" in page


def test_a_quota_overrun_is_used_up_and_not_below_zero(
    metered: Subscription, acme: Organization, alice: User
) -> None:
    allowance.set_quota(acme, MTOK, actor=alice)
    assert "used up" in text_of(signed_in(alice), "/o/acme/")


def test_without_usage_the_page_says_what_to_do(acme: Organization, alice: User) -> None:
    page = text_of(signed_in(alice), "/o/acme/")
    assert "Make a key, then send a first event" in page
    assert "curl -sS http://testserver/api/v1/events" in page
    assert "This organization is on no tariff" in page


def test_the_first_event_of_the_page_is_one_the_meter_takes(
    acme: Organization, alice: User
) -> None:
    """What people copy must work: the body passes the strict reader."""
    from metering.usage.event import read

    html = signed_in(alice).get("/o/acme/").content.decode()
    (command,) = re.findall(r"-d '(.*?)'</code>", html, flags=re.DOTALL)
    body = command.replace("'$(date -u +%Y-%m-%dT%H:%M:%SZ)'", "2026-11-18T10:07:30Z")
    event = read(json.loads(body), now=NOW)
    assert event.usage == {"input": 1200, "output": 300}


def test_a_reader_gets_dates_the_way_the_browser_asks(metered: Subscription, alice: User) -> None:
    page = text_of(signed_in(alice), "/o/acme/", **{"accept-language": "en-GB"})
    assert "Period 1 Nov 2026 to 30 Nov 2026" in page
    assert "US$2.50" in page


def test_a_german_page_has_german_numbers(metered: Subscription, alice: User) -> None:
    with translation.override("de"):
        page = text_of(signed_in(alice), "/o/acme/", **{"accept-language": "de-DE"})
    assert "2,50 $" in page
    assert "500.000" in page


def test_one_organization_is_entered_at_once(acme: Organization, alice: User) -> None:
    assert signed_in(alice).get("/")["Location"] == "/o/acme/"


def test_several_organizations_are_chosen_from(acme: Organization, alice: User) -> None:
    build.make_organization(name="Acme Labs", slug="labs", owner=alice)
    build.make_organization(name="Secret", slug="secret")
    page = text_of(signed_in(alice), "/")
    assert "Acme USD Acme Labs USD" in page
    assert "Secret" not in page


def test_a_new_person_creates_an_organization_on_a_tariff(alice: User, at_now: datetime) -> None:
    client = signed_in(alice)
    assert client.get("/")["Location"] == "/new/"
    tariff = build.make_tariff(currency="CNY")
    response = client.post(
        "/new/", {"name": "Initech", "tariff": tariff.pk, "zone": "Asia/Shanghai"}, follow=True
    )
    assert "Initech is ready" in response.content.decode()
    made = Organization.objects.get(slug="initech")
    assert (made.currency, made.zone) == ("CNY", "Asia/Shanghai")
    assert made.members.get(user=alice).role == "owner"
    assert made.subscriptions.get().tariff == tariff
    assert made.subscriptions.get().starts_at == datetime(2026, 11, 18, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize("fields", [{}, {"name": "X"}, {"name": "X", "zone": "Mars/Base"}])
def test_a_half_filled_form_makes_nothing(alice: User, fields: dict[str, str]) -> None:
    build.make_tariff()
    response = signed_in(alice).post("/new/", fields)
    assert response.status_code == 422
    assert not Organization.objects.exists()
    assert 'aria-invalid="true"' in response.content.decode()


def test_without_a_tariff_there_is_nothing_to_choose(alice: User) -> None:
    assert "There is no tariff to choose yet" in text_of(signed_in(alice), "/new/")


def test_usage_before_the_period_is_not_in_its_tokens(
    metered: Subscription, acme: Organization, alice: User
) -> None:
    use(acme, datetime(2026, 10, 31, 22, 30, tzinfo=UTC), 7 * MTOK)
    assert "Tokens this period 2.5M" in text_of(signed_in(alice), "/o/acme/")
