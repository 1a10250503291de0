"""Whole requests at the real door: heads, framings, encodings and bodies, mutated and cut off.

Whatever comes, the door must answer in one of its ways or close: never a 5xx but a 503 with a
reason and a time to come back, a problem document for every refusal, and no event stored that no
answer told of. What is no HTTP at all the server refuses itself, with an empty 400.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from backports import zstd

from accounts.problems import KINDS
from tests.fuzz import seeds
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import PROTOBUF

WAIT_S = 30  # for an answer; the door itself waits ten seconds for the rest of a body
ANSWER_MAX = 4 << 20
SENDERS = 8
SPAN_ENDED = 1_763_460_450_000_000_000  # in the seeds, in nanoseconds
_PACKERS = {"gzip": gzip.compress, "zstd": zstd.compress}
_MEDIA = {
    "array": "application/json", "object": "application/json", "lines": "application/x-ndjson",
    "cloudevents": "application/cloudevents-batch+json",
    "cloudevent": "application/cloudevents+json",
}  # fmt: skip
_TARGETS = (
    *("/api/v1/events",) * 6, "/api/v1/events?mode=atomic", "/api/v1/events?only=errors",
    "/api/v1/events?backfill=1", "/api/v1/events?mode=%00", "/healthz", "/nowhere",
)  # fmt: skip
_ODD = (
    b"Expect: 100-continue", b"Content-Encoding: br", b"Content-Encoding: gzip, gzip",
    b"Authorization: Bearer kt_x_y", b"Authorization: Basic eDp5", b"Content-Type: text/plain",
    b"Content-Type: application/json; charset=latin-1", b"Transfer-Encoding: gzip, chunked",
    b"Content-Length: 5", b"Content-Length: -1", b"ce-specversion: 1.0", b"ce-id: a%00b",
    b"X-Long: " + b"x" * 9_000, b"Connection: keep-alive", b"Trailer: X", b" folded: line",
    b"Host: other.example", b"\xff\xfe: \xff", b"Idempotency-Key: 1",
)  # fmt: skip


@dataclass(frozen=True)
class Raw:
    """The bytes of a request; whether the sender goes away after them."""

    data: bytes
    is_cut: bool


@dataclass(frozen=True)
class Kind:
    """What is sent: to which addresses, and with what for a body."""

    targets: tuple[str, ...]
    body: Callable[[random.Random, int], tuple[bytes, str]]


@dataclass(frozen=True)
class Answer:
    """What came back: the answers one after the other, 100 (Continue) left out."""

    status: int
    headers: dict[str, str]
    body: bytes


def made(kind: Kind, rng: random.Random, number: int, key: str) -> Raw:
    """One request, mostly near to a good one; its events are nobody else's."""
    body, media_type = kind.body(rng, number)
    headers = [b"Host: door", f"Authorization: Bearer {key}".encode(), b"Connection: close"]
    headers.append(b"Content-Type: " + media_type.encode())
    if rng.random() < 0.3:
        name = rng.choice(list(_PACKERS))
        body = _PACKERS[name](body)
        headers.append(b"Content-Encoding: " + name.encode())
        body = mutated(body, body, rng) if rng.random() < 0.3 else body
    framing, sent, is_cut = _framed(rng, body)
    headers += framing
    if rng.random() < 0.25:
        headers.insert(rng.randrange(len(headers) + 1), rng.choice(_ODD))
    method = rng.choice((b"POST",) * 12 + (b"GET", b"PUT", b"post", b"\x00"))
    first = b"%s %s HTTP/1.1" % (method, rng.choice(kind.targets).encode())
    head = b"\r\n".join([first, *headers])
    if rng.random() < 0.15:
        head = mutated(head, head, rng)
    data = head + b"\r\n\r\n" + sent
    if rng.random() < 0.1:
        return Raw(data[: rng.randrange(len(data))], is_cut=True)
    return Raw(data, is_cut)


def _spans(rng: random.Random, number: int) -> tuple[bytes, str]:
    """An export of a span of now, in protobuf or JSON, half of the time with something wrong."""
    now = time.time_ns()
    as_json = seeds.OTLP.replace(b"%d" % SPAN_ENDED, b"%d" % now)
    as_protobuf = PROTOBUF.replace(struct.pack("<Q", SPAN_ENDED), struct.pack("<Q", now))
    good, media_type = rng.choice(
        ((as_json, "application/json"), (as_protobuf, "application/x-protobuf"))
    )
    return mutated(good, good, rng) if rng.random() < 0.5 else good, media_type


def _body(rng: random.Random, number: int) -> tuple[bytes, str]:
    """Events of today from a sender of this name, a third of the time with something wrong."""
    form = rng.choice(list(_MEDIA))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    body = rng.choice(seeds.BODIES[form]).replace(b"2026-11-18T10:07:30Z", now)
    body = body.replace(b"gateway-1", b"fuzz-%d" % number)
    if rng.random() < 0.35:
        body = mutated(body, rng.choice(seeds.BODIES[form]), rng)
    return body, _MEDIA[form]


EVENTS = Kind(_TARGETS, _body)
TRACES = Kind(("/v1/traces",) * 8 + ("/v1/traces?mode=atomic",), _spans)


def _framed(rng: random.Random, body: bytes) -> tuple[list[bytes], bytes, bool]:
    """How long the body is said to be, the body as it is sent, whether some of it is missing."""
    length = b"Content-Length: %d" % len(body)
    kind = rng.random()
    if kind < 0.6:
        return [length], body, False
    if kind < 0.65:
        return [b"Content-Length: %d" % (len(body) + rng.randint(1, 99))], body, True
    if kind < 0.7:
        return [b"Content-Length: %d" % rng.randrange(len(body) + 1)], body, False
    size = rng.choice((1, 40, 4_000))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
    both = [length] if rng.random() < 0.1 else []
    if rng.random() < 0.2:
        return [b"Transfer-Encoding: chunked", *both], mutated(chunks, chunks, rng), True
    return [b"Transfer-Encoding: chunked", *both], chunks, False


def asked(address: tuple[str, int], raw: Raw) -> list[Answer]:
    """Send it, and all that is answered until the door closes or has answered once."""
    said = b""
    with socket.create_connection(address, timeout=WAIT_S) as wire:
        try:
            wire.sendall(raw.data)
            if raw.is_cut:
                wire.shutdown(socket.SHUT_WR)
            while len(said) < ANSWER_MAX and (more := wire.recv(65536)):
                said += more
                if (found := answers(said)) and not raw.is_cut:
                    return found
        except TimeoutError:  # no answer is a finding
            raise
        except OSError:  # closed while we were still talking; what was said counts
            pass
    return answers(said)


def answers(said: bytes) -> list[Answer]:
    """The whole answers in what a server said."""
    found = []
    while said:
        head, end, rest = said.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        if not end or not lines[0].startswith("HTTP/1.1 "):
            break
        status = int(lines[0].split(" ")[1])
        pairs = (line.partition(": ") for line in lines[1:])
        headers = {name.lower(): value for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            break
        if status != 100:
            found.append(Answer(status, headers, rest[:length]))
        said = rest[length:]
    return found


def checked(found: Iterable[Answer]) -> int:
    """How many events were accepted; an AssertionError for an answer that none may give."""
    accepted = 0
    for one in found:
        assert one.status < 500 or one.status == 503, one
        if one.status in (400, 414, 431, 501) and not one.body:
            continue  # the server's own: not HTTP, or nothing it takes
        media_type = one.headers["content-type"]
        if media_type == "application/problem+json":
            document = json.loads(one.body)
            assert KINDS[document["code"]].status == one.status == document["status"], one
            assert one.status != 503 or int(one.headers["retry-after"]) > 0, one
        elif media_type == "application/x-protobuf" or one.status == 200:
            assert one.headers["x-request-id"], one
        else:
            accepted += _accepted(one)
    return accepted


def _accepted(one: Answer) -> int:
    told = json.loads(one.body)
    if "message" in told:  # OTLP's own refusal
        assert one.status >= 400, one
        return 0
    assert one.status in (202, 207, 422), one
    parts = [told[name] for name in ("accepted", "duplicate", "conflict", "rejected")]
    assert sum(parts) == told["submitted"], one
    assert (told["accepted"] + told["duplicate"] > 0) == (one.status != 422), one
    return int(told["accepted"])


def storm(
    kind: Kind, address: tuple[str, int], key: str, rng: random.Random, numbers: Iterable[int]
) -> int:
    """A request of each number, a few at a time; how many events were accepted. The first wrong
    answer ends it, with the bytes that were sent."""
    raws = [made(kind, rng, number, key) for number in numbers]

    def accepted(raw: Raw) -> int:
        try:
            return checked(asked(address, raw))
        except Exception as error:
            raise AssertionError(f"sent {raw.data!r}") from error

    with ThreadPoolExecutor(SENDERS) as senders:
        return sum(senders.map(accepted, raws))
