"""What all operations of the API have in common where they are described in OpenAPI 3.1.

Who signs, and how it is refused: an operation names the codes that are its own, and
`refused_answers` makes of them the answers with their schemas. An answer's schema lists its codes,
so that a test of the description notices a code that nobody told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension

from accounts.problems import KINDS, MEDIA_TYPE, Problem

Json = dict[str, Any]

API_KEY = "apiKey"
PORTAL_SESSION = "portalSession"
REFUSALS = "x-refusals"  # stands in an operation until `refused_answers` has replaced it

# What may befall every operation, whatever it does.
ALWAYS = (
    "invalid_parameter", "missing_credentials", "invalid_api_key", "scope_missing",
    "organization_suspended", "internal_error", "temporarily_unavailable",
)  # fmt: skip
BODY = (  # and every one that reads JSON
    "malformed_json", "not_utf8", "duplicate_key", "too_deep", "body_too_large",
    "unsupported_media_type",
)  # fmt: skip

SECURITY_SCHEMES: dict[str, Json] = {
    API_KEY: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "kt_<public prefix>_<secret>",
        "description": "An API key from the portal's Keys page. The role beside it in an "
        "operation is the scope that the key needs: `ingest`, `read`, `manage`.",
    },
    PORTAL_SESSION: {
        "type": "apiKey",
        "in": "cookie",
        "name": settings.SESSION_COOKIE_NAME,
        "description": "A signed-in member, from the pages of the portal: with the parameter "
        "`organization` and Django's CSRF token.",
    },
}

REQUEST_ID: dict[str, Json] = {
    "X-Request-Id": {
        "description": "The name of this request in our log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^req_[0-9a-f]{32}$"},
    }
}
_RETRY_AFTER: dict[str, Json] = {
    "Retry-After": {
        "description": "Seconds to wait before the same request is sent again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
_ASKED: dict[str, Json] = {
    "WWW-Authenticate": {"required": True, "schema": {"const": 'Bearer realm="kilotoken"'}}
}
_HEADERS = {401: _ASKED, 429: _RETRY_AFTER, 503: _RETRY_AFTER}

PROBLEM: Json = {
    "type": "object",
    "description": "A refusal of the whole request (RFC 9457). Nothing was done.",
    "required": [
        "type", "title", "status", "detail", "instance", "code", "next_step", "request_id",
    ],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "A page about it."},
        "title": {"type": "string"},
        "status": {"type": "integer", "description": "The HTTP status once more."},
        "detail": {"type": "string", "description": "What is wrong here, in a sentence."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "code": {"type": "string", "description": "For programs; never changes."},
        "next_step": {"type": "string", "description": "What to do."},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "Of `invalid_request`: each fault with its place in the body.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "A JSON pointer (RFC 6901)."},
                    "detail": {"type": "string"},
                },
            },
        },
        "limit": {"type": "integer", "description": "What is allowed."},
        "received": {"type": "integer", "description": "What came."},
        "unit": {"type": "string", "description": "Of `rate_limited`: what is counted."},
        "burst": {"type": "integer", "description": "Of `rate_limited`: so many at once."},
        "remaining": {"type": "integer", "description": "Of `rate_limited`: what is left."},
        "retry_after_s": {"type": "integer", "description": "The header Retry-After once more."},
    },
}  # fmt: skip


def refuses(*codes: str) -> dict[str, list[str]]:
    """For `extend_schema(extensions=...)`: how an operation refuses besides the usual ways."""
    assert KINDS.keys() >= set(codes)
    return {REFUSALS: list(codes)}


def refused_answers(codes: Iterable[str]) -> dict[str, Json]:
    """Status to answer, for some codes and those of every operation."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys([*ALWAYS, *codes]):
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {str(status): _answer(status, by_status[status]) for status in sorted(by_status)}


def refused_headers(status: int) -> dict[str, Json]:
    """What a refusal of that status says beside its body."""
    return {**REQUEST_ID, **_HEADERS.get(status, {})}


def _answer(status: int, codes: list[str]) -> Json:
    """One status: its codes, and an example of each."""
    properties = {"status": {"const": status}, "code": {"enum": codes}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": properties}]}
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": refused_headers(status),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def examples() -> dict[str, Json]:
    """A problem document of each code."""
    return {code: {"summary": kind.title, "value": _example(code)} for code, kind in KINDS.items()}


def _example(code: str) -> Mapping[str, object]:
    problem = Problem(code, f"{KINDS[code].title}.")
    return problem.document(instance="/api/v1/...", request_id=f"req_{'0' * 32}")


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """An operation that takes API keys, with the scope it asks for."""

    target_class = "accounts.api_auth.ApiKeyAuthentication"
    name = API_KEY

    def get_security_definition(self, auto_schema: Any) -> Json:
        """The scheme, once for all operations."""
        return SECURITY_SCHEMES[API_KEY]

    def get_security_requirement(self, auto_schema: Any) -> dict[str, list[str]]:
        """The scheme and the role: OpenAPI 3.1 lets every scheme name the roles it needs."""
        return {API_KEY: [auto_schema.view.scope]}


class PortalSessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """An operation that the portal's own pages use too."""

    target_class = "accounts.api_session.MemberAuthentication"
    name = PORTAL_SESSION

    def get_security_definition(self, auto_schema: Any) -> Json:
        """The scheme."""
        return SECURITY_SCHEMES[PORTAL_SESSION]
