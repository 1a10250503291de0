"""What a sender may report, as JSON Schemas: events, corrections, and CloudEvents around them.

A schema says as much as it can. That an id is in Unicode form NFC, that a time is not too long ago
and that 12.0 is no count is said in words, and told by the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from metering.ingest import cloudevents
from metering.usage import registers
from metering.usage.correction import CORRECTION_AGE_MAX, REASON_MAX
from metering.usage.dialects import DIALECTS
from metering.usage.event import (
    AGE_MAX,
    AHEAD_MAX,
    NAME_MAX,
    PATTERNS,
    QUANTITY_MAX,
    REGISTERS_MAX,
    TIME,
)

Json = dict[str, Any]

_IDENTIFIER: Json = {"type": "string", "minLength": 1, "maxLength": NAME_MAX}
_VISIBLE = "Visible characters in Unicode form NFC, kept exactly as sent."
_ID: Json = {
    **_IDENTIFIER,
    "description": f"{_VISIBLE} With `source` the identity of the event in your organization, for "
    "good: make it before sending, keep it for retries.",
}
_SOURCE: Json = {**_IDENTIFIER, "description": f"The sending system. {_VISIBLE}"}
_TIME: Json = {
    "type": "string",
    "format": "date-time",
    "pattern": f"^{TIME.pattern}$",
    "description": f"When it happened: RFC 3339 with an offset, at most microseconds; at most "
    f"{AHEAD_MAX.seconds} s ahead of the server's clock and {AGE_MAX.days} days old. What is older "
    f"goes into a backfill; an amendment reaches back {CORRECTION_AGE_MAX.days} days.",
}
_WORDS = {
    "model": "The model that was used.",
    "project": "A project of the organization; the key's own, or `default`, unless given.",
    "api_key": "The public prefix of your own customer's key: a label, never the key.",
    "agent": "Which agent.",
    "session": "Which run.",
    "region": "Where it ran.",
    "service_class": "The class that was served, such as `batch`.",
}
_REGISTERS: Json = {
    "type": "object",
    "description": "Disjoint registers: `input` leaves out `cache_read`, `output` leaves out "
    "`reasoning`. `requests` is counted here and cannot be sent.",
    "minProperties": 1,
    "maxProperties": REGISTERS_MAX,
    "propertyNames": {
        "pattern": f"^{registers.NAME.pattern}$",
        "not": {"const": registers.REQUESTS},
    },
    "additionalProperties": {"$ref": "#/components/schemas/Quantity"},
}
_FORMAT: Json = {"enum": list(DIALECTS), "description": "Whose `usage` object this is."}
_PROVIDERS: Json = {
    "type": "object",
    "minProperties": 1,
    "description": "The `usage` object of a provider's answer, as it came. It becomes registers "
    "by docs/reference/dialects.md; a count that no rule knows is `unknown_usage_class`.",
}
_REASON: Json = {
    "type": ["string", "null"],
    "maxLength": REASON_MAX,
    "description": f"Stands beside the correction. {_VISIBLE}",
}
_TAKEN_BACK: Json = {
    **_IDENTIFIER,
    "description": "The id of an event of the same source, accepted before or earlier in this "
    "request, that shall count no more.",
}


def schemas() -> dict[str, Json]:
    """What may stand in a body, by the name it has in the description."""
    own = {"id": _ID, "source": _SOURCE, "occurred_at": _TIME}
    void = {"voids": _TAKEN_BACK, "reason": _REASON}
    plain, provided = {"usage": _registers()}, {"usage_format": _FORMAT, "usage": _PROVIDERS}
    either = {"usage": {"anyOf": [_registers(), _PROVIDERS]}, "usage_format": _or_null(_FORMAT)}
    amends = {"amends": _TAKEN_BACK, "reason": _REASON}
    return {
        "Quantity": {"type": "integer", "minimum": 0, "maximum": QUANTITY_MAX},
        "Registers": _REGISTERS,
        "UsageEvent": _event({**own, **plain}, "Usage of one request, in registers."),
        "ProviderUsageEvent": _event(
            {**own, **provided}, "Usage of one request, as its provider reported it."
        ),
        "Amendment": _event(
            {**own, **amends, **either}, "An event that counts in the place of another one."
        ),
        "Void": _object(
            {"id": _ID, "source": _SOURCE, **void},
            ("id", "source", "voids"),
            "Takes an event back: it counts no more.",
        ),
        "Reported": _any_of("UsageEvent", "ProviderUsageEvent", "Amendment", "Void"),
        "CloudEventData": {
            "description": "An event or a correction without `id`, `source` and `occurred_at`, "
            "which stand in the CloudEvent's own attributes.",
            "anyOf": [
                _event(plain, "Usage in registers."),
                _event(provided, "Usage as its provider reported it."),
                _event({**amends, **either}, "An amendment."),
                _object(void, ("voids",), "A void."),
            ],
        },
        "CloudEvent": _cloudevent(),
    }


def _registers() -> Json:
    return {"$ref": "#/components/schemas/Registers"}


def _event(more: Mapping[str, Json], description: str) -> Json:
    """An object with the words every event may have, and the fields that are its own."""
    words = {
        name: {
            "type": "string" if name == "model" else ["string", "null"],
            "pattern": f"^{PATTERNS[name].pattern}$",
            "description": said,
        }
        for name, said in _WORDS.items()
    }
    needed = {"id", "source", "occurred_at", "model", "usage", "amends"}
    if "amends" not in more:
        needed.add("usage_format")
    properties = {**more, **words}
    return _object(properties, [name for name in properties if name in needed], description)


def _object(properties: Mapping[str, Json], required: Iterable[str], description: str) -> Json:
    return {
        "type": "object",
        "description": description,
        "required": list(required),
        "properties": dict(properties),
        "additionalProperties": False,
    }


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _any_of(*names: str) -> Json:
    return {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}


def _cloudevent() -> Json:
    return {
        "type": "object",
        "description": "CloudEvents 1.0 around an event. `subject`, `dataschema` and extensions "
        "are allowed and not kept; `data_base64` is not taken.",
        "required": ["specversion", "type", "id", "source", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"const": cloudevents.TYPE},
            "id": _ID,
            "source": _SOURCE,
            "time": {**_TIME, "description": "The event's `occurred_at`; a void needs none."},
            "datacontenttype": {"const": "application/json"},
            "data": {"$ref": "#/components/schemas/CloudEventData"},
        },
    }


def event(now: datetime, **fields: object) -> dict[str, object]:
    """An event that a sender might send today."""
    at = now.replace(minute=0, second=0, microsecond=0)
    fields = {"model": "deepseek-v4", "usage": {"input": 1200, "output": 310}, **fields}
    return {"id": "req-8f14e45f", "source": "gateway-eu-1",
            "occurred_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), **fields}  # fmt: skip


def cloudevent(native: Mapping[str, object]) -> dict[str, object]:
    """The same event as a CloudEvent."""
    attributes = {"id": native["id"], "source": native["source"], "time": native["occurred_at"]}
    data = {name: value for name, value in native.items()
            if name not in cloudevents.ENVELOPE.values()}  # fmt: skip
    return {"specversion": "1.0", "type": cloudevents.TYPE, **attributes, "data": data}
