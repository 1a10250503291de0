"""RELIABILITY section 6.2, the rows about a whole request: nothing of it is looked at or stored."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from typing import NamedTuple

from backports import zstd

from metering.ingest.decode import BODY_BYTES_MAX

UNKNOWN_KEY = f"kt_zzzzzzzzzzzz_{'a' * 43}"


class Envelope(NamedTuple):
    """One fault of a request."""

    number: int
    rule: str
    environ: Mapping[str, str]  # what the headers, the method or the path are instead
    status: int
    code: str
    says: str
    headers: Mapping[str, str] = {}  # of the answer
    query: str = ""
    body: Callable[[bytes], bytes] = bytes  # what becomes of a good body


def _as(scheme: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": scheme}


def _coded(name: str) -> dict[str, str]:
    return {"HTTP_CONTENT_ENCODING": name}


def _path(path: str) -> dict[str, str]:
    return {"PATH_INFO": path}


def _always(body: bytes) -> Callable[[bytes], bytes]:
    return lambda _: body


_ASKED = {"WWW-Authenticate": 'Bearer realm="kilotoken"'}
_PACKED = {"gzip": gzip.compress, "zstd": zstd.compress}
_BOMB = bytes(BODY_BYTES_MAX + 1)
_POST = {"Allow": "POST"}

ENVELOPES: tuple[Envelope, ...] = (
    *(Envelope(1, f"Authorization is {text!a}", _as(text), 401, "missing_credentials",
               "Authorization header holds no Bearer key", _ASKED)
      for text in ("", "Basic abc", "Bearer", "Bearer ", "kt_x_y", "Token kt_x_y")),
    *(Envelope(2, f"the key is {what}", _as(f"Bearer {key}"), 401, "invalid_api_key",
               "No valid API key reads like the one sent", _ASKED)
      for what, key in (("unknown", UNKNOWN_KEY), ("nonsense", "nonsense"), ("not ASCII", "kt_ü"),
                        ("too long", "kt_" + "x" * 9_000))),
    *(Envelope(2, f"two keys came{where}", _as(f"Bearer {UNKNOWN_KEY},{more}"), 401,
               "invalid_api_key", "more than one key, or came twice", _ASKED)
      for where, more in (("", "Bearer kt_x"), (" in one header", " kt_x"))),
    *(Envelope(8, f"the media type is {kind!a}", {"CONTENT_TYPE": kind}, 415,
               "unsupported_media_type", "it can be application/json or application/x-ndjson")
      for kind in ("", "text/plain", "application/xml", "multipart/form-data; boundary=x")),
    Envelope(8, "the charset is latin-1", {"CONTENT_TYPE": "application/json; charset=latin-1"},
             415, "unsupported_media_type", "UTF-8"),
    *(Envelope(9, f"the encoding is {name}", _coded(name), 415, "unsupported_encoding",
               "it can be gzip or zstd", {"Accept-Encoding": "gzip, zstd"})
      for name in ("br", "deflate", "gzip, gzip", "x")),
    Envelope(10, "the body is declared too large", {"CONTENT_LENGTH": str(BODY_BYTES_MAX + 1)},
             413, "body_too_large", "5242881 bytes or more; at most 5242880"),
    Envelope(10, "the body is too large in chunks", {"CONTENT_LENGTH": ""}, 413, "body_too_large",
             "at most 5242880", body=_always(_BOMB)),
    *(Envelope(11, f"{name} unpacks without end", _coded(name), 413, "decompressed_too_large",
               "more than the 5242880 bytes", body=_always(pack(_BOMB)))
      for name, pack in _PACKED.items()),
    *(Envelope(12, f"{name} is cut short", _coded(name), 400, "bad_encoding", r"byte \d+",
               body=lambda good, pack=pack: pack(good)[:-6])
      for name, pack in _PACKED.items()),
    *(Envelope(12, f"{name} is none", _coded(name), 400, "bad_encoding", r"byte \d+",
               body=_always(b"not at all"))
      for name in _PACKED),
    Envelope(13, "the body is empty", {}, 400, "empty_body", "at least one event",
             body=_always(b"")),
    Envelope(13, "the body is blank", {}, 400, "empty_body", "at least one event",
             body=_always(b" \r\n\t")),
    Envelope(14, "the body is UTF-16", {}, 400, "not_utf8", "byte 0",
             body=lambda good: good.decode().encode("utf-16")),
    Envelope(14, "the body begins with a mark", {}, 400, "not_utf8", "byte order mark at byte 0",
             body=lambda good: b"\xef\xbb\xbf" + good),
    Envelope(14, "a byte is none of UTF-8", {}, 400, "not_utf8", r"byte \d+ cannot be decoded",
             body=lambda good: good + b"\xff"),
    *(Envelope(67, f"the query is {query}", {}, 400, "invalid_parameter", says, query=query)
      for query, says in (("mode=partial&mode=atomic", "more than once"),
                          ("colour=red", "not a parameter here"), ("only=", "errors or all"),
                          ("mode=maybe", "partial or atomic"), ("mode", "partial or atomic"))),
    *(Envelope(68, f"the method is {method}", {"REQUEST_METHOD": method}, 405,
               "method_not_allowed", "takes POST only", _POST)
      for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")),
    *(Envelope(68, f"the path is {path}", _path(path), 404, "not_found", "/api/v1/events")
      for path in ("/api/v1/events/", "/api/v1/event", "/", "//api/v1/events", "/api/v2/events")),
    *(Envelope(70, f"the length is {length}", {"CONTENT_LENGTH": length}, 400,
               "invalid_parameter", "not a number")
      for length in ("-1", "1e3", "ten", "9" * 30)),
    Envelope(70, "the sender goes away half way", {}, 408, "request_timeout",
             "nothing was stored", body=lambda good: good[: len(good) // 2]),
)  # fmt: skip


class Body(NamedTuple):
    """A body that is JSON, and of the wrong shape for its form."""

    number: int
    rule: str
    form: str
    text: str
    status: int
    code: str
    says: str


_TOO_MANY = 1_001
_SHAPES = {"null": "null", "a number": "12", "a text": '"text"', "a truth": "true"}

BODIES: tuple[Body, ...] = (
    *(Body(20, f"{form} is {what}", form, text, 400, "wrong_shape", "neither an object nor")
      for form in ("array", "object") for what, text in _SHAPES.items()),
    *(Body(20, f"{form} is {what}", form, text, 400, "wrong_shape", "must be")
      for form in ("cloudevents", "cloudevent") for what, text in _SHAPES.items()),
    Body(20, "a batch is one CloudEvent", "cloudevents", "{}", 400, "wrong_shape", "an array"),
    Body(20, "a CloudEvent is a batch", "cloudevent", "[{}]", 400, "wrong_shape", "one CloudEvent"),
    Body(21, "an empty array", "array", "[]", 422, "empty_batch", "at least one event"),
    Body(21, "an empty batch", "cloudevents", " [ ] ", 422, "empty_batch", "at least one event"),
    Body(22, "too many in an array", "array", f"[{','.join(['{}'] * _TOO_MANY)}]", 413,
         "too_many_events", "holds 1001 events; at most 1000"),
    Body(22, "too many lines", "lines", "{}\n" * _TOO_MANY, 413, "too_many_events",
         "holds 1001 events; at most 1000"),
    Body(22, "too many CloudEvents", "cloudevents", f"[{','.join(['{}'] * _TOO_MANY)}]", 413,
         "too_many_events", "holds 1001 events; at most 1000"),
)  # fmt: skip

# Items that are JSON and no event: each is rejected alone where there are several.
ITEMS = {"null": "null", "a number": "7", "a text": '"x"', "an array": "[]", "a truth": "true"}
