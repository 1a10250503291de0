"""CloudEvents 1.0 over HTTP: one in a structured or a binary request, or a batch of them.

The envelope says who, when and which; its data is the rest of a native event. What comes out is
judged as any event is, and a fault is shown where it stands in the CloudEvent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from urllib.parse import unquote_to_bytes

from accounts.problems import Problem
from metering.ingest import decode
from metering.ingest.decode import Refusal, Sent
from metering.usage import correction
from metering.usage.correction import Reported, Span
from metering.usage.event import OddNumber, Rejected

TYPE = "kilotoken.usage.v1"
ENVELOPE = {"id": "id", "source": "source", "time": "occurred_at"}
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
HEADER = "ce-"
FORM = "cloudevent"


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether the attributes of a CloudEvent stand in the headers."""
    return f"{HEADER}specversion" in headers


def decode_structured(
    body: bytes, *, batch: bool, now: datetime, backfill: Span | None = None
) -> Sent:
    """One CloudEvent, or an array of them."""
    read_one = partial(read, backfill=backfill)
    text = decode.text_of(body)
    value = decode.parse(text)
    raws = partial(decode.raws_of, text, lines=False, single=not batch)
    if not isinstance(value, list if batch else dict):
        wanted = "an array of CloudEvents" if batch else "one CloudEvent, an object"
        detail = f"The body must be {wanted}, as its Content-Type says."
        raise Refusal(Problem("wrong_shape", detail))
    if not isinstance(value, list):
        event = decode.judged(value, now, "", "", read_one)
        return Sent([event], single=True, form=FORM, raws=raws, inside=_pointer)
    if not value:
        raise Refusal(Problem("empty_batch", "The array is empty; at least one event is needed."))
    decode.not_too_many(len(value))
    events = [decode.judged(one, now, f"/{n}", "", read_one) for n, one in enumerate(value)]
    return Sent(events, single=False, form=FORM, raws=raws, inside=_pointer)


def decode_binary(
    headers: Mapping[str, str], body: bytes, *, now: datetime, backfill: Span | None = None
) -> Sent:
    """The attributes from the headers, the data from the body."""
    value: dict[str, object] = {
        name.removeprefix(HEADER): _unescaped(text)
        for name, text in headers.items()
        if name.startswith(HEADER)
    }
    text = decode.text_of(body)
    structured = f'{json.dumps(value)[:-1]}, "data": {text}}}'
    value["data"] = decode.parse(text)
    event = decode.judged(value, now, "", "", partial(read, backfill=backfill))
    return Sent([event], single=True, form=FORM, raws=lambda: [structured], inside=_pointer)


def _unescaped(text: str) -> str:
    """A header's value: percent-encoded UTF-8 in ASCII, as the HTTP binding has it."""
    try:
        return unquote_to_bytes(text).decode()
    except ValueError:  # a lone byte or a character that no header may hold: told by what reads it
        return text


def read(value: object, *, now: datetime, backfill: Span | None = None) -> Reported:
    """The event or correction in a CloudEvent, or the first reason why there is none."""
    if not isinstance(value, dict):
        raise Rejected("not_an_object", "", "A CloudEvent is a JSON object. Send one object each.")
    _is_one_of_ours(value)
    data = value.get("data")
    if not isinstance(data, dict):
        raise _invalid("data", "must be a JSON object: a native event without id, source and time")
    for name in ENVELOPE.values():
        if name in data:
            raise _invalid(f"data/{name}", "stands in the CloudEvent's own attributes, not in data")
    native = {ENVELOPE[name]: value[name] for name in ENVELOPE if name in value} | data
    if "voids" in data:  # the envelope's time says when it was taken back, which counts nowhere
        native.pop("occurred_at", None)
    try:
        return correction.read(native, now=now, backfill=backfill)
    except Rejected as rejected:
        rejected.pointer = _pointer(rejected.pointer)
        raise


def _is_one_of_ours(value: Mapping[str, object]) -> None:
    if value.get("specversion") != "1.0" or isinstance(value["specversion"], OddNumber):
        raise _invalid("specversion", 'must be the string "1.0"')
    if value.get("type") != TYPE:
        raise _invalid("type", f"must be {TYPE!r}; other types are not usage and belong elsewhere")
    if "data_base64" in value:
        raise _invalid("data_base64", "is not taken; send data as a JSON object")
    media_type = value.get("datacontenttype")
    if media_type is not None:
        plain = str(media_type).partition(";")[0].strip().lower()
        if plain != "application/json" and not plain.endswith("+json"):
            raise _invalid("datacontenttype", "must be application/json, or be left out")


def _invalid(name: str, said: str) -> Rejected:
    shown = name.replace("/", ".")
    return Rejected("cloudevent_invalid", f"/{name}", f"{shown} {said}. Mend it and send it again.")


def _pointer(pointer: str) -> str:
    """Where a fault of the native event stands in the CloudEvent."""
    for name, native in ENVELOPE.items():
        if pointer == f"/{native}":
            return f"/{name}"
    return f"/data{pointer}"
