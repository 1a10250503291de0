"""Bodies at the doors of Django REST framework: bounded, strict, and refused with a reason."""

from __future__ import annotations

import pytest
from django.test import Client

from accounts.api_body import BODY_BYTES_MAX
from accounts.models import Organization
from tests import build

pytestmark = pytest.mark.django_db

PATHS = ("ingest/backfills", "ingest/rejections/replay", "quote", "simulate")
SPAN = '"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00Z"'
FAULTS = {
    "nested without end": (b"[" * 100_000, 400, {"malformed_json", "too_deep"}),
    "nested too deep": (b"[" * 40 + b"]" * 40, 400, {"too_deep"}),
    "a key twice": (b'{"reason": "a", "reason": "b"}', 400, {"duplicate_key"}),
    "no number": (b'{"reason": NaN}', 400, {"malformed_json"}),
    "no UTF-8": (b'{"reason": "\xff"}', 400, {"not_utf8"}),
    "too large": (b" " * (BODY_BYTES_MAX + 1), 413, {"body_too_large"}),
    "cut off": (b'{"reason"', 400, {"malformed_json"}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_cannot_be_believed_is_refused(
    acme: Organization, path: str, fault: str
) -> None:
    body, status, codes = FAULTS[fault]
    _, text = build.make_key(organization=acme, scopes=("ingest", "read", "manage"))
    answer = Client().post(
        f"/api/v1/{path}", body, content_type="application/json",
        headers={"authorization": f"Bearer {text}"},
    )  # fmt: skip
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] in codes


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("ingest/backfills", f'{{"reason": 1.5, {SPAN}}}'),
        ("ingest/rejections/replay", '{"code": 1e3}'),
        ("ingest/rejections/replay", '{"ids": [1.0]}'),
    ],
)
def test_a_number_is_never_taken_for_a_text(acme: Organization, path: str, body: str) -> None:
    _, text = build.make_key(organization=acme, scopes=("ingest", "manage"))
    answer = Client().post(
        f"/api/v1/{path}", body, content_type="application/json",
        headers={"authorization": f"Bearer {text}"},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
