"""Usage of long ago: opened, sent, and closed once all of it was taken.

Opening, closing and reverting are calls that answer at once and raise; what is sent goes through a
meter and its spool, as ever. Nothing here reverts by itself, because that spends the events' ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from kilotoken.counting import Counts
from kilotoken.meter import Meter
from kilotoken.posting import ANSWER_BYTES_MAX, EVENTS_PATH, TIMEOUT_S, connect

PATH = "/api/v1/ingest/backfills"
DRAIN_S = 3600.0


class BackfillError(Exception):
    """The server refused, or something of what was sent is not with it: the message says what."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Backfills:
    """Opens, closes and reverts backfills. The key needs the scopes `read` and `manage`."""

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url.rstrip("/").removesuffix(EVENTS_PATH))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address: give one such as https://meter.example.com")
        self._url = parts
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def open(self, *, reason: str, start: datetime, end: datetime) -> dict[str, Any]:
        """Open one for events that happened in [start, end); its number is `id`."""
        body = {"reason": reason, "start": _wire(start), "end": _wire(end)}
        return self._ask("POST", "", body)

    def get(self, number: int) -> dict[str, Any]:
        """What is in it, and how much of that is in the readings."""
        return self._ask("GET", f"/{number}")

    def close(self, number: int) -> dict[str, Any]:
        """Let everything in it count. Safe to repeat."""
        return self._ask("POST", f"/{number}/close")

    def revert(self, number: int) -> dict[str, Any]:
        """Let nothing in it count, for good: the ids of its events stay spent. Safe to repeat."""
        return self._ask("POST", f"/{number}/revert")

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        connection = connect(self._url, self._timeout_s)
        try:
            sent = None if body is None else json.dumps(body)
            address = f"{self._url.path}{PATH}{path}"
            connection.request(method, address, sent, self._headers)
            response = connection.getresponse()
            said = _object(response.read(ANSWER_BYTES_MAX))
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            code = str(said.get("code", response.status))
            raise BackfillError(code, str(said.get("detail", response.reason)))
        return said


@contextmanager
def backfill(
    url: str,
    key: str,
    source: str,
    *,
    number: int | None = None,
    reason: str = "",
    start: datetime | None = None,
    end: datetime | None = None,
    api_url: str | None = None,
    drain_s: float = DRAIN_S,
    **options: Any,
) -> Iterator[Meter]:
    """A meter whose events go into a backfill, which is closed when all of them were taken.

    `number` goes on with one that is open; otherwise one is opened, by `reason`, `start` and `end`.
    It stays open where the block raises, and with BackfillError where anything was not taken: what
    waits is in the spool, what was refused among the dead letters. `api_url` is where the API
    stands, if that is not where events go; `options` are those of `Meter`.
    """
    manager = Backfills(api_url or url, key)
    if number is None:
        if start is None or end is None:
            raise ValueError("a new backfill needs start and end, or number names an open one")
        number = int(manager.open(reason=reason, start=start, end=end)["id"])
    with Meter(url, key, source, backfill=number, **options) as meter:
        yield meter
        sent = meter.flush(drain_s)
        missing = _missing(meter.counts)
        if not sent:
            missing = "some events still wait in the spool"
    if missing:
        raise BackfillError(
            "backfill_incomplete",
            f"backfill {number} stays open: {missing}. Go on with number={number}, or close it.",
        )
    manager.close(number)


def _missing(counts: Counts) -> str | None:
    """What was recorded and is not with the server."""
    lost = {
        name: value
        for name in ("conflict", "rejected", "invalid", "dropped", "unmeasured")
        if (value := getattr(counts, name))
    }
    return ", ".join(f"{value} {name}" for name, value in lost.items()) or None


def _wire(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("start and end need a time zone, or they name no moment")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
