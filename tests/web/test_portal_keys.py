"""API keys on the portal: the secret is shown once, a reload makes no second key."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.contrib.sessions.models import Session
from django.http import HttpResponse

from accounts import api_keys, keys
from accounts.models import ApiKey, AuditEntry, Organization, User
from tests import build
from tests.conftest import NOW
from tests.web.portal_acme import at_now, signed_in, text_of, words_in

__all__ = ["at_now"]

FORM = {"name": "gateway eu-1", "scopes": ["ingest", "read"], "form_id": "form-1"}


def secret_in(response: HttpResponse) -> str:
    found = re.findall(r'id="secret">([^<]+)<', response.content.decode())
    return str(found[0])


def test_the_secret_is_shown_once_and_never_again(acme: Organization, alice: User) -> None:
    client = signed_in(alice)
    made = client.post("/o/acme/keys/new/", FORM)
    assert made.status_code == 200
    assert made["Cache-Control"] == "private, no-store"
    secret = secret_in(made)
    key = acme.api_keys.get()
    assert keys.prefix_of(secret) == key.prefix
    assert (key.scopes, key.project, key.expires_at) == (["ingest", "read"], None, None)
    assert key.created_by == alice
    assert secret not in client.get("/o/acme/keys/").content.decode()
    assert f"kt_{key.prefix}_…" in text_of(client, "/o/acme/keys/")
    assert not any(secret in str(session.get_decoded()) for session in Session.objects.all())
    assert secret not in str(list(AuditEntry.objects.values()))


def test_the_same_form_sent_twice_makes_one_key(acme: Organization, alice: User) -> None:
    client = signed_in(alice)
    client.post("/o/acme/keys/new/", FORM)
    again = client.post("/o/acme/keys/new/", FORM, follow=True)
    assert "That key was made already" in words_in(again.content.decode())
    assert acme.api_keys.count() == 1


def test_each_form_has_an_id_of_its_own(acme: Organization, alice: User) -> None:
    client = signed_in(alice)
    pages = [client.get("/o/acme/keys/").content.decode() for _ in range(2)]
    ids = {re.findall(r'name="form_id" value="([^"]+)"', page)[0] for page in pages}
    assert len(ids) == 2


def test_a_key_can_belong_to_a_project_and_expire(
    acme: Organization, alice: User, at_now: datetime
) -> None:
    build.make_project(organization=acme, slug="batch")
    fields = {**FORM, "project": "batch", "lifetime": "30"}
    # The database's clock decides whether an expiry lies ahead, so this one lies far ahead of NOW.
    signed_in(alice).post("/o/acme/keys/new/", {**fields, "lifetime": "365"})
    key = acme.api_keys.get()
    assert key.project is not None
    assert key.project.slug == "batch"
    assert key.expires_at == NOW + timedelta(days=365)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": ""}, "This field is required."),
        ({"scopes": []}, "This field is required."),
        ({"scopes": ["root"]}, "Select a valid choice."),
        ({"project": "globex-only"}, "Select a valid choice."),
        ({"lifetime": "-1"}, "Select a valid choice."),
        ({"name": f"kt_{'a' * 12}_{'B' * 43}"}, "This holds an API key."),
    ],
)
def test_a_wrong_form_comes_back_with_what_is_wrong(
    acme: Organization,
    globex: Organization,
    alice: User,
    change: dict[str, object],
    complaint: str,
) -> None:
    build.make_project(organization=globex, slug="globex-only")
    response = signed_in(alice).post("/o/acme/keys/new/", {**FORM, **change})
    assert response.status_code == 422
    assert complaint in words_in(response.content.decode())
    assert not ApiKey.objects.exists()


def test_a_key_is_revoked_and_says_so(acme: Organization, alice: User) -> None:
    key, _ = build.make_key(organization=acme)
    client = signed_in(alice)
    page = client.post(f"/o/acme/keys/{key.prefix}/revoke/", follow=True).content.decode()
    assert "test is revoked and refused from now on." in words_in(page)
    key.refresh_from_db()
    assert key.revoked_at is not None
    again = client.post(f"/o/acme/keys/{key.prefix}/revoke/", follow=True).content.decode()
    assert "was revoked already" in words_in(again)


def test_the_list_says_who_made_a_key_when_it_was_used_and_whether_it_works(
    acme: Organization, alice: User, bob: User
) -> None:
    live, _ = api_keys.issue(organization=acme, name="live one", scopes=["read"], actor=alice)
    gone, _ = api_keys.issue(organization=acme, name="gone one", scopes=["ingest"], actor=alice)
    api_keys.revoke(api_key=gone, actor=alice, now=NOW)
    acme.api_keys.filter(pk=live.pk).update(last_used_at=NOW)
    page = text_of(signed_in(bob), "/o/acme/keys/")
    assert "by alice@acme.example" in page
    assert "Nov 18, 2026, 10:07" in page
    assert page.index("live one") < page.index("gone one")
    assert "revoked" in page
    assert "New key" not in page  # a viewer makes none


def test_without_keys_the_page_says_how_to_begin(acme: Organization, alice: User) -> None:
    page = text_of(signed_in(alice), "/o/acme/keys/")
    assert "No keys yet" in page
    assert "$KILOTOKEN_KEY" in page
