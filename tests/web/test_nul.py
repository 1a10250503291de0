"""An address with a NUL is answered, never failed on: PostgreSQL takes no text that holds one."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.models import Organization, User
from tests import build

PAGES = (
    "/console/accounts/auditentry/?action=%00",
    "/console/accounts/organization/?q=%00",
    "/console/events/?organization=acme&event_id=%00",
    "/console/events/%00/1/1/",
    "/o/acme/usage/?model=%00",
    "/o/acme/rejections/?code=%00",
    "/o/%00/usage/",
    "/errors/%00",
)


@pytest.fixture
def operator(client: Client, db: None) -> Client:
    root = build.make_user(email="root@cloud.example")
    root.is_staff = root.is_superuser = True
    root.save(update_fields=["is_staff", "is_superuser"])
    client.force_login(root)
    return client


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_at_an_address_with_a_nul(
    operator: Client, acme: Organization, page: str
) -> None:
    assert operator.get(page).status_code == 404


def test_what_only_looks_like_one_is_no_nul(
    client: Client, acme: Organization, alice: User
) -> None:
    client.force_login(alice)
    assert client.get("/o/acme/usage/?model=%2500").status_code == 200


def test_the_api_says_so_in_a_problem_document(client: Client, acme: Organization) -> None:
    _, key = build.make_key(organization=acme)
    for path in ("usage?zone=%00", "ingest/rejections?code=%00", "ingest/backfills?%00=1"):
        reply = client.get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {key}"})
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_parameter")
