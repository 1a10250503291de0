"""The one description of the whole API, in OpenAPI 3.1, served at /api/v1/openapi.json.

Django REST framework's views are described by drf-spectacular; the ingestion door is no such view
and describes itself (`metering.description`). Here both become one document, every operation says
how it refuses, and the tariff's published schema is part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from accounts.api_description import (
    PROBLEM,
    REFUSALS,
    REQUEST_ID,
    SECURITY_SCHEMES,
    examples,
    refused_answers,
)
from accounts.problems import MEDIA_TYPE
from billing.api_description import tariff
from metering.description import events, reported, traces
from metering.ingest.door import EVENTS_PATH, TRACES_PATH

Json = dict[str, Any]

DESCRIPTION = """\
Report what AI models used, and read what it came to.

Every request is signed with an API key, `Authorization: Bearer kt_...`. Every answer has an
`X-Request-Id`. What is refused is refused whole, with a problem document (RFC 9457) whose `code`
never changes its meaning; `/errors/` on this server explains each.

The two addresses of ingestion are answered by processes of their own, at an address of their own in
production; the same application answers them here.
"""
TAGS = [
    {"name": "ingestion", "description": "Report usage; see what was not taken; add what is old."},
    {"name": "usage", "description": "What was used, and what became of each event."},
    {"name": "prices", "description": "What usage costs, and why."},
    {"name": "health", "description": "Whether the processes live and are ready."},
]
_TAG_OF = {"ingest": "ingestion", "usage": "usage", "quote": "prices", "simulate": "prices"}
_METHODS = ("get", "post", "put", "patch", "delete")


def whole(result: Json, **_: object) -> Json:
    """drf-spectacular's last step: what it found, made whole."""
    now = timezone.now()
    result["info"]["description"] = DESCRIPTION
    result["servers"] = [{"url": settings.PUBLIC_URL}]
    result["tags"] = TAGS
    result["paths"] = {**_door(now), **result["paths"], **_health()}
    for path, operation in _operations(result):
        if path.startswith("/api/"):
            operation["tags"] = [_TAG_OF.get(path.split("/")[3], "ingestion")]
            _say_how_it_refuses(operation)
    components = result.setdefault("components", {})
    told = {code for _, operation in _operations(result) for code in _codes(operation)}
    components["examples"] = {code: one for code, one in examples().items() if code in told}
    components["securitySchemes"] = SECURITY_SCHEMES
    components["schemas"] = {
        **reported.schemas(), **events.schemas(), **traces.schemas(), "Problem": PROBLEM,
        **components["schemas"], "Tariff": tariff(),
    }  # fmt: skip
    return result


def _operations(result: Json) -> Iterator[tuple[str, Json]]:
    for path, item in result["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, item[method]


def _codes(operation: Json) -> Iterator[str]:
    """The codes that an operation shows an example of."""
    for answer in operation["responses"].values():
        yield from answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", ())


def _door(now: datetime) -> Json:
    return {
        EVENTS_PATH: {"post": events.operation(now)},
        TRACES_PATH: {"post": traces.operation(now)},
    }


def _say_how_it_refuses(operation: Json) -> None:
    """Add the refusals to the answers; a status may have an answer of its own besides."""
    for answer in operation["responses"].values():
        answer["headers"] = {**REQUEST_ID, **answer.get("headers", {})}
    for status, refused in refused_answers(operation.pop(REFUSALS, ())).items():
        answer = operation["responses"].setdefault(status, refused)
        if answer is not refused:
            answer["content"] = {**answer["content"], **refused["content"]}
            answer["description"] += f" Or {refused['description']}"


def _health() -> Json:
    alive = {"type": "object", "required": ["status"],
             "properties": {"status": {"const": "alive"}}}  # fmt: skip
    checks = {"type": "object", "additionalProperties": {"type": "string"}}
    ready = {
        "type": "object",
        "required": ["status", "checks"],
        "properties": {"status": {"enum": ["ready", "not ready"]}, "checks": checks},
    }
    return {
        "/healthz": _asked("healthz", "Whether the process lives", {"200": alive}),
        "/readyz": _asked(
            "readyz", "Whether database, broker and a worker answer", {"200": ready, "503": ready}
        ),
    }


def _asked(name: str, summary: str, answers: dict[str, Json]) -> Json:
    responses = {
        status: {"description": "", "content": {"application/json": {"schema": schema}}}
        for status, schema in answers.items()
    }
    operation = {"operationId": name, "summary": summary, "tags": ["health"], "security": [{}],
                 "responses": responses}  # fmt: skip
    return {"get": operation}
