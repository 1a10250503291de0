"""The ingestion door over WSGI: for the web process, which answers both doors, and for tests.

A thread waits for each body here. The process that is made for ingestion runs `rsgi`, where a
slow or silent sender holds nothing but its own connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from metering.ingest import door
from metering.ingest.answer import Answer
from metering.ingest.door import Admitted
from metering.ingest.request import Intake, Request

CHUNK_BYTES = 1 << 16

# A server starts this module by itself; the settings it reads lazily need their name.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request; whatever happens, in JSON and with a request id."""
    request_id, asked = door.new_request_id(), _request(environ)
    admitted: Admitted | Answer | None = None
    try:
        admitted = door.admit(asked)
        if isinstance(admitted, Answer):
            reply = admitted
        else:
            sent = door.understand(admitted, _body(admitted, environ["wsgi.input"]))
            reply = door.answer(admitted, sent, request_id=request_id)
    except Exception as error:
        reply = door.failed(error, asked, request_id=request_id)
    headers = door.headers_of(reply, admitted, request_id=request_id)
    headers.append(("Content-Length", str(len(reply.body))))
    start_response(f"{reply.status.value} {reply.status.phrase}", headers)
    return [reply.body]


def _request(environ: Environ) -> Request:
    headers = {_header(name): value for name, value in environ.items() if name.startswith("HTTP_")}
    for name, variable in (("content-type", "CONTENT_TYPE"), ("content-length", "CONTENT_LENGTH")):
        headers[name] = environ.get(variable) or ""
    return Request(
        environ["REQUEST_METHOD"],
        environ.get("PATH_INFO", ""),
        environ.get("QUERY_STRING", ""),
        headers,
    )


def _header(variable: str) -> str:
    """The name of a header from CGI's; an attribute of a CloudEvent never has a hyphen."""
    if variable.startswith("HTTP_CE_"):
        return "ce-" + variable[8:].lower()
    return variable[5:].replace("_", "-").lower()


def _body(admitted: Admitted, stream: Any) -> bytes:
    """The whole body, never more than is allowed."""
    intake = Intake(admitted.length)
    while (wanted := intake.wanted()) > 0:
        chunk = _read(stream, wanted if admitted.length else min(CHUNK_BYTES, wanted))
        if not chunk:
            break
        admitted.add(intake, chunk)
    return intake.whole()


def _read(stream: Any, size: int) -> bytes:
    """Some more of the body; nothing where the sender is gone."""
    try:
        return bytes(stream.read(size))
    except OSError:
        return b""
