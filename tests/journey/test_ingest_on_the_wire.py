"""What only a real server shows: who is asked to go on, and bodies in pieces, slow or cut."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.ingest.request import BODY_WAIT_S
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


@pytest.mark.parametrize("door", ["INGEST_PORT", "PORT"])
def test_two_keys_in_one_request_are_none(live: Live, key: str, door: str) -> None:
    """Whichever of them is good: a proxy may have believed the other one."""
    data = native("two-keys")
    good, other = f"Authorization: Bearer {key}\r\n", "Authorization: Bearer kt_other\r\n"
    request = plain(key, more=f"Content-Length: {len(data)}\r\n").decode()
    for twice in (good + other, other + good, good + good):
        address = ("127.0.0.1", int(live.env[door]))
        with socket.create_connection(address, timeout=10) as wire:
            wire.sendall(request.replace(good, twice).encode() + data)
            said = until(wire, b'"request_id"')
            assert said.startswith(b"HTTP/1.1 401")
            assert b"came twice" in said
    assert not accepted(live, "two-keys")


@pytest.mark.parametrize(
    ("name", "values", "status"),
    [
        ("Content-Type", ("text/plain", "application/json"), 415),
        ("Content-Encoding", ("gzip", "identity"), 415),
    ],
)
def test_a_header_that_came_twice_is_not_halved(
    key: str, wire: socket.socket, name: str, values: tuple[str, str], status: int
) -> None:
    data = native("twice")
    request = plain(key, more=f"Content-Length: {len(data)}\r\n").decode()
    rest = "\r\n".join(line for line in request.split("\r\n") if not line.startswith(name))
    head, _, lines = rest.partition("\r\n")
    both = "".join(f"\r\n{name}: {value}" for value in values)
    wire.sendall(f"{head}{both}\r\n{lines}".encode() + data)
    assert until(wire, b'"request_id"').startswith(f"HTTP/1.1 {status}".encode())


def test_a_compressed_body_may_come_in_chunks(key: str, wire: socket.socket) -> None:
    data = body("in-chunks")
    wire.sendall(head(key, more="Transfer-Encoding: chunked\r\n"))
    for place in range(0, len(data), 40):
        chunk = data[place : place + 40]
        wire.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    wire.sendall(b"0\r\n\r\n")
    assert until(wire, b'"accepted"}').startswith(b"HTTP/1.1 202")


NOW_FIELD = f'"occurred_at": "{datetime.now(UTC).isoformat()}"'.encode()
SILENT = 400  # connections; the process that reads the bodies has one event loop and four threads


def native(event_id: str) -> bytes:
    return gzip.decompress(body(event_id))


def plain(key: str, *, more: str) -> bytes:
    return head(key, more=more).replace(b"Content-Encoding: gzip\r\n", b"")


@contextmanager
def silent(live: Live, request: bytes, count: int) -> Iterator[list[socket.socket]]:
    """Senders that begin a request and say no more."""
    address = ("127.0.0.1", int(live.env["INGEST_PORT"]))
    with ExitStack() as stack:
        wires = [
            stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(count)
        ]
        for one in wires:
            one.sendall(request)
        yield wires


def accepted(live: Live, event_id: str) -> bool:
    return live.rows("SELECT count(*) FROM metering_eventkey WHERE event_id = %s", event_id) == [
        (1,)
    ]


@pytest.mark.parametrize(
    "more",
    ["Content-Length: 400\r\n", "Content-Length: 400000\r\n", "Transfer-Encoding: chunked\r\n"],
)
def test_senders_that_fall_silent_hold_up_nobody(live: Live, key: str, more: str) -> None:
    begun = b'5\r\n[{"id\r\n' if "chunked" in more else b'[{"id'
    with silent(live, plain(key, more=more) + begun, SILENT):
        event_id = f"among-the-silent-{more[:12]}{len(more)}"
        said = live.send(key, [json.loads(native(event_id))])
        assert said["accepted"] == 1
        assert accepted(live, event_id)


def test_half_a_body_is_answered_408_in_time_and_nothing_of_it_is_stored(
    live: Live, key: str
) -> None:
    """All kinds at once, so that the ten seconds pass only once."""
    whole = native("half-sent")
    half = whole[: len(whole) // 2]
    begun = [
        plain(key, more=f"Content-Length: {len(whole)}\r\n") + half,
        plain(key, more="Content-Length: 100000\r\n") + half,
        plain(key, more="Transfer-Encoding: chunked\r\n") + b"%x\r\n%s\r\n" % (len(half), half),
    ]
    with ExitStack() as stack:
        wires = [stack.enter_context(silent(live, one, 1))[0] for one in begun]
        for one in wires:
            one.settimeout(BODY_WAIT_S + 10)
            said = until(one, b'"request_timeout"')
            assert said.startswith(b"HTTP/1.1 408")
            assert b"\r\nconnection: close\r\n" in said.lower()
            while one.recv(65536):
                pass  # until the server closes it
    assert not accepted(live, "half-sent")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_cut_within_a_body_leaves_nothing(live: Live, key: str, chunked: bool) -> None:
    """Even where every line that came is whole."""
    event_id = f"cut-{chunked}"
    line = native(event_id) + b"\n"
    size = f"Content-Length: {2 * len(line)}\r\n"
    request = plain(key, more="Transfer-Encoding: chunked\r\n" if chunked else size).replace(
        b"application/json", b"application/x-ndjson"
    )
    sent = b"%x\r\n%s\r\n" % (len(line), line) if chunked else line
    with silent(live, request + sent, 1) as (wire,):
        wire.shutdown(socket.SHUT_WR)
        while wire.recv(65536):
            pass
    assert not accepted(live, event_id)


def test_a_body_too_large_for_anybody_is_cut_off_while_it_comes(live: Live, key: str) -> None:
    with silent(live, plain(key, more="Transfer-Encoding: chunked\r\n"), 1) as (wire,):
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        with suppress(ConnectionError):
            for _ in range(81):
                wire.sendall(chunk)
        assert until(wire, b'"body_too_large"').startswith(b"HTTP/1.1 413")


def test_one_connection_serves_many_requests(live: Live, key: str) -> None:
    with silent(live, b"", 1) as (wire,):
        for number in range(3):
            data = native(f"kept-open-{number}")
            wire.sendall(plain(key, more=f"Content-Length: {len(data)}\r\n") + data)
            assert until(wire, b'"accepted"}').startswith(b"HTTP/1.1 202")


def test_many_who_send_one_event_at_once_are_each_answered_for_their_own(
    live: Live, key: str
) -> None:
    """They share transactions; of the same event sent by several, one is the first."""
    ids = [f"single-{number % 30}" for number in range(60)]
    with ExitStack() as stack:
        wires = [stack.enter_context(silent(live, b"", 1))[0] for _ in ids]
        for wire, event_id in zip(wires, ids, strict=True):
            data = native(event_id).replace(b'"m"', b'"shared"')
            data = re.sub(rb'"occurred_at": "[^"]*"', NOW_FIELD, data)
            wire.sendall(plain(key, more=f"Content-Length: {len(data)}\r\n") + data)
        said = [until(wire, b"}]}").partition(b"\r\n\r\n")[2] for wire in wires]
    told = [(json.loads(one)["events"][0]["id"], json.loads(one)["events"][0]["status"])
            for one in said]  # fmt: skip
    assert [event_id for event_id, _ in told] == ids
    assert sorted(told) == sorted(
        (event_id, status) for event_id in set(ids) for status in ("accepted", "duplicate")
    )


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/healthz", "GET", 200), ("/api/v1/events", "GET", 405), ("/nowhere", "POST", 404)],
)
def test_what_needs_no_body_is_answered_at_once(
    live: Live, wire: socket.socket, path: str, method: str, status: int
) -> None:
    wire.sendall(f"{method} {path} HTTP/1.1\r\nHost: kilotoken\r\n\r\n".encode())
    assert until(wire, b"}").startswith(f"HTTP/1.1 {status} ".encode())
