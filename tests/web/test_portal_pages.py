"""What holds for every page: nothing inline, few queries, and error pages for every code."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from accounts import api_keys, memberships
from accounts.models import Organization, Role, User
from accounts.problems import KINDS
from billing import invoicing
from billing.models import Invoice, Subscription
from tests import build
from tests.conftest import NOW
from tests.web.portal_acme import (
    MTOK,
    at_now,
    invoice,
    metered,
    signed_in,
    text_of,
    use,
    words_in,
)

__all__ = ["at_now", "invoice", "metered"]

PAGES = [
    "/", "/new/", "/errors/", "/errors/rate_limited/", "/o/acme/", "/o/acme/usage/",
    "/o/acme/usage/?by=project&then=register&step=hour", "/o/acme/usage/?step=nonsense",
    "/o/acme/projects/", "/o/acme/keys/", "/o/acme/members/", "/o/acme/invoices/",
    "/o/acme/invoices/KT-2026-000001/", "/o/acme/invoices/KT-2026-000001/lines/1/",
    "/o/acme/tariff/?model=gpt-5&input=5", "/o/acme/settings/", "/o/nowhere/", "/invitations/x/",
]  # fmt: skip
QUERIES_MAX = 30


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_inline_and_every_field_has_a_name(
    invoice: Invoice, acme: Organization, alice: User, path: str
) -> None:
    build.make_organization(name="Second", slug="second", owner=alice)
    html = signed_in(alice).get(path).content.decode()
    for tag in re.findall(r"<script\b[^>]*>", html):
        assert " src=" in tag or 'type="application/json"' in tag, tag
    assert not re.findall(r"<style\b", html)
    assert not re.findall(r"<[^>]+\sstyle=", html)
    assert not re.findall(r"<[^>]+\son[a-z]+=", html)
    assert "javascript:" not in html
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//", html) == []
    assert html.count("<h1") == 1
    assert '<html lang="en">' in html
    labelled = set(re.findall(r'<label[^>]*\sfor="([^"]+)"', html))
    for field in re.findall(r"<(?:input|select|textarea)\b[^>]*>", html):
        kind = re.findall(r'type="([^"]+)"', field)
        if kind and kind[0] in ("hidden", "checkbox"):
            continue
        (name,) = re.findall(r'\sid="([^"]+)"', field)
        assert name in labelled, field
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", PAGES)
def test_the_policy_of_the_portal_is_strict(invoice: Invoice, alice: User, path: str) -> None:
    policy = signed_in(alice).get(path)["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy


@pytest.mark.parametrize("path", [path for path in PAGES if path.startswith("/o/acme/")])
def test_a_page_asks_few_questions_however_many_rows_there_are(
    invoice: Invoice,
    metered: Subscription,
    acme: Organization,
    alice: User,
    path: str,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    client = signed_in(alice)
    client.get(path)
    with django_assert_max_num_queries(QUERIES_MAX) as before:
        client.get(path)
    _grow(metered, acme, alice)
    with django_assert_max_num_queries(len(before)):
        client.get(path)


def _grow(metered: Subscription, acme: Organization, alice: User) -> None:
    for number in range(5):
        user = build.make_user(email=f"more{number}@acme.example")
        build.make_member(organization=acme, user=user, role=Role.VIEWER)
        memberships.invite(
            organization=acme, email=f"asked{number}@x.example", role="viewer",
            invited_by=alice, now=NOW,
        )  # fmt: skip
        project = build.make_project(organization=acme, slug=f"more{number}")
        api_keys.issue(organization=acme, name="more", scopes=["read"], project=project, actor=user)
        moment = datetime(2026, 11, 17, 9, tzinfo=UTC) + number * timedelta(hours=1)
        use(acme, moment, MTOK, model=f"model-{number}")
        build.make_organization(name=f"More {number}", slug=f"more{number}", owner=alice)
    invoicing.close_period(metered.pk, datetime(2027, 2, 2, tzinfo=UTC))


@pytest.mark.parametrize("code", KINDS)
def test_every_refusal_of_the_api_has_a_page(client: Client, code: str) -> None:
    kind = KINDS[code]
    page = text_of(client, f"/errors/{code}/")
    assert words_in(kind.title) in page
    assert f"HTTP {kind.status}" in page


def test_all_refusals_are_listed_and_an_unknown_one_is_not_found(client: Client) -> None:
    page = text_of(client, "/errors/")
    assert all(code in page for code in KINDS)
    assert client.get("/errors/no_such_code/").status_code == 404


def test_suspended_organizations_are_told_so(acme: Organization, alice: User) -> None:
    acme.state = Organization.State.SUSPENDED
    acme.save(update_fields=["state"])
    assert "This organization is suspended" in text_of(signed_in(alice), "/o/acme/")
