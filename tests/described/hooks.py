"""What schemathesis cannot know: lines of JSON, what time it is, and a tariff that is one.

Without it nearly every body would be refused for its time, and nothing behind that be reached. It
is loaded by the program itself (`SCHEMATHESIS_HOOKS`), and changes values only where a description
cannot say which of them are good: half of the bodies, by a digest of their own.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import schemathesis

LINES = ("application/x-ndjson", "application/ndjson")
_TIME = re.compile(r"\d{4}-.*[Zz0-9]")
_FLAT = {
    "currency": "USD",
    "components": [
        {"code": "all", "models": ["*"], "shape": "flat", "per": 1_000_000, "price": "0.40",
         "registers": ["input", "output", "cache_read", "reasoning"]},
    ],
}  # fmt: skip


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Lines are made like the elements of an array, and written one under the other."""
    content = raw_schema["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]
    reported = {"$ref": "#/components/schemas/Reported"}
    for media_type in LINES:
        content[media_type] = {"schema": {"type": "array", "items": reported}}


@schemathesis.serializer(*LINES)
def lines(context: Any, value: Any) -> bytes:
    """A list as NDJSON; anything else as one line."""
    values = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(one) for one in values).encode("utf-8", "surrogatepass")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Half of the bodies are made good where only somebody who knows better can."""
    digest = hashlib.sha256(repr(body).encode("utf-8", "surrogatepass")).digest()
    if digest[0] % 2:
        return body
    path = context.operation.path
    if path == "/v1/traces":
        return _span_of_today(body, digest)
    if path == "/api/v1/simulate" and isinstance(body, dict):
        return {**body, "tariff": _FLAT, "from": "2026-11-01", "to": "2026-12-01"}
    return _of_today(body)


def _of_today(value: Any) -> Any:
    if isinstance(value, list):
        return [_of_today(one) for one in value]
    if isinstance(value, dict):
        return {name: _now(name, one) for name, one in value.items()}
    return value


def _now(name: str, value: Any) -> Any:
    """The moment of the request where a time was to be; a backfill's ends are left."""
    if name in ("occurred_at", "time") and isinstance(value, str) and _TIME.fullmatch(value):
        return datetime.now(UTC).isoformat()
    return _of_today(value) if name == "data" else value


def _span_of_today(value: Any, digest: bytes) -> Any:
    """Every span has an identity, and ended now."""
    if isinstance(value, list):
        return [_span_of_today(one, digest) for one in value]
    if not isinstance(value, dict):
        return value
    fixed = {name: _span_of_today(one, digest) for name, one in value.items()}
    if "traceId" in fixed or "spanId" in fixed:
        fixed |= {"traceId": digest[:16].hex(), "spanId": digest[16:24].hex()}
        fixed["endTimeUnixNano"] = str(time.time_ns())
    return fixed
