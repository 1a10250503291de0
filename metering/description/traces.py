"""`POST /v1/traces` in OpenAPI: OTLP over HTTP, in protobuf and in JSON, with its own refusals."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Any

from accounts.api_description import ALWAYS, API_KEY, REQUEST_ID, refused_headers
from accounts.problems import KINDS
from metering.description.events import ENVELOPE, RATE_LIMIT, encoding_parameter
from metering.ingest.otlp import PROTOBUF
from metering.ingest.otlp_answer import CODES, IGNORED, INTERNAL
from metering.ingest.request import JSON

Json = dict[str, Any]

_REFUSED = (*ALWAYS, *ENVELOPE, "malformed_protobuf")
_NOT_HERE = {"too_many_events"}  # an exporter cannot split its spans


def operation(now: datetime) -> Json:
    """The operation; its example is of today."""
    return {
        "operationId": "export_traces",
        "tags": ["ingestion"],
        "summary": "Export OpenTelemetry spans (OTLP/HTTP)",
        "description": "A span with `gen_ai.usage.*` that is a call to a model is one event; other "
        "spans are let go and counted in a header. The id of its event is `traceId-spanId`, so "
        "sending it again counts once.",
        "security": [{API_KEY: ["ingest"]}],
        "parameters": [encoding_parameter()],
        "requestBody": {
            "required": True,
            "content": {
                PROTOBUF: {
                    "schema": {
                        "type": "string",
                        "format": "binary",
                        "description": "ExportTraceServiceRequest",
                    }
                },
                JSON: {
                    "schema": _ref("OtlpExport"),
                    "examples": {"span": {"value": _export(now)}},
                },
            },
        },
        "responses": {"200": _stored(), **_refused_answers()},
    }


def schemas() -> dict[str, Json]:
    """What stands in bodies and answers, in JSON."""
    return {**_asked(), **_answered()}


def _asked() -> dict[str, Json]:
    listed = {"type": ["array", "null"]}
    return {
        "OtlpExport": {
            "type": "object",
            "description": "ExportTraceServiceRequest. What is not known is passed over.",
            "properties": {"resourceSpans": {**listed, "items": _ref("OtlpResourceSpans")}},
        },
        "OtlpResourceSpans": {
            "type": "object",
            "properties": {
                "resource": {"type": "object", "properties": {"attributes": _attributes()}},
                "scopeSpans": {**listed, "items": _ref("OtlpScopeSpans")},
            },
        },
        "OtlpScopeSpans": {
            "type": "object",
            "properties": {"spans": {**listed, "items": _ref("OtlpSpan")}},
        },
        "OtlpSpan": {
            "type": "object",
            "properties": {
                "traceId": {"type": "string", "pattern": "^[0-9a-fA-F]*$"},
                "spanId": {"type": "string", "pattern": "^[0-9a-fA-F]*$"},
                "endTimeUnixNano": {"type": "string", "pattern": "^[0-9]{1,19}$"},
                "attributes": _attributes(),
            },
        },
        "OtlpAttribute": {
            "type": "object",
            "properties": {"key": {"type": "string"}, "value": {"type": "object"}},
        },
    }


def _answered() -> dict[str, Json]:
    return {
        "OtlpAnswer": {
            "type": "object",
            "description": "ExportTraceServiceResponse",
            "properties": {
                "partialSuccess": {
                    "type": "object",
                    "description": "There where spans were rejected or are in conflict.",
                    "required": ["rejectedSpans", "errorMessage"],
                    "properties": {
                        "rejectedSpans": {"type": "string", "pattern": "^[1-9][0-9]*$"},
                        "errorMessage": {"type": "string"},
                    },
                }
            },
            "additionalProperties": False,
        },
        "RpcStatus": {
            "type": "object",
            "description": "google.rpc.Status, as OTLP has it. The message begins with one of the "
            "codes of a problem document.",
            "required": ["code", "message"],
            "properties": {
                "code": {"enum": sorted({*CODES.values(), INTERNAL})},
                "message": {"type": "string"},
            },
            "additionalProperties": False,
        },
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _attributes() -> Json:
    return {"type": ["array", "null"], "items": _ref("OtlpAttribute")}


def _stored() -> Json:
    ignored = {
        IGNORED: {
            "description": "How many spans were no call to a model.",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
        }
    }
    return {
        "description": "On disk; what was not taken is counted in `partial_success`.",
        "headers": {**REQUEST_ID, **RATE_LIMIT, **ignored},
        "content": {
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
            JSON: {"schema": _ref("OtlpAnswer")},
        },
    }


def _refused_answers() -> dict[str, Json]:
    """Status to answer: google.rpc.Status instead of a problem document."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(_REFUSED):
        if code not in _NOT_HERE:
            by_status.setdefault(KINDS[code].status, []).append(code)
    return {str(status): _refused(status, by_status[status]) for status in sorted(by_status)}


def _refused(status: int, codes: list[str]) -> Json:
    schema = {
        "allOf": [
            _ref("RpcStatus"),
            {
                "properties": {
                    "code": {"const": CODES.get(status, INTERNAL)},
                    "message": {"pattern": f"^({'|'.join(codes)}): "},
                }
            },
        ]
    }
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": refused_headers(status),
        "content": {
            JSON: {"schema": schema},
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
        },
    }


def _export(now: datetime) -> Json:
    """A span of one call to a model."""
    ended = int(now.replace(minute=0, second=0, microsecond=0).timestamp()) * 10**9
    attributes = {
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.response.model": {"stringValue": "deepseek-v4"},
        "gen_ai.usage.input_tokens": {"intValue": "1200"},
        "gen_ai.usage.output_tokens": {"intValue": "310"},
    }
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "endTimeUnixNano": str(ended),
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }
    service = {"key": "service.name", "value": {"stringValue": "gateway-eu-1"}}
    return {
        "resourceSpans": [
            {"resource": {"attributes": [service]}, "scopeSpans": [{"spans": [span]}]}
        ]
    }
