"""A server that answers POST /api/v1/events by the contract, and otherwise only when told to."""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Got:
    """One request as it came."""

    headers: Mapping[str, str]
    path: str
    raw: bytes
    ids: list[str] = field(default_factory=list)


@dataclass
class Say:
    """An answer instead of the ordinary one; `cut` closes the connection without a word."""

    status: int = 503
    code: str = "temporarily_unavailable"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    store: bool = False  # store first, as a server does whose answer gets lost


BACKFILLS = "/api/v1/ingest/backfills"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed and connections cut in these tests: not worth a traceback."""


class FakeKilotoken:
    """Stores by (source, id), like the real one; `next_answers` are given first, in order."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.got: list[Got] = []
        self.backfills: dict[int, dict[str, Any]] = {}
        self.in_backfill: dict[int, list[str]] = {}
        self.next_answers: deque[Say] = deque()
        self.always: Say | None = None
        self.reject: Callable[[dict[str, Any]], tuple[str, bool] | None] = lambda _event: None
        self.reads_gzip = False
        self.offers_gzip = False
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if self.path.startswith(BACKFILLS):
                    fake._backfill(self)
                else:
                    fake._handle(self)

            def do_GET(self) -> None:
                fake._backfill(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> FakeKilotoken:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(self.stored.values())

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        got = Got(dict(request.headers), request.path, raw)
        with self._lock:
            self.got.append(got)
            say = self.next_answers.popleft() if self.next_answers else self.always
        if request.headers.get("Content-Encoding") == "gzip":
            if not self.reads_gzip:
                self._say(request, 415, {"code": "unsupported_encoding"}, {})
                return
            raw = gzip.decompress(raw)
        events = json.loads(raw)
        got.ids = [event["id"] for event in events]
        _, _, number = request.path.partition("backfill=")
        if number and self.backfills[int(number)]["state"] != "open":
            self._say(request, 409, {"code": "backfill_not_open", "detail": "It is closed."}, {})
            return
        if say is None:
            if number:
                self.in_backfill.setdefault(int(number), []).extend(got.ids)
            status, body = self._take(events)
            self._say(request, status, body, {})
            return
        if say.store:
            self._take(events)
        if say.cut:
            request.close_connection = True
            request.connection.close()
            return
        self._say(request, say.status, {"code": say.code, "detail": "as told"}, say.headers)

    def _backfill(self, request: BaseHTTPRequestHandler) -> None:
        """Opening, closing, reverting and reading, as docs/reference/api.md has them."""
        raw = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        number, _, step = request.path.removeprefix(BACKFILLS).strip("/").partition("/")
        if not number:
            made = {"id": len(self.backfills) + 1, "state": "open", **json.loads(raw)}
            self.backfills[made["id"]] = made
            self._say(request, 201, made, {})
            return
        found = self.backfills.get(int(number))
        if found is None:
            self._say(request, 404, {"code": "unknown_backfill", "detail": "There is none."}, {})
            return
        if step:
            found["state"] = {"close": "closed", "revert": "reverted"}[step]
        self._say(request, 200, found, {})

    def _say(
        self, request: BaseHTTPRequestHandler, status: int, body: Any, headers: Mapping[str, str]
    ) -> None:
        data = json.dumps(body).encode()
        request.send_response(status)
        if self.offers_gzip:
            request.send_header("Accept-Encoding", "gzip")
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)

    def _take(self, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        counts = dict.fromkeys(("accepted", "duplicate", "conflict", "rejected"), 0)
        listed = []
        with self._lock:
            for index, event in enumerate(events):
                status, code, retryable = self._outcome(event)
                counts[status] += 1
                if code:
                    listed.append({"index": index, "id": event["id"], "status": status,
                                   "code": code, "pointer": f"/{index}", "detail": f"{code}!",
                                   "retryable": retryable})  # fmt: skip
        status_code = 202 if not listed else 422 if len(listed) == len(events) else 207
        return status_code, {"submitted": len(events), **counts, "events": listed}

    def _outcome(self, event: dict[str, Any]) -> tuple[str, str | None, bool]:
        if refused := self.reject(event):
            return "rejected", refused[0], refused[1]
        key = (event["source"], event["id"])
        if key not in self.stored:
            self.stored[key] = event
            return "accepted", None, False
        if self.stored[key] == event:
            return "duplicate", None, False
        return "conflict", "event_conflict", False
