"""The one door: nobody signs in first, strangers find nothing, roles do what they may."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, Project, Role, User
from billing.models import Invoice, Subscription
from tests import build
from tests.web.portal_acme import at_now, invoice, metered, signed_in, text_of, words_in

__all__ = ["at_now", "invoice", "metered"]

PAGES = [
    "/o/acme/", "/o/acme/usage/", "/o/acme/usage.csv", "/o/acme/projects/", "/o/acme/keys/",
    "/o/acme/members/", "/o/acme/invoices/", "/o/acme/invoices/KT-2026-000001/",
    "/o/acme/invoices/KT-2026-000001/lines.csv", "/o/acme/invoices/KT-2026-000001/lines/1/",
    "/o/acme/tariff/", "/o/acme/tariff/cost/", "/o/acme/settings/",
]  # fmt: skip
# (address, fields, the roles that may)
CHANGES = [
    ("projects/new/", {"name": "X"}, {"owner", "admin", "developer"}),
    ("projects/default/rename/", {"name": "X"}, {"owner", "admin", "developer"}),
    ("projects/default/archive/", {}, {"owner", "admin", "developer"}),
    ("keys/new/", {"name": "X", "scopes": "read", "form_id": "1"}, {"owner", "admin", "developer"}),
    ("keys/abcdefabcdef/revoke/", {}, {"owner", "admin", "developer"}),
    ("members/invite/", {"email": "x@x.example", "role": "viewer"}, {"owner", "admin"}),
    ("members/1/role/", {"role": "viewer"}, {"owner", "admin"}),
    ("members/invitations/1/withdraw/", {}, {"owner", "admin"}),
    ("quotas/set/", {"tokens": "5"}, {"owner", "admin", "billing"}),
    ("quotas/1/remove/", {}, {"owner", "admin", "billing"}),
    ("settings/billing/", {"city": "Berlin"}, {"owner", "admin", "billing"}),
]


@pytest.mark.parametrize("path", PAGES)
def test_a_member_sees_every_page(invoice: Invoice, alice: User, bob: User, path: str) -> None:
    for user in (alice, bob):
        response = signed_in(user).get(path)
        assert response.status_code == 200
        assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", PAGES)
def test_nobody_is_asked_to_sign_in_and_comes_back(
    client: Client, invoice: Invoice, path: str
) -> None:
    response = client.get(path)
    assert response.status_code == 302
    assert response["Location"] == f"{reverse('account_login')}?next={path}"


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_finds_nothing(invoice: Invoice, charlie: User, path: str) -> None:
    assert "There is nothing at this address" in text_of(signed_in(charlie), path, status=404)


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize(("path", "fields", "allowed"), CHANGES)
def test_a_role_changes_what_it_may_and_is_told_what_it_may_not(
    acme: Organization, role: str, path: str, fields: dict[str, str], allowed: set[str]
) -> None:
    user = build.make_user(email="role@acme.example")
    build.make_member(organization=acme, user=user, role=role)
    response = signed_in(user).post(f"/o/acme/{path}", fields)
    if role in allowed:
        assert response.status_code != 403
    else:
        assert response.status_code == 403
        assert "Your role does not include this" in words_in(response.content.decode())


@pytest.mark.parametrize(("path", "fields", "allowed"), CHANGES)
def test_changes_are_posted_only(
    acme: Organization, alice: User, path: str, fields: dict[str, str], allowed: set[str]
) -> None:
    assert signed_in(alice).get(f"/o/acme/{path}", fields).status_code == 405


def test_changes_need_the_token_of_the_form(acme: Organization, alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    response = client.post("/o/acme/projects/new/", {"name": "Forged"})
    assert response.status_code == 403
    assert "Please send that again" in response.content.decode()
    assert not Project.objects.filter(name="Forged").exists()


def test_a_refusal_names_the_roles_that_may(acme: Organization, bob: User) -> None:
    page = signed_in(bob).post("/o/acme/members/invite/", {}).content.decode()
    assert "You are viewer in Acme." in words_in(page)
    assert "one must be: owner, admin." in words_in(page)


def test_a_draft_is_nobodys_business_yet(metered: Subscription, alice: User) -> None:
    Invoice.objects.create(
        organization=metered.organization,
        subscription=metered,
        period_start=metered.starts_at,
        period_end=metered.next_close_at,
        currency="USD",
        zone="UTC",
    )
    assert "draft" not in text_of(signed_in(alice), "/o/acme/invoices/")
    assert signed_in(alice).get("/o/acme/invoices/None/").status_code == 404


def test_the_number_of_another_organizations_invoice_opens_nothing(
    invoice: Invoice, globex: Organization, charlie: User
) -> None:
    for part in ("", "lines.csv", "lines/1/"):
        path = f"/o/globex/invoices/{invoice.number}/{part}"
        assert signed_in(charlie).get(path).status_code == 404


def test_rows_of_another_organization_cannot_be_changed_from_ones_own(
    acme: Organization, globex: Organization, alice: User, charlie: User
) -> None:
    key, _ = build.make_key(organization=acme)
    member = acme.members.get(user=alice)
    client = signed_in(charlie)
    for path in (
        f"keys/{key.prefix}/revoke/",
        f"members/{member.pk}/role/",
        f"members/{member.pk}/remove/",
    ):
        assert client.post(f"/o/globex/{path}", {"role": "viewer"}).status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None
    assert acme.members.filter(user=alice, role=Role.OWNER).exists()


@pytest.mark.parametrize(
    "name", ["invoices/%00/", "invoices/%00/lines.csv", "invoices/a%00/lines/1/"]
)
def test_a_name_that_no_column_can_hold_is_not_found(acme: Organization, alice: User, name: str):
    assert signed_in(alice).get(f"/o/acme/{name}").status_code == 404
