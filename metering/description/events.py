"""`POST /api/v1/events` in OpenAPI: every form of body, every way to ask, every answer."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from accounts.api_description import API_KEY, BODY, REFUSALS, REQUEST_ID
from accounts.problems import KINDS
from metering.description import reported
from metering.ingest import cloudevents
from metering.ingest.decode import BODY_BYTES_MAX, DEPTH_MAX, EVENTS_MAX
from metering.ingest.inflate import STEPS
from metering.ingest.request import Form
from metering.store import Status
from metering.usage.flags import Flag

Json = dict[str, Any]

ENVELOPE = (  # how the door refuses a request before it looks at any event
    *BODY, "bad_encoding", "empty_body", "wrong_shape", "request_timeout",
    "decompressed_too_large", "too_many_events", "unsupported_encoding", "rate_limited",
)  # fmt: skip
# How one event is refused beside others: a line may besides be no strict JSON.
_EVENT_CODES = (
    *(code for code, kind in KINDS.items()
      if kind.status == 422 and code not in ("invalid_request", "empty_batch")),
    "malformed_json", "duplicate_key", "too_deep",
)  # fmt: skip
RATE_LIMIT: dict[str, Json] = {
    name: {"description": said, "schema": {"type": "string"}}
    for name, said in {
        "RateLimit-Policy": "The key's limits (draft-ietf-httpapi-ratelimit-headers).",
        "RateLimit": "What is left of them, and in how many seconds all of it is back.",
    }.items()
}
_LINES_MEDIA = (Form.LINES.value, "application/ndjson")


def encoding_parameter() -> Json:
    """How a body may be packed."""
    return {
        "name": "Content-Encoding",
        "in": "header",
        "description": "How the body is packed; one window of zstd is at most 8 MiB (RFC 9659).",
        "schema": {"enum": [*STEPS, "identity"]},
    }


def operation(now: datetime) -> Json:
    """The operation; its examples are of today, so that they can be sent as they stand."""
    return {
        "operationId": "report_events",
        "tags": ["ingestion"],
        "summary": "Report what was used",
        "description": f"One event or many, at most {EVENTS_MAX:,} in {BODY_BYTES_MAX:,} bytes of "
        "strict UTF-8 JSON: no key twice, no NaN, nested at most "
        f"{DEPTH_MAX} deep. The answer comes after the events are on disk and deduplicated, and "
        "says what became of each. After a timeout, a broken connection, a 429 or a 503 send the "
        "same events with the same ids: none is counted twice.",
        "security": [{API_KEY: ["ingest"]}],
        "parameters": _parameters(),
        "requestBody": {"required": True, "content": _bodies(now)},
        "responses": _answers(),
        REFUSALS: [*ENVELOPE, "empty_batch", "unknown_backfill", "backfill_not_open"],
    }


def schemas() -> dict[str, Json]:
    """What the answers are made of."""
    count = {"type": "integer", "minimum": 0}
    return {
        "BatchAnswer": {
            "type": "object",
            "description": "What became of a request. The four counts add up to `submitted`.",
            "required": [
                "request_id",
                "batch_id",
                "submitted",
                "accepted",
                "duplicate",
                "conflict",
                "rejected",
                "events",
            ],
            "properties": {
                "request_id": {"type": "string"},
                "batch_id": {
                    "type": ["integer", "null"],
                    "description": "The batch it was stored in, which small requests of one key "
                    "may share; null if nothing was.",
                },
                "submitted": count,
                "accepted": {**count, "description": "Stored; counted within seconds."},
                "duplicate": {**count, "description": "Stored before, the same: a success."},
                "conflict": {**count, "description": "Stored before, and not the same."},
                "rejected": {**count, "description": "Not stored; `events` says why."},
                "events": {
                    "type": "array",
                    "description": "In the order of the request; with `only=errors` conflicts and "
                    "rejections alone.",
                    "items": {"$ref": "#/components/schemas/EventAnswer"},
                },
                "flags": {
                    "type": "object",
                    "description": "How many events have each flag, also with `only=errors`; "
                    "absent where none has one.",
                    "properties": {str(flag): {**count, "minimum": 1} for flag in Flag},
                    "minProperties": 1,
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
        "EventAnswer": _event_answer(count),
    }


def _event_answer(count: Json) -> Json:
    return {
        "type": "object",
        "description": "What became of one event.",
        "required": ["index", "id", "status"],
        "properties": {
            "index": {**count, "description": "Its place in the request."},
            "id": {
                "type": ["string", "null"],
                "description": "Its id; null where it has none that may be shown.",
            },
            "status": {"enum": [*(str(status) for status in Status), "rejected"]},
            "flags": {
                "type": "array",
                "description": "What is worth knowing of an event that was accepted, now or "
                "before. `late`: the period it happened in was closed before it came; it will "
                "appear as an adjustment on the next invoice. `zero`: every quantity is zero. "
                "Absent where there is nothing to say.",
                "items": {"enum": [str(flag) for flag in Flag]},
                "minItems": 1,
                "uniqueItems": True,
            },
            "code": {"enum": list(_EVENT_CODES), "description": "Why; for programs."},
            "pointer": {"type": "string", "description": "Where, as a JSON pointer."},
            "detail": {"type": "string", "description": "What, where, what is allowed, what "
                       "to do."},
            "retryable": {
                "type": "boolean",
                "description": "Whether the same event, unchanged, can succeed later.",
            },
        },
        "additionalProperties": False,
        "if": {"properties": {"status": {"enum": ["conflict", "rejected"]}}},
        "then": {
            "required": ["code", "pointer", "detail", "retryable"],
            "properties": {"flags": False},
        },
    }  # fmt: skip


def _parameters() -> list[Json]:
    binary = "Of a CloudEvent in binary mode, with the body as its `data`; percent-encoded."
    return [
        _query("only", "`errors` lists conflicts and rejections alone.",
               {"enum": ["all", "errors"], "default": "all"}),
        _query("mode", "`atomic` takes all events or none. NDJSON then needs a Content-Length.",
               {"enum": ["partial", "atomic"], "default": "partial"}),
        _query("backfill", "Into this backfill, which must be open.",
               {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}),
        encoding_parameter(),
        *(
            {"name": f"{cloudevents.HEADER}{name}", "in": "header", "description": binary,
             "schema": schema}
            for name, schema in (
                ("specversion", {"const": "1.0"}), ("type", {"const": cloudevents.TYPE}),
                ("id", {"type": "string"}), ("source", {"type": "string"}),
                ("time", {"type": "string", "format": "date-time"}),
            )
        ),
    ]  # fmt: skip


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _bodies(now: datetime) -> dict[str, Json]:
    """Every media type, with an example or more of each."""
    event = reported.event(now)
    other = reported.event(
        now, id="req-1c9a2b7d", project="default", agent="coder", session="run-42",
        region="eu-central", usage={"input": 812, "cache_read": 2048, "reasoning": 95},
    )  # fmt: skip
    provided = reported.event(
        now, id="req-55d0e3aa", usage_format="openai_chat",
        usage={"prompt_tokens": 1200, "completion_tokens": 310, "total_tokens": 1510},
    )  # fmt: skip
    void = {"id": "void-1", "source": event["source"], "voids": event["id"]}
    lines = "".join(f"{json.dumps(one)}\n" for one in (event, other))
    line_schema = {
        "type": "string",
        "description": "One event or correction a line. A line that cannot be read spoils itself "
        "alone.",
    }
    return {
        Form.JSON.value: {
            "schema": {
                "anyOf": [
                    _ref("Reported"),
                    _array("Reported"),
                    _ref("CloudEventData"),
                ],
            },
            "examples": {
                "event": {"value": event},
                "array": {"value": [event, other]},
                "as_its_provider_reported_it": {"value": provided},
                "an_event_taken_back": {"value": [event, void]},
            },
        },
        **{
            media: {"schema": line_schema, "examples": {"lines": {"value": lines}}}
            for media in _LINES_MEDIA
        },
        Form.CLOUDEVENT.value: {
            "schema": _ref("CloudEvent"),
            "examples": {"cloudevent": {"value": reported.cloudevent(event)}},
        },
        Form.CLOUDEVENTS.value: {
            "schema": _array("CloudEvent"),
            "examples": {"batch": {"value": [reported.cloudevent(event)]}},
        },
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(name: str) -> Json:
    return {"type": "array", "minItems": 1, "maxItems": EVENTS_MAX, "items": _ref(name)}


def _answers() -> dict[str, Json]:
    """What is said of events; refusals of the whole come from `accounts.api_description`."""
    told = {"application/json": {"schema": _ref("BatchAnswer")}}
    return {
        status: {"description": said, "headers": {**REQUEST_ID, **RATE_LIMIT}, "content": told}
        for status, said in (
            ("202", "All events are stored, now or before."),
            ("207", "Some events are stored and some are not."),
            ("422", "None is stored: each is rejected or in conflict, or the batch is empty."),
        )
    }
