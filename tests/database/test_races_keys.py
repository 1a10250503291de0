"""One form of a key sent many times at once: real connections, real commits."""

from __future__ import annotations

from collections import Counter

import pytest
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey, AuditEntry
from tests import build
from tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)

FORM = {"name": "gateway eu-1", "scopes": ["ingest"], "form_id": "form-1"}


def test_one_form_sent_six_times_at_once_makes_one_key() -> None:
    """Each request reads the session before any other has written it: only the database knows."""
    alice = build.make_user(email="alice@acme.example")
    build.make_organization(name="Acme", slug="acme", owner=alice)
    first = Client()
    first.force_login(alice)

    def send() -> int:
        client = Client()
        client.cookies = first.cookies
        return client.post("/o/acme/keys/new/", FORM).status_code

    assert Counter(at_once(*[send] * 6)) == {200: 1, 302: 5}
    assert ApiKey.objects.count() == 1
    assert AuditEntry.objects.filter(action="api_key.issued").count() == 1


def test_a_request_belongs_to_its_organization() -> None:
    for slug in ("acme", "globex"):
        organization = build.make_organization(name=slug.title(), slug=slug)
        api_keys.issue(organization=organization, name="k", scopes=["read"], request_id="form-1")
    assert ApiKey.objects.count() == 2
