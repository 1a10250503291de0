"""One POST to the server over a kept connection. What the answer means is sending.py's to say."""

from __future__ import annotations

import gzip
import http.client
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

EVENTS_PATH = "/api/v1/events"
ANSWER_BYTES_MAX = 8 * 1024 * 1024
TIMEOUT_S = 60.0


class Unreachable(Exception):
    """No answer came: nobody knows whether the server stored anything. Sending again is safe."""


@dataclass(frozen=True)
class Answer:
    """What the server said; header names in small letters."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Poster:
    """Posts batches to one address with one key. Not for several threads at once."""

    def __init__(
        self, url: str, key: str, *, backfill: int | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url = _events_url(url)
        self._query = "only=errors" if backfill is None else f"only=errors&backfill={backfill}"
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "User-Agent": "kilotoken-python",
        }
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, *, compress: bool = False) -> Answer:
        """Send one batch and read the answer, or raise Unreachable."""
        headers = dict(self._headers)
        if compress:
            body = gzip.compress(body, compresslevel=6, mtime=0)
            headers["Content-Encoding"] = "gzip"
        kept = self._connection is not None
        try:
            return self._exchange(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not kept:
                raise Unreachable(f"{self._url.netloc}: {error or type(error).__name__}") from error
        # A kept connection may have been closed by the other side while it was idle.
        try:
            return self._exchange(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self._url.netloc}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._connection is None:
            self._connection = connect(self._url, self._timeout_s)
        self._connection.request("POST", f"{self._url.path}?{self._query}", body, dict(headers))
        response = self._connection.getresponse()
        said = response.read(ANSWER_BYTES_MAX)
        found = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close or not response.isclosed():
            self.close()
        return Answer(response.status, found, said)


def _events_url(url: str) -> SplitResult:
    """Where events go: the address of the server, with or without the path of the door."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address: give one such as https://meter.example.com")
    path = parts.path.rstrip("/")
    if not path.endswith(EVENTS_PATH):
        path += EVENTS_PATH
    return parts._replace(path=path, query="", fragment="")


def connect(url: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the address, through the proxy that the environment names for it."""
    host, port = url.hostname or "", url.port
    if url.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    context = ssl.create_default_context()
    proxy = urlsplit(_proxy_for(host))
    if not proxy.hostname:
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
    tunnel = http.client.HTTPSConnection(
        proxy.hostname, proxy.port or 8080, timeout=timeout_s, context=context
    )
    headers = {}
    if proxy.username:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    tunnel.set_tunnel(host, port or 443, headers)
    return tunnel


def _proxy_for(host: str) -> str:
    """The proxy that the environment names for https, unless it excepts this host."""
    if urllib.request.proxy_bypass(host):
        return ""
    return urllib.request.getproxies().get("https", "")
