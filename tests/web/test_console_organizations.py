"""Organizations, their keys and quotas, and people, in the console."""

from __future__ import annotations

from django.test import Client

from accounts.models import ApiKey, AuditEntry, Organization, User
from billing.models import Quota
from tests import build
from tests.web.console_cloud import (
    _at_the_moment,
    clerk,
    cloud,
    errors,
    managed,
    operator,
    root,
    url,
)

__all__ = ["_at_the_moment", "clerk", "cloud", "operator", "root"]


def test_an_organization_is_made_with_its_owner(operator: Client, alice: User):
    values = {"name": "深度求索", "currency": "CNY", "zone": "Asia/Shanghai"}
    response = operator.post(url(Organization, "add"), {**values, "owner_email": alice.email})
    assert response.status_code == 302, errors(response)
    made = Organization.objects.get(name="深度求索")
    assert (made.currency, made.zone) == ("CNY", "Asia/Shanghai")
    assert made.members.get().user == alice
    assert AuditEntry.objects.filter(action="organization.created").count() == 1


def test_a_refused_organization_says_why_at_the_field(operator: Client):
    values = {"name": "Acme", "currency": "USD", "zone": "UTC", "owner_email": "no@one.example"}
    response = operator.post(url(Organization, "add"), values)
    assert "Nobody has an account with this address" in errors(response)
    assert not Organization.objects.exists()


def test_billing_details_are_changed_with_an_audit_row(
    operator: Client, acme: Organization, root: User
):
    values = {"name": "Acme Ltd", "country": "de", "city": "Köln"}
    inlines = managed("subscriptions", "members", "projects", "api_keys")
    assert operator.post(url(Organization, "change", acme.pk), values).status_code == 200
    assert not AuditEntry.objects.exists()
    response = operator.post(url(Organization, "change", acme.pk), values | inlines)
    assert response.status_code == 302, errors(response)
    acme.refresh_from_db()
    assert (acme.name, acme.country, acme.city) == ("Acme Ltd", "DE", "Köln")
    assert set(AuditEntry.objects.values_list("action", "actor")) == {
        ("organization.renamed", root.pk),
        ("organization.billing_details_changed", root.pk),
    }


def test_a_suspension_asks_first_and_goes_on_record(
    operator: Client, acme: Organization, root: User
):
    page = url(Organization, "changelist") + f"{acme.pk}/suspend/"
    assert operator.get(page).status_code == 200
    assert operator.post(page, {"reason": " "}).status_code == 422
    acme.refresh_from_db()
    assert acme.state == "active"
    assert operator.post(page, {"reason": "unpaid"}).status_code == 302
    acme.refresh_from_db()
    assert acme.state == "suspended"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.detail) == (
        "organization.suspended",
        root,
        {"reason": "unpaid"},
    )
    assert operator.post(page, {"reason": "again"}).status_code == 403
    back = url(Organization, "changelist") + f"{acme.pk}/activate/"
    assert operator.post(back, {"reason": "paid"}).status_code == 302


def test_a_key_is_revoked(operator: Client, acme: Organization):
    api_key, _ = build.make_key(organization=acme)
    operator.post(url(ApiKey, "changelist") + f"{api_key.pk}/revoke/")
    api_key.refresh_from_db()
    assert api_key.revoked_at
    assert AuditEntry.objects.get().action == "api_key.revoked"


def test_staff_set_any_limit_of_a_key(operator: Client, root: User, acme: Organization):
    api_key, _ = build.make_key(organization=acme)
    page = url(ApiKey, "change", api_key.pk)
    said = operator.post(page, {"events_per_s_cap": "0", "bytes_per_s_cap": ""}, follow=True)
    assert "Write a number from 1 to 1,000,000" in said.content.decode()
    operator.post(page, {"events_per_s_cap": "50000", "bytes_per_s_cap": ""})
    api_key.refresh_from_db()
    assert (api_key.events_per_s_max, api_key.bytes_per_s_max) == (50_000, None)
    assert (api_key.events_per_s_cap, api_key.bytes_per_s_cap) == (50_000, None)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == ("api_key.capped", root)


def test_a_quota_is_set_changed_and_removed(operator: Client, acme: Organization):
    values = {"organization": acme.pk, "project_slug": "", "tokens_per_month": 5_000}
    response = operator.post(url(Quota, "add"), values)
    assert response.status_code == 302, errors(response)
    wrong = operator.post(url(Quota, "add"), values | {"project_slug": "unknown"})
    assert "has no project unknown" in errors(wrong)
    quota = Quota.objects.get()
    assert "above zero" in errors(
        operator.post(url(Quota, "change", quota.pk), {"tokens_per_month": 0})
    )
    operator.post(url(Quota, "change", quota.pk), {"tokens_per_month": 9_000} | managed("alerts"))
    assert Quota.objects.get().tokens_per_month == 9_000
    operator.post(url(Quota, "changelist") + f"{quota.pk}/remove/")
    assert not Quota.objects.exists()
    assert AuditEntry.objects.count() == 3


def test_nobody_takes_his_own_rights_away(operator: Client, root: User, clerk: User):
    values = {"first_name": "", "last_name": ""}
    response = operator.post(url(User, "change", root.pk), values)
    assert "Nobody changes his own rights" in errors(response)
    operator.post(
        url(User, "change", clerk.pk),
        {**values, "is_active": "on"} | managed("memberships", "emailaddress_set"),
    )
    clerk.refresh_from_db()
    assert (clerk.is_active, clerk.is_staff) == (True, False)
    assert AuditEntry.objects.get().detail == {"is_staff": {"before": True, "after": False}}
