"""What only a real server shows: who is asked to go on sending, and bodies of unknown length."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.journey.live import Live

EXPECTS = "Expect: 100-continue\r\n"


@pytest.fixture(scope="module")
def key(live: Live) -> str:
    email = "wire@journey.example"
    live.manage(
        "shell",
        "--no-imports",
        "-c",
        f"from accounts import people; people.create_verified({email!r}, 'correct horse')",
    )
    made = live.manage("create_organization", "Wire", "--owner-email", email, "--with-key")
    return str(json.loads(made)["key"])  # fmt: skip


def body(event_id: str) -> bytes:
    event: dict[str, Any] = {
        "id": event_id, "source": "wire", "model": "m", "usage": {"input": 1},
        "occurred_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    return gzip.compress(json.dumps(event).encode())


@pytest.fixture
def wire(live: Live) -> Iterator[socket.socket]:
    address = ("127.0.0.1", int(live.env["INGEST_PORT"]))
    with socket.create_connection(address, timeout=10) as wire:
        yield wire


def head(key: str, *, more: str) -> bytes:
    return (
        "POST /api/v1/events HTTP/1.1\r\nHost: kilotoken\r\nContent-Type: application/json\r\n"
        f"Content-Encoding: gzip\r\nAuthorization: Bearer {key}\r\n{more}\r\n"
    ).encode()


def until(wire: socket.socket, end: bytes) -> bytes:
    said = b""
    while end not in said:
        more = wire.recv(65536)
        assert more, said
        said += more
    return said


def test_a_sender_that_asks_first_is_told_to_go_on(key: str, wire: socket.socket) -> None:
    data = body("asked-first")
    wire.sendall(head(key, more=f"{EXPECTS}Content-Length: {len(data)}\r\n"))
    assert until(wire, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue")
    wire.sendall(data)
    assert until(wire, b'"accepted"}').startswith(b"HTTP/1.1 202")


def test_a_sender_without_a_key_is_refused_before_it_sends_its_body(wire: socket.socket) -> None:
    wire.sendall(head("kt_nobody", more=f"{EXPECTS}Content-Length: 1000000\r\n"))
    assert until(wire, b"}").startswith(b"HTTP/1.1 401")


def test_a_compressed_body_may_come_in_chunks(key: str, wire: socket.socket) -> None:
    data = body("in-chunks")
    wire.sendall(head(key, more="Transfer-Encoding: chunked\r\n"))
    for place in range(0, len(data), 40):
        chunk = data[place : place + 40]
        wire.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    wire.sendall(b"0\r\n\r\n")
    assert until(wire, b'"accepted"}').startswith(b"HTTP/1.1 202")
