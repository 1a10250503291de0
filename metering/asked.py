"""What an API request asks, parameter by parameter: each known, each given once, each readable."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from accounts.api_auth import Refused
from accounts.api_body import BoundedJson
from accounts.problems import Problem
from metering.ingest import decode
from metering.ingest.decode import Refusal
from metering.usage.event import TIME, instant_of

DIGITS_MAX = 18


def bad(detail: str) -> Refused:
    """A parameter that cannot be answered."""
    return Refused(Problem("invalid_parameter", detail))


class StrictJson(BoundedJson):
    """A body read as the ingestion door reads its own: numbers are kept as they were written."""

    def read(self, body: bytes) -> object:
        """The value, or a refusal of the whole request."""
        try:
            return decode.parse(decode.text_of(body))
        except Refusal as refusal:
            raise Refused(refusal.problem) from None


def parameter(name: str, schema: dict[str, Any], description: str, **more: Any) -> OpenApiParameter:
    """A parameter of the query, as the API describes itself."""
    return OpenApiParameter(name, schema, "query", description=description, **more)


def text_parameter(name: str, description: str, **more: Any) -> OpenApiParameter:
    """One that is any text, or one of a few."""
    return parameter(name, {"type": "string", **more}, description)


def listed_parameter(name: str, description: str, **more: Any) -> OpenApiParameter:
    """One that holds several values, with commas between them."""
    schema = {"type": "array", "items": {"type": "string", **more}}
    return parameter(name, schema, description, style="form", explode=False)


def instant_parameter(name: str, description: str) -> OpenApiParameter:
    """One that is an instant."""
    return text_parameter(name, f"{description}; RFC 3339 with offset", format="date-time")


def number_parameter(name: str, description: str) -> OpenApiParameter:
    """One that is a whole number."""
    schema = {"type": "integer", "minimum": 0, "maximum": 10**DIGITS_MAX - 1}
    return parameter(name, schema, description)


def limit_parameter(most: int) -> OpenApiParameter:
    """How many rows a page may have."""
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": most}
    return parameter("limit", schema, "how many, at most")


def once(request: Request, names: Sequence[str]) -> dict[str, str]:
    """The query's parameters, of which only these are known."""
    given = {}
    for name, values in request.query_params.lists():
        if name not in names:
            raise bad(f"{name[:40]!a} is not a parameter; they are {', '.join(names)}.")
        if len(values) != 1:
            raise bad(f"{name} is given {len(values)} times; give it once, values with commas.")
        given[name] = values[0]
    return given


def number(text: str, name: str) -> int:
    """A whole number that is not negative."""
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise bad(f"{name} {text[:40]!a} is not a number.")
    return int(text)


def limit(given: dict[str, str], most: int) -> int:
    """How many rows a page may have."""
    asked = number(given.get("limit", str(most)), "limit")
    if not 1 <= asked <= most:
        raise bad(f"limit must lie between 1 and {most}.")
    return asked


def instant(text: str, name: str) -> datetime:
    """An RFC 3339 instant with offset, in UTC."""
    found = instant_of(text) if TIME.fullmatch(text) else None
    if found is None:
        raise bad(f"{name} {text[:40]!a} is not an RFC 3339 instant with offset.")
    return found
