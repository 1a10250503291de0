"""Where in a JSON text a pointer leads: the line and column that an editor shows."""

import json
import re
from typing import NamedTuple

_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Place(NamedTuple):
    """Both count from one."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


def place_of(text: str, pointer: str) -> Place | None:
    """Return where the value at a JSON pointer (RFC 6901) begins; of one that is missing, where
    what should hold it begins. None for a text that is no JSON."""
    try:
        at = _blank(text, 0)
        _DECODER.raw_decode(text, at)
        for name in pointer.split("/")[1:]:
            found = _member(text, at, name.replace("~1", "/").replace("~0", "~"))
            if found is None:
                break
            at = found
    except (ValueError, RecursionError):
        return None
    return Place(text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _member(text: str, at: int, name: str) -> int | None:
    """Return where the member of an object or list of this name begins."""
    holder, at = text[at], _blank(text, at + 1)
    index = 0
    while holder in "{[" and text[at] not in "}]":
        key = str(index)
        if holder == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _blank(text, _blank(text, at) + 1)  # the colon
        if key == name:
            return at
        _, at = _DECODER.raw_decode(text, at)
        at = _blank(text, at)
        at = _blank(text, at + 1) if text[at] == "," else at
        index += 1
    return None


def _blank(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None, "it matches nothing too"
    return found.end()
