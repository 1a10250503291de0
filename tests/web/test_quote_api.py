"""`POST /api/v1/quote` and `/simulate`: what usage would cost, for those who may see it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import InternalError, connection, transaction
from django.test import Client

from accounts.models import Organization, User
from billing.models import Tariff
from billing.read_only import read_only
from tests import build

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
REQUEST = {
    "model": "m",
    "usage": {"input": 1_000_000, "output": 500_000},
    "occurred_at": "2026-11-18T10:07:30Z",
}
DAYS = {"from": "2026-11-01", "to": "2026-12-01"}
EVENT = {**REQUEST, "id": "e1"}
CHARGED: dict[str, Any] = {
    **build.flat_document(price="0.001"),
    "allowances": [{"code": "free", "tokens": 10, "models": ["*"], "registers": ["input"]}],
    "charges": [{"code": "plan", "kind": "standing", "each": "day", "price": "1.50"}],
}


@pytest.fixture
def flat(acme: Organization) -> Tariff:
    tariff = build.make_tariff(document=build.flat_document(price="3.00"))
    build.make_subscription(organization=acme, starts_at=NOVEMBER, tariff=tariff)
    return tariff


def post(organization: Organization, name: str, body: object, scope: str = "read") -> Any:
    _, text = build.make_key(organization=organization, scopes=(scope,))
    return Client().post(
        f"/api/v1/{name}",
        body if isinstance(body, bytes) else json.dumps(body),
        content_type="application/json",
        headers={"authorization": f"Bearer {text}"},
    )


def test_a_request_costs_what_the_tariff_in_force_then_says(
    acme: Organization, flat: Tariff
) -> None:
    answer = post(acme, "quote", REQUEST).json()
    assert (answer["exact"], answer["total"]) == ("4.50", "4.50")
    assert [(one["version"], one["quantity"]) for one in answer["lines"]] == [
        ("flat@1", 1_000_000),
        ("flat@1", 500_000),
    ]
    assert answer["lines"][0]["why"][0] == (
        "1,000,000 input tokens of m at 3.00 USD per million = 3.00 USD."
    )


def test_a_request_by_itself_bears_no_charge_and_drains_no_allowance(acme: Organization) -> None:
    answer = post(acme, "quote", {**REQUEST, "tariff": CHARGED}).json()
    assert [one["component"] for one in answer["lines"]] == ["all", "all"]


def test_an_exact_total_stands_beside_the_rounded_one(acme: Organization) -> None:
    answer = post(acme, "quote", {**REQUEST, "tariff": CHARGED}).json()
    assert (answer["exact"], answer["net"]) == ("0.0015", "0.00")
    assert answer["steps"] == [
        {"number": 9, "does": "price what is left: listed price, then modifiers", "lines": 2,
         "amount": "0.0015"},
        {"number": 14, "does": "round each line once", "lines": 2, "amount": "-0.0015"},
    ]  # fmt: skip


def test_a_period_is_simulated_with_its_allowances_charges_and_tax(acme: Organization) -> None:
    usage = [{"model": "m", "register": "input", "quantity": 1_000_010}]
    body = {**DAYS, "tariff": CHARGED, "usage": usage, "tax_percent": "10"}
    answer = post(acme, "simulate", body).json()
    assert (answer["net"], answer["tax"], answer["total"]) == ("45.00", "4.50", "49.50")
    amounts = {step["number"]: step["amount"] for step in answer["steps"]}
    assert amounts == {8: "0", 9: "0.001", 11: "45.00", 14: "-0.001", 15: "4.50"}


def test_the_api_and_the_command_answer_the_same_bytes(acme: Organization, tmp_path: Path) -> None:
    events = [
        {"id": f"e{number}", "occurred_at": "2026-11-18T10:00:00Z", "model": "m",
         "usage": {"input": 1_000 + number, "reasoning": 7}}
        for number in (1, 2, 2, 3)
    ]  # fmt: skip
    (tmp_path / "tariff.json").write_text(json.dumps(CHARGED))
    (tmp_path / "E.ndjson").write_text("\n".join(json.dumps(one) for one in events))
    out = StringIO()
    call_command(
        "rate", f"--tariff={tmp_path / 'tariff.json'}", f"--events={tmp_path / 'E.ndjson'}",
        "--from=2026-11-01", "--to=2026-12-01", "--format=json", "--explain", stdout=out,
    )  # fmt: skip
    answer = post(acme, "simulate", {**DAYS, "tariff": CHARGED, "events": events})
    assert answer.content.decode() == out.getvalue()
    assert (answer.json()["events"], answer.json()["duplicates"]) == (3, 1)


def test_null_says_the_same_as_leaving_an_optional_field_out(acme: Organization) -> None:
    optional = ("occurred_at", "region", "service_class", "thinking", "attributes")
    body = {**REQUEST, "tariff": CHARGED, **dict.fromkeys(optional)}
    assert post(acme, "quote", body).json()["exact"] == "0.0015"


@pytest.mark.parametrize(
    ("name", "body", "pointer"),
    [
        ("quote", {"model": "m"}, "/usage"),
        ("quote", [], ""),
        ("quote", {**REQUEST, "usage": {"input": 1.0}}, "/usage/input"),
        ("quote", {**REQUEST, "usage": {"input": True}}, "/usage/input"),
        ("quote", {**REQUEST, "usage": None}, "/usage"),
        ("quote", {**REQUEST, "model": None}, "/model"),
        ("quote", {**REQUEST, "cost": 1}, "/cost"),
        ("quote", {**REQUEST, "id": "mine"}, "/id"),
        ("quote", {**REQUEST, "tariff": "nowhere"}, "/tariff"),
        ("quote", {**REQUEST, "tariff": 7}, "/tariff"),
        ("quote", {**REQUEST, "tariff": {"currency": "USD"}}, "/tariff/components"),
        ("quote", {**REQUEST, "occurred_at": "9999-12-31T23:59:59Z"}, "/occurred_at"),
        ("quote", {**REQUEST, "occurred_at": "2026-11-18T10:00:00"}, "/occurred_at"),
        ("simulate", {**DAYS, "tariff": CHARGED}, "/events"),
        ("simulate", {**DAYS, "tariff": CHARGED, "events": [], "usage": []}, "/events"),
        ("simulate", {**DAYS, "tariff": CHARGED, "events": [{}]}, "/events/0/id"),
        *(("simulate", {**DAYS, "tariff": CHARGED, "events": [{**EVENT, name: None}]},
           f"/events/0/{name}") for name in EVENT),
        ("simulate", {**DAYS, "to": "2027-12-01", "tariff": CHARGED}, "/to"),
        ("simulate", {**DAYS, "to": "2026-11-01", "tariff": CHARGED}, "/to"),
        ("simulate", {**DAYS, "from": "2026-11-01T00:07:00Z", "tariff": CHARGED}, "/from"),
        ("simulate", {**DAYS, "zone": "Mars/Base", "tariff": CHARGED}, "/zone"),
        ("simulate", {**DAYS, "tariff": CHARGED, "tax_percent": 6, "usage": []}, "/tax_percent"),
        (
            "simulate",
            {**DAYS, "tariff": CHARGED, "usage": [{"model": "m", "register": "input",
             "quantity": 1, "starts_at": "2026-12-01T00:00:00Z"}]},
            "/usage/0/starts_at",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_pointed_at(
    acme: Organization, name: str, body: object, pointer: str
) -> None:
    answer = post(acme, name, body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        422,
        "application/problem+json",
    )
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "malformed_json"),
        (b'{"model": NaN}', "malformed_json"),
        (b'{"model": "m", "model": "n"}', "duplicate_key"),
        (b"[" * 40 + b"]" * 40, "too_deep"),
        (b"[" * 100_000, "too_deep"),
        (b'"\xff"', "not_utf8"),
        (b" " * (5 * 1024 * 1024 + 1), "body_too_large"),
    ],
)
def test_json_that_says_two_things_is_not_guessed_at(
    acme: Organization, body: bytes, code: str
) -> None:
    assert post(acme, "quote", body).json()["code"] == code


def test_too_much_to_compare_is_refused_before_it_is_done(acme: Organization) -> None:
    document = build.flat_document()
    (part,) = document["components"]  # type: ignore[misc]
    names = [f"m{number}" for number in range(200)]
    document["components"] = [
        {**part, "code": f"c{number}", "models": names}
        for number in range(100)  # type: ignore[dict-item]
    ]
    usage = [{"model": f"u{number}", "register": "input", "quantity": 1} for number in range(1_000)]
    answer = post(acme, "simulate", {**DAYS, "tariff": document, "usage": usage})
    assert answer.status_code == 422
    assert "more than is priced in one request" in answer.json()["detail"]


def test_prices_agreed_with_one_are_not_shown_to_another(
    acme: Organization, globex: Organization, flat: Tariff
) -> None:
    body = {**REQUEST, "tariff": "flat"}
    assert post(acme, "quote", body).status_code == 200
    assert post(globex, "quote", body).json()["errors"][0]["pointer"] == "/tariff"
    Tariff.objects.update(offered=True)
    assert post(globex, "quote", body).status_code == 200


def test_a_key_needs_the_scope_read(acme: Organization) -> None:
    assert post(acme, "quote", REQUEST, scope="ingest").json()["code"] == "scope_missing"
    assert Client().post("/api/v1/quote").json()["code"] == "missing_credentials"


def test_a_member_asks_with_the_session_of_the_portal(
    acme: Organization, globex: Organization, flat: Tariff, bob: User
) -> None:
    """Bob views Acme, and Globex is none of his."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)

    def ask(slug: str, **headers: str) -> Any:
        return client.post(
            f"/api/v1/quote?organization={slug}",
            json.dumps(REQUEST),
            content_type="application/json",
            headers=headers,
        )

    assert ask("acme").status_code == 403
    client.get("/accounts/email/")
    token = {"X-CSRFToken": client.cookies["csrftoken"].value}
    assert ask("acme", **token).json()["total"] == "4.50"
    assert ask("globex", **token).status_code == 404


@pytest.mark.django_db
def test_the_database_refuses_to_write_while_prices_are_asked_for() -> None:
    with (
        pytest.raises(InternalError, match="read-only transaction"),
        transaction.atomic(),
        read_only(),
        connection.cursor() as cursor,
    ):
        cursor.execute("INSERT INTO billing_invoiceseries VALUES (DEFAULT, 'X', 2026, 0, now())")
