"""What may be asked of `POST /api/v1/quote` and `/simulate`, as JSON Schemas."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from billing import rating
from billing.quoting import EVENTS_MAX, PERIOD_MAX, ROWS_MAX
from billing.rating.event import ATTRIBUTES_MAX, QUANTITY_MAX

Json = dict[str, Any]

_TEXT: Json = {"type": "string", "pattern": r"^\S(.{0,126}\S)?$"}
_REGISTER: Json = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,39}$"}
_QUANTITY: Json = {"type": "integer", "minimum": 0, "maximum": QUANTITY_MAX}
_INSTANT: Json = {"type": "string", "format": "date-time"}
_ATTRIBUTES: Json = {
    "type": "array",
    "minItems": 1,
    "maxItems": ATTRIBUTES_MAX,
    "uniqueItems": True,
    "items": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$"},
}
_USAGE: Json = {
    "type": "object",
    "minProperties": 1,
    "description": "By register; disjoint.",
    "propertyNames": {"pattern": _REGISTER["pattern"]},
    "additionalProperties": _QUANTITY,
}
_TARIFF: Json = {
    "description": "The code of a tariff that is offered to you, or that you are or were on; or a "
    "whole tariff document.",
    "anyOf": [
        {"type": "string", "pattern": "^[-a-zA-Z0-9_]{1,63}$"},
        {"$ref": "#/components/schemas/Tariff"},
    ],
}
_WHICH: Json = {
    "region": _TEXT,
    "service_class": _TEXT,
    "thinking": {"type": "boolean"},
    "attributes": _ATTRIBUTES,
}
_FLAT: Json = {
    "currency": "USD",
    "components": [
        {"code": "all", "models": ["*"], "registers": ["input", "cache_read", "output"],
         "shape": "flat", "per": 1_000_000, "price": "0.40"}
    ],
}  # fmt: skip

QUOTE: Json = {
    "type": "object",
    "description": "One request.",
    "required": ["model", "usage"],
    "properties": {
        "model": _TEXT,
        "usage": _USAGE,
        "occurred_at": {**_INSTANT, "description": "1970 to 2200; now unless given."},
        "tariff": {**_TARIFF, "description": f"{_TARIFF['description']} Yours then, unless given."},
        **_WHICH,
    },
    "additionalProperties": False,
}
QUOTE_EXAMPLE: Json = {
    "model": "qwen-max",
    "usage": {"input": 12000, "cache_read": 30000, "output": 900},
    "occurred_at": "2026-11-18T10:07:30Z",
    "tariff": _FLAT,
}

_EDGE: Json = {
    "type": "string",
    "description": f"A local date, or an instant on a quarter-hour; at most {PERIOD_MAX.days} days "
    "from one to the other.",
    "anyOf": [{"format": "date"}, {"format": "date-time"}],
}
_SUM: Json = {
    "type": "object",
    "description": "A sum of usage, of one quarter-hour.",
    "required": ["model", "register", "quantity"],
    "properties": {
        "model": _TEXT,
        "register": _REGISTER,
        "quantity": _QUANTITY,
        "starts_at": {**_INSTANT, "description": "A quarter-hour; the first unless given."},
        "input_band": _QUANTITY,
        **_WHICH,
    },
    "additionalProperties": False,
}
_EVENT: Json = {
    "type": "object",
    "description": "As it is reported; the same source and id again count once.",
    "required": ["id", "occurred_at", "model", "usage"],
    "properties": {
        "id": _TEXT,
        "source": _TEXT,
        "occurred_at": _INSTANT,
        "first_token_at": _INSTANT,
        "ended_at": _INSTANT,
        "model": _TEXT,
        "usage": _USAGE,
        **dict.fromkeys(("project", "api_key", "agent", "session"), _TEXT),
        **_WHICH,
    },
    "additionalProperties": False,
}
SIMULATION: Json = {
    "type": "object",
    "description": "A period and its usage: `events` as they are reported, or sums of `usage`.",
    "required": ["tariff", "from", "to"],
    "oneOf": [{"required": ["events"]}, {"required": ["usage"]}],
    "properties": {
        "tariff": _TARIFF,
        "from": _EDGE,
        "to": {**_EDGE, "description": f"Not part of the period. {_EDGE['description']}"},
        "zone": {
            "type": "string",
            "description": "IANA time zone of dates, days and months; the organization's unless "
            "given.",
        },
        "events": {"type": "array", "minItems": 1, "maxItems": EVENTS_MAX, "items": _EVENT},
        "usage": {"type": "array", "minItems": 1, "maxItems": ROWS_MAX, "items": _SUM},
        "facts": {
            "type": "object",
            "description": "What charges rest on besides usage, as in `manage.py rate --facts`.",
        },
        "tax_percent": {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,12})?$"},
    },
    "additionalProperties": False,
}
SIMULATION_EXAMPLE: Json = {
    "tariff": _FLAT,
    "from": "2026-11-01",
    "to": "2026-12-01",
    "zone": "Europe/Berlin",
    "usage": [{"model": "qwen-max", "register": "input", "quantity": 1_000_000}],
    "tax_percent": "19",
}


@cache
def tariff() -> Json:
    """The published schema of tariff documents, with its references where it stands here."""
    text = Path(rating.__file__).with_name("tariff.schema.json").read_text()
    document: Json = json.loads(text.replace('"#/$defs/', '"#/components/schemas/Tariff/$defs/'))
    return {name: value for name, value in document.items() if name not in ("$schema", "$id")}
