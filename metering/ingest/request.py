"""What an HTTP request says before anybody looks at its events: method, size, type, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

from accounts.problems import Problem
from metering.ingest import cloudevents
from metering.ingest.decode import BODY_BYTES_MAX, Refusal
from metering.ingest.inflate import STEPS

JSON = "application/json"
CHUNK_BYTES = 1 << 16

Environ = dict[str, Any]


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


def declared_length(environ: Environ) -> int | None:
    """What Content-Length says, within bounds; None where the body comes in chunks."""
    text = environ.get("CONTENT_LENGTH") or ""
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


def bearer(environ: Environ) -> str:
    """The text after `Authorization: Bearer`."""
    scheme, _, text = (environ.get("HTTP_AUTHORIZATION") or "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        detail = "The Authorization header holds no Bearer key."
        raise Refusal(Problem("missing_credentials", detail))
    return text


class Form(Enum):
    """What a body is made of."""

    JSON = "application/json"
    LINES = "application/x-ndjson"
    CLOUDEVENT = cloudevents.STRUCTURED
    CLOUDEVENTS = cloudevents.BATCH
    BINARY = "application/json with ce- headers"


_FORMS = {form.value: form for form in Form if form is not Form.BINARY}
_FORMS["application/ndjson"] = Form.LINES


def form(environ: Environ) -> Form:
    """What the headers say the body is; a refusal where it is nothing we take."""
    media_type = media_type_of(environ)
    found = _FORMS.get(media_type)
    if found is None:
        detail = f"Content-Type is {media_type[:60]!a}; it can be {' or '.join(_FORMS)}."
        raise Refusal(Problem("unsupported_media_type", detail))
    if not cloudevents.is_binary(environ):
        return found
    if found is not Form.JSON:
        detail = f"With ce- headers the body is data alone: {JSON}, not {media_type}."
        raise Refusal(Problem("unsupported_media_type", detail))
    return Form.BINARY


def media_type_of(environ: Environ) -> str:
    """The Content-Type without its parameters; a charset other than UTF-8 is refused."""
    sent = environ.get("CONTENT_TYPE") or ""
    media_type, _, rest = sent.partition(";")
    charset = rest.lower().replace(" ", "").replace('"', "")
    if "charset=" in charset and "charset=utf-8" not in charset:
        detail = "The charset is not utf-8; JSON is sent in UTF-8 here."
        raise Refusal(Problem("unsupported_media_type", detail))
    return str(media_type.strip().lower())


def encoding(environ: Environ) -> str | None:
    """How the body is compressed; None where it is sent as it is."""
    sent = (environ.get("HTTP_CONTENT_ENCODING") or "").strip().lower()
    if sent in ("", "identity"):
        return None
    name = sent.removeprefix("x-") if sent == "x-gzip" else sent
    if name not in STEPS:
        detail = f"Content-Encoding is {sent[:40]!a}; it can be {' or '.join(STEPS)}, and only one."
        raise Refusal(
            Problem("unsupported_encoding", detail, {"accept_encoding": ", ".join(STEPS)})
        )
    return name


def refuse_unmeasured(length: int | None, *, lines: bool, atomic: bool) -> None:
    """All or nothing needs to know what all is: JSON says where it ends, lines do not.

    The server reports a body whose last chunk never came as if it had ended there.
    """
    if length is None and lines and atomic:
        raise _bad_parameter(
            "mode=atomic takes NDJSON only with a Content-Length: without one, lines that were cut "
            "off on the way look like all of them. Declare the length, or send a JSON array."
        )


def body(environ: Environ, length: int | None) -> bytes:
    """The whole body, never more than is allowed, whether or not its length was declared."""
    stream = environ["wsgi.input"]
    wanted = BODY_BYTES_MAX + 1 if length is None else length
    chunks: list[bytes] = []
    received = 0
    while received < wanted:
        size = wanted - received if length else min(CHUNK_BYTES, wanted - received)
        chunk = _read(stream, size)
        if not chunk:
            break
        chunks.append(chunk)
        received += len(chunk)
    if received > BODY_BYTES_MAX:
        raise _too_large(received)
    if length is not None and received < length:
        detail = f"The body ended after {received} of {length} bytes; nothing was stored."
        raise Refusal(Problem("request_timeout", detail))
    return b"".join(chunks)


def _read(stream: Any, size: int) -> bytes:
    """Some more of the body; nothing where the sender is gone."""
    try:
        return bytes(stream.read(size))
    except OSError:
        return b""
