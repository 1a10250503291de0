"""Members, invitations, projects, quotas and settings: changed by pages, kept by the steps."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from django.test import Client

from accounts import memberships
from accounts.models import Invitation, Organization, Project, Role, User
from billing import allowance
from tests import build
from tests.conftest import NOW
from tests.web.portal_acme import at_now, signed_in, text_of, words_in

__all__ = ["at_now"]


def posted(user: User, path: str, fields: dict[str, object] | None = None) -> str:
    """What the reader sees after a change and its redirect."""
    response = signed_in(user).post(f"/o/acme/{path}", fields or {}, follow=True)
    return words_in(response.content.decode())


@pytest.fixture
def dora(db: None) -> User:
    return build.make_user(email="dora@acme.example")


def test_an_invitation_leads_to_membership(
    acme: Organization, alice: User, dora: User, at_now: datetime
) -> None:
    sent = signed_in(alice).post(
        "/o/acme/members/invite/", {"email": "dora@acme.example", "role": "developer"}
    )
    (address,) = re.findall(r'id="secret">([^<]+)<', sent.content.decode())
    path = "/invitations/" + address.split("/invitations/")[1]
    assert "dora@acme.example Developer alice@acme.example" in text_of(
        signed_in(alice), "/o/acme/members/"
    )
    assert "alice@acme.example invites dora@acme.example to Acme as developer." in text_of(
        Client(), path
    )
    client = signed_in(dora)
    assert client.post(path)["Location"] == "/o/acme/"
    assert acme.members.get(user=dora).role == Role.DEVELOPER
    assert "no longer valid" in text_of(client, path, status=404)


def test_an_invitation_is_for_the_address_it_names(
    acme: Organization, alice: User, charlie: User, at_now: datetime
) -> None:
    _, secret = memberships.invite(
        organization=acme, email="dora@acme.example", role="viewer", invited_by=alice, now=NOW
    )
    response = signed_in(charlie).post(f"/invitations/{secret}/")
    assert response.status_code == 422
    assert "sent to another e-mail address" in words_in(response.content.decode())
    assert not acme.members.filter(user=charlie).exists()


def test_an_invitation_taken_back_opens_nothing(
    acme: Organization, alice: User, dora: User, at_now: datetime
) -> None:
    invitation, secret = memberships.invite(
        organization=acme, email=dora.email, role="viewer", invited_by=alice, now=NOW
    )
    page = posted(alice, f"members/invitations/{invitation.pk}/withdraw/")
    assert "no longer works" in page
    assert signed_in(dora).post(f"/invitations/{secret}/").status_code == 404


def test_who_is_asked_is_shown_to_those_who_ask_only(
    acme: Organization, alice: User, bob: User, at_now: datetime
) -> None:
    memberships.invite(
        organization=acme, email="dora@acme.example", role="viewer", invited_by=alice, now=NOW
    )
    assert "dora@acme.example" not in text_of(signed_in(bob), "/o/acme/members/")


def test_a_role_is_changed_and_a_member_removed(acme: Organization, alice: User, bob: User) -> None:
    member = acme.members.get(user=bob)
    assert "is now Billing." in posted(alice, f"members/{member.pk}/role/", {"role": "billing"})
    member.refresh_from_db()
    assert member.role == Role.BILLING
    assert "is no longer a member." in posted(alice, f"members/{member.pk}/remove/")
    assert not acme.members.filter(user=bob).exists()


def test_the_last_owner_stays(acme: Organization, alice: User) -> None:
    member = acme.members.get(user=alice)
    assert "keeps at least one owner" in posted(alice, f"members/{member.pk}/remove/")
    assert "keeps at least one owner" in posted(
        alice, f"members/{member.pk}/role/", {"role": "viewer"}
    )


def test_anybody_may_leave_and_nobody_may_remove_above_himself(
    acme: Organization, alice: User, bob: User
) -> None:
    owner, viewer = acme.members.get(user=alice), acme.members.get(user=bob)
    assert "Not removed." in posted(bob, f"members/{owner.pk}/remove/")
    response = signed_in(bob).post(f"/o/acme/members/{viewer.pk}/remove/")
    assert response["Location"] == "/"
    assert not acme.members.filter(user=bob).exists()


def test_a_project_is_made_renamed_and_archived(acme: Organization, alice: User) -> None:
    assert "its slug is night-batch" in posted(alice, "projects/new/", {"name": "Night batch"})
    assert "is now called Batch" in posted(alice, "projects/night-batch/rename/", {"name": "Batch"})
    assert "Batch is archived" in posted(alice, "projects/night-batch/archive/")
    project = Project.objects.get(slug="night-batch")
    assert (project.name, bool(project.archived_at)) == ("Batch", True)


def test_a_project_with_live_keys_and_the_default_one_stay(acme: Organization, alice: User) -> None:
    batch = build.make_project(organization=acme, slug="batch")
    key, _ = build.make_key(organization=acme)
    key.project = batch
    key.save(update_fields=["project"])
    assert "Not archived. Revoke its 1 API key(s) first" in posted(alice, "projects/batch/archive/")
    assert "Not archived." in posted(alice, "projects/default/archive/")
    assert "Not renamed." in posted(alice, "projects/batch/rename/", {"name": " "})


@pytest.mark.parametrize(
    ("written", "tokens"),
    [("5000000", 5_000_000), ("5 000 000", 5_000_000), ("5,000,000", 5_000_000)],
)
def test_a_quota_is_set_however_its_digits_are_grouped(
    acme: Organization, alice: User, written: str, tokens: int
) -> None:
    assert "is set" in posted(alice, "quotas/set/", {"tokens": written})
    assert acme.quotas.get().tokens_per_month == tokens
    quota = acme.quotas.get()
    assert "is removed" in posted(alice, f"quotas/{quota.pk}/remove/")
    assert not acme.quotas.exists()


@pytest.mark.parametrize("written", ["0", "-5", "1.5", "lots", "", "9" * 30, "٣"])
def test_a_quota_is_a_whole_number_above_zero(
    acme: Organization, alice: User, written: str
) -> None:
    response = signed_in(alice).post("/o/acme/quotas/set/", {"tokens": written})
    assert response.status_code == 422
    assert not acme.quotas.exists()


def test_a_projects_quota_stands_beside_the_organizations(acme: Organization, alice: User) -> None:
    build.make_project(organization=acme, slug="batch")
    allowance.set_quota(acme, 7, actor=alice)
    posted(alice, "quotas/set/", {"tokens": "9", "project": "batch"})
    page = text_of(signed_in(alice), "/o/acme/settings/")
    assert "Whole organization 7 left" in page
    assert "Batch 9 left" in page


BILLING = {
    "billing_name": "Acme GmbH", "tax_id": "DE811234567", "billing_email": "pay@acme.example",
    "address_line1": "Lindenstr. 1", "address_line2": "", "postal_code": "10969",
    "city": "Berlin", "country": "DE",
}  # fmt: skip


def test_billing_details_are_saved_and_written_to_the_log(acme: Organization, alice: User) -> None:
    page = posted(alice, "settings/billing/", BILLING)
    assert "Saved. Invoices already issued keep what they say." in page
    acme.refresh_from_db()
    assert {name: getattr(acme, name) for name in BILLING} == BILLING
    assert "organization.billing_details_changed" in page
    assert "alice@acme.example" in page


@pytest.mark.parametrize("change", [{"billing_email": "nobody"}, {"country": "XX"}])
def test_wrong_billing_details_change_nothing(
    acme: Organization, alice: User, change: dict[str, str]
) -> None:
    response = signed_in(alice).post("/o/acme/settings/billing/", {**BILLING, **change})
    assert response.status_code == 422
    acme.refresh_from_db()
    assert acme.city == ""


def test_the_log_is_for_those_who_may(acme: Organization, alice: User, bob: User) -> None:
    posted(alice, "projects/new/", {"name": "Night batch"})
    assert "project.created" in text_of(signed_in(alice), "/o/acme/settings/")
    page = text_of(signed_in(bob), "/o/acme/settings/")
    assert "project.created" not in page
    assert "Who did what" not in page
    assert "Set quota" not in page


def test_an_unknown_invitation_says_nothing(db: None) -> None:
    assert not Invitation.objects.exists()
    assert "no longer valid" in text_of(Client(), f"/invitations/{'x' * 43}/", status=404)
