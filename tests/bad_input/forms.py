"""The forms in which events reach the door, and how an event is written in each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.bad_input.events import Written

TYPE = "kilotoken.usage.v1"
ENVELOPE = {"id": "id", "source": "source", "occurred_at": "time"}

Event = Mapping[str, object]
Environ = dict[str, Any]


def written(value: object) -> str:
    """JSON in which `Written` text stands as it is."""
    verbatim: dict[str, str] = {}

    def marked(one: object) -> object:
        match one:
            case Written():
                mark = f"@@{len(verbatim)}@@"
                verbatim[f'"{mark}"'] = str(one)
                return mark
            case dict():
                return {name: marked(inner) for name, inner in one.items()}
            case list():
                return [marked(inner) for inner in one]
        return one

    text = json.dumps(marked(value))
    for mark, said in verbatim.items():
        text = text.replace(mark, said)
    return text


def cloudevent(event: Event) -> dict[str, object]:
    """The CloudEvent that a native event is."""
    attributes: dict[str, object] = {"specversion": "1.0", "type": TYPE}
    attributes |= {ENVELOPE[name]: event[name] for name in ENVELOPE if name in event}
    data = {name: value for name, value in event.items() if name not in ENVELOPE}
    return {**attributes, "data": data}


def _in_cloudevent(pointer: str) -> str:
    name = pointer.removeprefix("/")
    return f"/{ENVELOPE[name]}" if name in ENVELOPE else f"/data{pointer}"


@dataclass(frozen=True)
class Form:
    """One form: its media type, how the text of one event and of a body is made."""

    name: str
    media_type: str
    text: Callable[[Event], str]
    body: Callable[[Sequence[str]], str] = "".join
    many: bool = False
    pointer: Callable[[str], str] = str

    def place(self, index: int) -> str:
        """Where an event stands in the answer's pointers."""
        return f"/{index}" if self.many else ""

    def headers(self, event: Event) -> Environ:
        """What of the event stands in headers: nothing but in binary mode."""
        if self is not BINARY:
            return {}
        attributes = {name: one for name, one in cloudevent(event).items() if name != "data"}
        return {
            f"HTTP_CE_{name.upper()}": quote(str(one), safe=" :/+")
            for name, one in attributes.items()
        }


def _array(texts: Sequence[str]) -> str:
    return f"[{', '.join(texts)}]"


def _structured(event: Event) -> str:
    return written(cloudevent(event))


ARRAY = Form("array", "application/json", written, _array, many=True)
LINES = Form("lines", "application/x-ndjson", written, "\n".join, many=True)
OBJECT = Form("object", "application/json", written)
BATCH = Form("cloudevents", "application/cloudevents-batch+json", _structured, _array, many=True,
             pointer=_in_cloudevent)  # fmt: skip
STRUCTURED = Form("cloudevent", "application/cloudevents+json", _structured,
                  pointer=_in_cloudevent)  # fmt: skip
BINARY = Form("binary", "application/json", lambda event: written(cloudevent(event)["data"]),
              pointer=_in_cloudevent)  # fmt: skip
FORMS = (ARRAY, LINES, OBJECT, BATCH, STRUCTURED, BINARY)

PLACES = {"first": (0,), "middle": (1,), "last": (2,), "all": (0, 1, 2)}
CELLS = [
    (form, place, mode)
    for form in FORMS
    for place in (PLACES if form.many else ("only",))
    for mode in ("partial", "atomic")
]


def bad_places(place: str) -> tuple[int, ...]:
    """Which of the events of a body are bad."""
    return PLACES.get(place, (0,))


def cell_name(form: Form, place: str, mode: str) -> str:
    """How a test of this cell is called."""
    return f"{form.name}-{place}-{mode}"


def fits_a_header(event: Event) -> bool:
    """Whether a CloudEvent's attributes can be headers at all: text, and whole characters."""
    values = [event[name] for name in ENVELOPE if name in event]
    try:
        return all(type(one) is str and one.encode() is not None for one in values)
    except UnicodeEncodeError:
        return False
