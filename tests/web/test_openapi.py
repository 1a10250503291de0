"""The description of the API: it tells of everything, and what it tells is so."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from jsonschema import Draft202012Validator

from accounts.models import ApiKey, Organization
from accounts.problems import KINDS
from metering.ingest.door import PATHS
from tests import build
from tests.database.test_rollup import empty_meter
from tests.meter import Door, door, key, no_bell

__all__ = ["door", "empty_meter", "key", "no_bell"]

METHODS = ("get", "post", "put", "patch", "delete")


class Operation(NamedTuple):
    """One method of one path."""

    path: str
    method: str
    said: dict[str, Any]

    @property
    def scopes(self) -> list[str]:
        """The scopes of which the description says that a key needs them."""
        return [role for one in self.said["security"] for role in one.get("apiKey", ())]


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    said: dict[str, Any] = Client().get("/api/v1/openapi.json").json()
    return said


def operations(description: dict[str, Any]) -> Iterator[Operation]:
    for path, item in description["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(path, method, item[method])


def signed(description: dict[str, Any]) -> Iterator[Operation]:
    return (one for one in operations(description) if {} not in one.said["security"])


def send(
    one: Operation, key: str | None, *, body: bytes = b"{}", media_type: str = "application/json"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer, from whichever door the path belongs to."""
    path = re.sub(r"\{\w+\}", "1", one.path)
    headers = {} if key is None else {"HTTP_AUTHORIZATION": f"Bearer {key}"}
    if path in PATHS:
        reply = Door("").call({
            "REQUEST_METHOD": one.method.upper(), "PATH_INFO": path, "QUERY_STRING": "",
            "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": media_type,
            "wsgi.input": io.BytesIO(body), **headers,
        })  # fmt: skip
        return reply.status, reply.headers, reply.body
    data = {} if one.method == "get" else {"data": body, "content_type": media_type}
    answer = Client(raise_request_exception=False).generic(
        one.method.upper(), path, **data, **headers
    )
    return answer.status_code, dict(answer.headers), answer.content


def conforms(
    description: dict[str, Any], one: Operation, status: int, headers: dict[str, str], body: bytes
) -> None:
    """The answer is one of those that the description tells of."""
    told = one.said["responses"]
    assert str(status) in told, f"{one.method} {one.path} answered {status}: {body[:300]!r}"
    told = told[str(status)]
    for name, header in told["headers"].items():
        assert not header.get("required") or name in headers, f"{name} is missing"
    media_type = headers["Content-Type"]
    schema = told["content"][media_type]["schema"]
    if media_type.endswith("json"):
        validator(description, schema).validate(json.loads(body))


def validator(description: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": description["components"]})


def test_it_is_made_without_a_warning() -> None:
    call_command("spectacular", "--fail-on-warn", "--validate", stdout=io.StringIO())


def test_it_is_json_that_a_browser_shows(client: Client) -> None:
    answer = client.get("/api/v1/openapi.json", headers={"accept": "text/html"})
    assert (answer.status_code, answer.json()["openapi"]) == (200, "3.1.0")


def test_every_address_of_the_api_is_described(description: dict[str, Any]) -> None:
    routed = {f"/{path}" for path in _routes(get_resolver().url_patterns)
              if path.startswith("api/") or path in ("healthz", "readyz")}  # fmt: skip
    described = {re.sub(r"\{\w+\}", "{}", path) for path in description["paths"]}
    assert described == (routed | PATHS) - {"/api/v1/openapi.json"}


def _routes(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield re.sub(r"<[^>]+>", "{}", route)


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    found = set(re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(description)))
    assert "components/schemas/Problem" in found
    for reference in found:
        place: Any = description
        for step in reference.split("/"):
            assert step in place, reference
            place = place[step]


def test_every_schema_is_one(description: dict[str, Any]) -> None:
    for schema in description["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_code_is_told_of_somewhere(description: dict[str, Any]) -> None:
    """But for that of a wrong method, which no operation can answer."""
    answers = json.dumps([one.said["responses"] for one in operations(description)])
    of_events = description["components"]["schemas"]["EventAnswer"]["properties"]["code"]["enum"]
    told = {*of_events, *re.findall(r"`(\w+)`", answers)}
    assert KINDS.keys() - told == {"method_not_allowed"}


def test_the_documents_of_problems_are_as_their_schema_has_it(description: dict[str, Any]) -> None:
    problem = validator(description, {"$ref": "#/components/schemas/Problem"})
    examples = description["components"]["examples"]
    assert len(examples) > 20
    for example in examples.values():
        problem.validate(example["value"])


@pytest.mark.django_db
def test_without_a_key_every_operation_refuses_as_described(
    description: dict[str, Any], empty_meter: None
) -> None:
    for one in signed(description):
        status, headers, body = send(one, None)
        assert status == 401, one
        conforms(description, one, status, headers, body)


@pytest.mark.django_db
def test_a_key_without_the_scope_is_refused_by_the_name_of_the_scope_described(
    description: dict[str, Any], acme: Organization, empty_meter: None
) -> None:
    others = {"ingest": "read", "read": "ingest", "manage": "read"}
    for one in signed(description):
        (scope,) = one.scopes
        _, text = build.make_key(organization=acme, scopes=(others[scope],))
        status, headers, body = send(one, text)
        assert status == 403, one
        assert f"scope '{scope}'".encode() in body
        conforms(description, one, status, headers, body)


@pytest.mark.django_db
def test_an_address_with_a_nul_is_refused_as_described(
    description: dict[str, Any], acme: Organization, empty_meter: None
) -> None:
    _, text = build.make_key(organization=acme, scopes=("ingest", "read", "manage"))
    for one in signed(description):
        if one.path not in PATHS:
            answer = Client().generic(
                one.method.upper(), re.sub(r"\{\w+\}", "1", one.path) + "?start=%00",
                headers={"authorization": f"Bearer {text}"},
            )  # fmt: skip
            conforms(description, one, answer.status_code, dict(answer.headers), answer.content)
            assert answer.status_code == 400


def bodies(description: dict[str, Any]) -> Iterator[tuple[Operation, str, Any]]:
    for one in operations(description):
        for media_type, media in one.said.get("requestBody", {}).get("content", {}).items():
            for example in media.get("examples", {}).values():
                yield one, media_type, example["value"]


@pytest.mark.django_db
def test_every_example_of_a_body_is_taken_as_it_stands(
    description: dict[str, Any], acme: Organization, key: tuple[ApiKey, str]
) -> None:
    """One after the other, so that the same event again is a duplicate and no conflict."""
    _, text = build.make_key(organization=acme, scopes=("ingest", "read", "manage"))
    sent = 0
    for one, media_type, value in bodies(description):
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        status, headers, body = send(one, text, body=data, media_type=media_type)
        assert status in (200, 201, 202), (one.path, media_type, body)
        assert b"rejected" not in body.lower() or b'"rejected":0' in body.replace(b" ", b"")
        conforms(description, one, status, headers, body)
        sent += 1
    assert sent >= 12


def test_every_example_of_a_body_is_as_its_schema_has_it(description: dict[str, Any]) -> None:
    for one in operations(description):
        for media in one.said.get("requestBody", {}).get("content", {}).values():
            for example in media.get("examples", {}).values():
                validator(description, media["schema"]).validate(example["value"])


@pytest.mark.django_db
def test_every_parameter_described_is_known_and_no_other(
    description: dict[str, Any], acme: Organization
) -> None:
    _, text = build.make_key(organization=acme, scopes=("read",))
    asked = 0
    for one in signed(description):
        names = [each["name"] for each in one.said.get("parameters", ()) if each["in"] == "query"]
        for name in [*names, "colour"] if one.method == "get" and names else ():
            answer = Client().get(
                one.path, {name: "~"}, headers={"authorization": f"Bearer {text}"}
            )
            assert ("is not a parameter" in answer.content.decode()) == (name == "colour")
            asked += 1
    assert asked > 30


@pytest.mark.django_db
def test_every_answer_of_the_api_has_a_name(acme: Organization) -> None:
    _, text = build.make_key(organization=acme)
    for path in ("usage/events", "usage", "nowhere", "usage/events?colour=red"):
        answer = Client().get(f"/api/v1/{path}", headers={"authorization": f"Bearer {text}"})
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer["X-Request-Id"]), path


@pytest.mark.django_db
@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*;q=0.5", ";;", ""])
def test_answers_are_json_whatever_was_asked_for(acme: Organization, accept: str) -> None:
    _, text = build.make_key(organization=acme)
    answer = Client().get(
        "/api/v1/usage/events", headers={"authorization": f"Bearer {text}", "accept": accept}
    )
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
