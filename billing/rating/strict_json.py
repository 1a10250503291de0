"""JSON that says one thing only: no key twice, nothing that is no number, not too deep."""

import json
from typing import NoReturn

DEPTH_MAX = 32


class NotStrict(ValueError):
    """The text is no JSON, or JSON that can be read in two ways; the message says where.

    code: one of malformed_json, not_utf8, duplicate_key, too_deep.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(text: str | bytes) -> object:
    """Return the value of a JSON text. NotStrict for one that cannot be believed."""
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        value = _STRICT.decode(decoded.strip(" \t\r\n"))
    except UnicodeDecodeError as wrong:
        raise NotStrict("not_utf8", f"no UTF-8 at byte {wrong.start}") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as wrong:
        at = f"line {wrong.lineno}, column {wrong.colno}"
        raise NotStrict("malformed_json", f"no JSON: {wrong.msg} at {at}") from None
    _refuse_depth(value)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotStrict(
            "duplicate_key", f"an object has the key {twice[:40]!a} twice; send it once"
        )
    return found


def _constant(name: str) -> NoReturn:
    raise NotStrict("malformed_json", f"{name} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > 40:  # longer than any quantity, and slow to read
        raise NotStrict("malformed_json", f"a number of {len(text)} digits")
    return int(text)


def _refuse_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise _too_deep()


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep() -> NotStrict:
    return NotStrict("too_deep", f"nested more than {DEPTH_MAX} deep; flatten it")


_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
