"""API keys at the doors of the reading API: one view of our own stands for all of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models.functions import Now
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from accounts import api_keys, organizations
from accounts.models import ApiKey, Organization
from tests import build


class Door(APIView):
    """Says whose key it is; needs the scope `read`."""

    scope = "read"

    def get(self, request: Request) -> Response:
        return Response({"organization": request.user.organization.slug})


class Unscoped(Door):
    """A view whose author forgot to name a scope."""

    scope = None


def ask(authorization: str | None, view: type[APIView] = Door):
    headers = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
    response = view.as_view()(APIRequestFactory().get("/api/v1/door", **headers))
    if hasattr(response, "render"):
        response.render()
    return response


def document(response) -> dict[str, object]:
    return json.loads(response.content)


@pytest.fixture
def key(acme: Organization) -> tuple[ApiKey, str]:
    return build.make_key(organization=acme, scopes=("read",))


def test_a_key_opens_the_door_of_its_organization(key):
    response = ask(f"Bearer {key[1]}")
    assert (response.status_code, document(response)) == (200, {"organization": "acme"})


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(key, scheme: str):
    assert ask(f"{scheme} {key[1]}").status_code == 200


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x"])
def test_a_request_without_a_key_is_told_how_to_send_one(key, sent: str | None):
    response = ask(sent)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer realm="kilotoken"'
    assert response["Content-Type"] == "application/problem+json"
    assert document(response)["code"] == "missing_credentials"


def refusal(text: str) -> dict[str, object]:
    response = ask(f"Bearer {text}")
    assert response.status_code == 401
    return {name: value for name, value in document(response).items() if name != "request_id"}


def test_revoked_expired_and_unknown_keys_are_refused_with_the_same_text(
    acme: Organization, now: datetime
):
    revoked, revoked_text = build.make_key(organization=acme)
    api_keys.revoke(api_key=revoked, actor=None, now=now)
    expired, expired_text = build.make_key(organization=acme)
    ApiKey.objects.filter(pk=expired.pk).update(
        created_at=datetime(2019, 1, 1, tzinfo=UTC), expires_at=Now() - timedelta(seconds=1)
    )
    _, live = build.make_key(organization=acme)
    wrong_secret = live[:-1] + ("a" if live[-1] != "a" else "b")
    unknown = "kt_abcdefghijkl_" + "x" * 43
    refusals = [
        refusal(text)
        for text in (revoked_text, expired_text, unknown, wrong_secret, "nonsense", live + "x")
    ]
    assert all(one == refusals[0] for one in refusals)
    assert refusals[0]["code"] == "invalid_api_key"


def test_a_key_that_expires_later_is_good_until_then_by_the_databases_clock(acme: Organization):
    api_key, text = build.make_key(organization=acme)
    ApiKey.objects.filter(pk=api_key.pk).update(expires_at=Now() + timedelta(minutes=5))
    assert ask(f"Bearer {text}").status_code == 200


@pytest.mark.parametrize("scope", ["ingest", "gateway", "manage"])
def test_a_key_without_the_scope_is_refused_by_name(acme: Organization, scope: str):
    _, text = build.make_key(organization=acme, scopes=(scope,))
    response = ask(f"Bearer {text}")
    assert response.status_code == 403
    assert "'read'" in str(document(response)["detail"])


def test_a_view_that_names_no_scope_lets_nobody_in(key):
    assert ask(f"Bearer {key[1]}", Unscoped).status_code == 403


def test_the_keys_of_a_suspended_organization_do_not_work(key, acme: Organization):
    organizations.suspend(organization=acme, reason="unpaid", actor=None)
    response = ask(f"Bearer {key[1]}")
    assert (response.status_code, document(response)["code"]) == (403, "organization_suspended")
    organizations.activate(organization=acme, reason="paid", actor=None)
    assert ask(f"Bearer {key[1]}").status_code == 200


def test_a_session_is_no_key(client, alice, acme: Organization):
    client.force_login(alice)
    request = APIRequestFactory().get("/api/v1/door")
    request.user = alice
    response = Door.as_view()(request)
    assert response.status_code == 401


def test_the_last_use_is_noted_once_a_minute(key, django_assert_num_queries):
    api_key, text = key
    ask(f"Bearer {text}")
    api_key.refresh_from_db()
    first = api_key.last_used_at
    assert first is not None
    ask(f"Bearer {text}")
    api_key.refresh_from_db()
    assert api_key.last_used_at == first
    with django_assert_num_queries(2):
        ask(f"Bearer {text}")


@pytest.mark.parametrize(
    "text", ["kt_abcdefghijkl_" + "é" * 43, "\x00", "kt_abcdefghijkl_" + "x" * 10_000, "\u2028"]
)
def test_odd_bytes_are_refused_and_never_an_error(acme: Organization, text: str):
    assert ask(f"Bearer {text}".encode().decode("latin-1")).status_code == 401


def test_no_refusal_repeats_the_key(acme: Organization):
    text = "kt_abcdefghijkl_" + "S" * 43
    assert "S" * 43 not in ask(f"Bearer {text}").content.decode()
