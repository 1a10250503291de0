"""What an HTTP request says before anybody looks at its events: method, size, type, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl

from accounts.bearer import key_in
from accounts.problems import Problem
from metering.ingest import cloudevents
from metering.ingest.decode import BODY_BYTES_MAX, Refusal
from metering.ingest.inflate import STEPS

JSON = "application/json"
# A body has ten seconds, and one more for each 64 KiB of it that came: 5 MiB may take a minute and
# a half, one byte a second may take ten seconds.
BODY_WAIT_S = 10
BODY_BYTES_PER_S = 1 << 16
CLOSE = (("Connection", "close"),)


class Request(NamedTuple):
    """A request without its body, whichever server took it. Header names in small letters."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


def joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The headers by name; the values of one that came more than once together, as CGI has them.

    Two keys, types or encodings are then none that we know, whichever of them would have been good.
    """
    headers = dict(pairs)
    if len(headers) != len(pairs):
        for name in headers:
            headers[name] = ",".join(value for other, value in pairs if other == name)
    return headers


@dataclass(frozen=True, slots=True)
class Parameters:
    """How the sender wants to be answered."""

    only_errors: bool = False
    atomic: bool = False
    backfill: int | None = None


BACKFILL = "backfill"
_VALUES: Mapping[str, Sequence[str]] = {
    "only": ("errors", "all"),
    "mode": ("partial", "atomic"),
    BACKFILL: (),  # a number
}


def parameters(query: str, *, allowed: Mapping[str, Sequence[str]] = _VALUES) -> Parameters:
    """The query's parameters, each known, each at most once."""
    if not query:
        return Parameters()
    return _common(query) if allowed is _VALUES and len(query) <= 64 else _parsed(query, allowed)


@lru_cache(maxsize=256)
def _common(query: str) -> Parameters:
    """Senders ask the same of every request."""
    return _parsed(query, _VALUES)


def _parsed(query: str, allowed: Mapping[str, Sequence[str]]) -> Parameters:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            known = " and ".join(allowed) or "there are none"
            raise _bad_parameter(f"{name[:40]!a} is not a parameter here: {known}.")
        if name in found:
            raise _bad_parameter(f"{name} is given more than once; give it once.")
        if name == BACKFILL:
            if not (value.isascii() and value.isdigit() and len(value) <= 18):
                raise _bad_parameter(f"{name} is {value[:40]!a}; it is the number of a backfill.")
        elif value not in allowed[name]:
            possible = " or ".join(allowed[name])
            raise _bad_parameter(f"{name} is {value[:40]!a}; it can be {possible}.")
        found[name] = value
    return Parameters(
        only_errors=found.get("only") == "errors",
        atomic=found.get("mode") == "atomic",
        backfill=int(found[BACKFILL]) if BACKFILL in found else None,
    )


def _bad_parameter(detail: str) -> Refusal:
    return Refusal(Problem("invalid_parameter", detail))


def declared_length(request: Request) -> int | None:
    """What Content-Length says, within bounds; None where the body comes in chunks."""
    text = request.headers.get("content-length") or ""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _bad_parameter("Content-Length is not a number.")
    length = int(text)
    if length > BODY_BYTES_MAX:
        raise _too_large(length)
    return length


def _too_large(received: int) -> Refusal:
    detail = f"The body has {received} bytes or more; at most {BODY_BYTES_MAX} are allowed."
    return Refusal(
        Problem("body_too_large", detail, {"limit": BODY_BYTES_MAX, "received": received})
    )


def bearer(request: Request) -> str:
    """The text after `Authorization: Bearer`."""
    found = key_in(request.headers.get("authorization") or "")
    if isinstance(found, Problem):
        raise Refusal(found)
    return found


class Form(Enum):
    """What a body is made of."""

    JSON = "application/json"
    LINES = "application/x-ndjson"
    CLOUDEVENT = cloudevents.STRUCTURED
    CLOUDEVENTS = cloudevents.BATCH
    BINARY = "application/json with ce- headers"


_FORMS = {form.value: form for form in Form if form is not Form.BINARY}
_FORMS["application/ndjson"] = Form.LINES


def form(request: Request) -> Form:
    """What the headers say the body is; a refusal where it is nothing we take."""
    media_type = media_type_of(request)
    found = _FORMS.get(media_type)
    if found is None:
        detail = f"Content-Type is {media_type[:60]!a}; it can be {' or '.join(_FORMS)}."
        raise Refusal(Problem("unsupported_media_type", detail))
    if not cloudevents.is_binary(request.headers):
        return found
    if found is not Form.JSON:
        detail = f"With ce- headers the body is data alone: {JSON}, not {media_type}."
        raise Refusal(Problem("unsupported_media_type", detail))
    return Form.BINARY


def media_type_of(request: Request) -> str:
    """The Content-Type without its parameters; a charset other than UTF-8 is refused."""
    sent = request.headers.get("content-type") or ""
    if sent == JSON:
        return JSON
    media_type, _, rest = sent.partition(";")
    charset = rest.lower().replace(" ", "").replace('"', "")
    if "charset=" in charset and "charset=utf-8" not in charset:
        detail = "The charset is not utf-8; JSON is sent in UTF-8 here."
        raise Refusal(Problem("unsupported_media_type", detail))
    return media_type.strip().lower()


def encoding(request: Request) -> str | None:
    """How the body is compressed; None where it is sent as it is."""
    sent = (request.headers.get("content-encoding") or "").strip().lower()
    if sent in ("", "identity"):
        return None
    name = sent.removeprefix("x-") if sent == "x-gzip" else sent
    if name not in STEPS:
        detail = f"Content-Encoding is {sent[:40]!a}; it can be {' or '.join(STEPS)}, and only one."
        raise Refusal(
            Problem("unsupported_encoding", detail), [("Accept-Encoding", ", ".join(STEPS))]
        )
    return name


def refuse_unmeasured(length: int | None, *, lines: bool, atomic: bool) -> None:
    """All or nothing needs to know what all is: JSON says where it ends, lines do not.

    A server may report a body whose last chunk never came as if it had ended there.
    """
    if length is None and lines and atomic:
        raise _bad_parameter(
            "mode=atomic takes NDJSON only with a Content-Length: without one, lines that were cut "
            "off on the way look like all of them. Declare the length, or send a JSON array."
        )


@dataclass(slots=True)
class Intake:
    """A body on its way in: never more than is allowed, whether or not its length was declared."""

    length: int | None
    received: int = 0
    chunks: list[bytes] = field(default_factory=list)

    def add(self, chunk: bytes) -> None:
        """One more piece."""
        self.received += len(chunk)
        if self.received > BODY_BYTES_MAX:
            raise _too_large(self.received)
        self.chunks.append(chunk)

    def wanted(self) -> int:
        """How many bytes are still to be read: all that were declared, or one past the limit."""
        return (BODY_BYTES_MAX + 1 if self.length is None else self.length) - self.received

    def whole(self) -> bytes:
        """The body; a refusal where some of it never came."""
        if self.length is not None and self.received < self.length:
            raise cut_short(self.received, self.length)
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


def cut_short(received: int, length: int | None) -> Refusal:
    """The sender went away before all of the body had come, or sent trailers, which none may."""
    of = "" if length is None else f" of {length}"
    detail = f"The body ended after {received}{of} bytes; nothing was stored."
    return Refusal(Problem("request_timeout", detail))


def too_slow(received: int, length: int | None) -> Refusal:
    """The body comes more slowly than anybody waits for."""
    of = "" if length is None else f" of {length}"
    detail = (
        f"Only {received}{of} bytes of the body came in time: a body has {BODY_WAIT_S} s, and a "
        f"second more for each {BODY_BYTES_PER_S} bytes of it that came. Nothing was stored."
    )
    return Refusal(Problem("request_timeout", detail), CLOSE)
