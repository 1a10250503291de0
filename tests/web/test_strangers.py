"""Every address, walked as nobody, as a member of another organization, and with a foreign key.

The list of addresses is the URL configuration itself: a new page is walked before it is written.
What a stranger may get is refusal (404), a sign-in page, or a page that is the same for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts.models import Organization, User
from tests import build

CANARY = "canary-of-acme"
# Pages that are the same for everybody, by the start of their path.
PUBLIC = (
    "accounts/", "errors/", "healthz", "readyz", "api/v1/openapi.json", "invitations/",
)  # fmt: skip
CAST = {
    "slug": "acme", "number": "KT-2026-000001", "position": "1", "code": "not_found",
    "secret": "x" * 43, "pk": "1", "id": "1", "key": "x", "uidb36": "1", "object_id": "1",
    "app_label": "billing", "content_type_id": "1", "url": "x", "path": "x",
    "prefix": "abcdefabcdef",    "project": CANARY, "project_slug": CANARY,
}  # fmt: skip


def _paths(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern).removeprefix("^").removesuffix("$").removesuffix(
            "\\Z"
        )
        if isinstance(pattern, URLResolver):
            yield from _paths(pattern.url_patterns, route)
        else:
            yield route


def _fill(route: str) -> str:
    """A route with the cast's values where it takes parameters."""
    route = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: CAST.get(found[1], "1"), route)
    route = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda found: CAST.get(found[1], "1"), route)
    return "/" + route.replace("\\", "").replace("^", "").replace("$", "").lstrip("/")


ADDRESSES = sorted({_fill(route) for route in _paths(get_resolver().url_patterns)})
PRIVATE = [path for path in ADDRESSES if not path.removeprefix("/").startswith(PUBLIC)]


@pytest.fixture
def acme_with_data(acme: Organization) -> Organization:
    """Acme, with a canary in every place that a page could show."""
    acme.billing_name = acme.tax_id = CANARY
    acme.save(update_fields=["billing_name", "tax_id"])
    build.make_project(organization=acme, slug=CANARY)
    build.make_key(organization=acme)
    return acme


def test_the_walk_sees_every_room() -> None:
    """If the walk were empty the tests below could not fail."""
    assert any(path.startswith("/o/acme/invoices/") for path in PRIVATE)
    assert any(path.startswith("/console/") for path in PRIVATE)
    assert any(path.startswith("/api/v1/usage") for path in PRIVATE)
    assert len(PRIVATE) > 40


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", PRIVATE)
def test_nobody_gets_sign_in_or_refusal(
    client: Client, acme_with_data: Organization, path: str, method: str
) -> None:
    response = getattr(client, method)(path)
    assert response.status_code in {301, 302, 401, 403, 404, 405}, response.status_code
    if response.status_code in {301, 302}:
        target = response["Location"]
        same = target.rstrip("/") == path.rstrip("/")
        # Signing out leads to the console's front door, which is walked here by itself.
        assert "login" in target or same or target == "/console/", target
    assert CANARY not in response.content.decode(errors="replace").replace(path, "")


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", [path for path in PRIVATE if path.startswith("/o/")])
def test_a_stranger_gets_nothing_at_all(
    client: Client,
    acme_with_data: Organization,
    globex: Organization,
    charlie: User,
    path: str,
    method: str,
) -> None:
    client.force_login(charlie)
    response = getattr(client, method)(path)
    assert response.status_code in {404, 405}, response.status_code
    assert CANARY not in response.content.decode(errors="replace").replace(path, "")


@pytest.mark.parametrize("path", [path for path in PRIVATE if path.startswith("/console/")])
def test_a_customer_never_enters_the_console(
    client: Client, acme_with_data: Organization, alice: User, path: str
) -> None:
    client.force_login(alice)
    response = client.get(path)
    assert response.status_code in {301, 302, 403, 404, 405}, response.status_code
    assert CANARY not in response.content.decode(errors="replace")


def test_a_foreign_key_reads_its_own_organization_only(
    client: Client, acme_with_data: Organization, globex: Organization
) -> None:
    _, text = build.make_key(organization=globex, scopes=("read",))
    query = f"?start=2026-11-01&end=2026-11-19&project={CANARY}"
    response = client.get(f"/api/v1/usage{query}", headers={"authorization": f"Bearer {text}"})
    assert response.status_code in {200, 400, 404}
    assert (
        CANARY
        not in response.content.decode().replace(query, "").replace(f'"project": "{CANARY}"', "")
        or response.status_code == 400
    )
