"""One event per request, over many kept connections: how many a second, and how long each takes.

The senders are a process of their own that does nothing but write prepared bytes and wait for the
end of each answer, so that they are not what is measured.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

from bench import door
from bench.report import Result

CONNECTIONS = 256  # each with one request at a time: enough that the door is what is measured
FEW = 64  # so few wait for their own commits, and the door for them
SECONDS = 3.0
WARM_UP_S = 1.0
ROUNDS = 3
ANSWERED = b"HTTP/1.1 202 "

Figures = dict[str, float]


def measure(
    port: int,
    key: str,
    *,
    per_s: float = 0.0,
    seconds: float = SECONDS,
    connections: int = CONNECTIONS,
) -> Figures:
    """As many as go, or so many a second: `per_s`, `p50_ms` and `p99_ms`, waiting included."""
    asked = {
        "port": port,
        "key": key,
        "per_s": per_s,
        "seconds": seconds,
        "connections": connections,
    }
    command = [sys.executable, "-m", "bench.single_events"]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    figures: Figures = json.loads(done.stdout)
    return figures


def compared(port: int, key: str) -> list[Result]:
    """The door beside the same door that stores nothing; then at half of what it takes."""
    results: list[Result] = []
    with door.served("bench.empty_door:application") as (empty_port, _):
        for connections in (FEW, CONNECTIONS):
            results += _side_by_side(port, empty_port, key, connections)
    name, per_s = results[-1].name, results[-1].value
    half = measure(port, key, per_s=per_s / 2)
    return [
        *results,
        Result(f"{name}, at half of that: p50", half["p50_ms"], "ms"),
        Result(
            f"{name}, at half of that: p99",
            half["p99_ms"],
            "ms",
            "50 ms allowed",
            half["p99_ms"] / 50,
        ),
    ]


def _side_by_side(port: int, empty_port: int, key: str, connections: int) -> list[Result]:
    """What both doors answer to so many connections, in turns."""
    full: list[float] = []
    empty: list[float] = []
    for _ in range(ROUNDS):
        empty.append(measure(empty_port, key, connections=connections)["per_s"])
        full.append(measure(port, key, connections=connections)["per_s"])
    per_s, base = statistics.median(full), statistics.median(empty)
    baseline = f"the same door, an empty 202, {connections} connections"
    name = f"one event per request, {connections} connections"
    return [
        Result(baseline, base, "requests/s"),
        Result(name, per_s, "events/s", baseline, per_s / base),
    ]


class Senders:
    """Sends prepared requests and takes down how long each answer took."""

    def __init__(self, key: str, *, per_s: float, seconds: float) -> None:
        self.head, self.tail = _request(key)
        self.per_s = per_s
        self.begins_at = time.perf_counter() + WARM_UP_S
        self.ends_at = self.begins_at + seconds
        self.seconds = seconds
        self.serial = time.time_ns()
        self.took_s: list[float] = []
        self.idle: list[Connection] = []
        self.due: list[float] = []  # moments at which a request should have gone out

    def next_request(self) -> bytes:
        self.serial += 1
        return b"%s%020d%s" % (self.head, self.serial, self.tail)

    def answered(self, connection: Connection) -> None:
        now = time.perf_counter()
        if connection.since >= self.begins_at and now <= self.ends_at + 1:
            self.took_s.append(now - connection.since)
        if self.per_s:
            self.idle.append(connection)
            self.send_due()
        elif now < self.ends_at:
            connection.send(now)

    def send_due(self) -> None:
        while self.due and self.idle:
            self.idle.pop().send(self.due.pop(0))

    async def keep_pace(self) -> None:
        """Let requests fall due evenly, whether or not the answers keep up."""
        next_at = time.perf_counter()
        while (now := time.perf_counter()) < self.ends_at:
            while next_at <= now:
                self.due.append(next_at)
                next_at += 1 / self.per_s
            self.send_due()
            await asyncio.sleep(0.001)

    def figures(self) -> Figures:
        took = sorted(self.took_s)
        return {
            "per_s": len(took) / self.seconds,
            "p50_ms": took[len(took) // 2] * 1000,
            "p99_ms": took[len(took) * 99 // 100] * 1000,
        }


class Connection(asyncio.Protocol):
    """One kept connection with one request at a time."""

    def __init__(self, senders: Senders) -> None:
        self.senders = senders
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.senders.per_s:
            self.senders.idle.append(self)
        else:
            self.send(time.perf_counter())

    def send(self, since: float) -> None:
        self.since = since
        self.transport.write(self.senders.next_request())

    def data_received(self, data: bytes) -> None:
        # An answer is smaller than one read; anything else than a 202 ends the run.
        if not data.startswith(ANSWERED):
            raise SystemExit(f"the door says: {data[:2000].decode(errors='replace')}")
        self.senders.answered(self)


def _request(key: str) -> tuple[bytes, bytes]:
    """A request around an id of twenty digits."""
    event = {
        "id": "#" * 20,
        "source": "gateway-eu-1",
        "occurred_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "project": "default",
        "model": "deepseek-v4",
        "api_key": "key07",
        "agent": "coder",
        "session": "run-00001",
        "region": "eu-central",
        "service_class": "standard",
        "usage": {"input": 1200, "cache_read": 3000, "output": 80, "reasoning": 12},
    }
    body = json.dumps(event)
    head = (
        "POST /api/v1/events?only=errors HTTP/1.1\r\nHost: kilotoken\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    before, _, after = (head + body).partition("#" * 20)
    return before.encode(), after.encode()


async def _run(port: int, senders: Senders, connections: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(senders), "127.0.0.1", port)
    if senders.per_s:
        await senders.keep_pace()
    await asyncio.sleep(max(0.0, senders.ends_at - time.perf_counter()) + 0.5)


def main() -> None:
    """Read what to measure, measure it, write the figures."""
    asked = json.loads(sys.stdin.read())
    senders = Senders(asked["key"], per_s=asked["per_s"], seconds=asked["seconds"])
    asyncio.run(_run(asked["port"], senders, asked["connections"]))
    print(json.dumps(senders.figures()))


if __name__ == "__main__":
    main()
