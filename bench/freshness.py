"""How long acknowledged usage takes until the pages show it, at half of full load.

The door, the worker and beat run as `make run` starts them. Every batch is watched until the
readings have it: being added to them and being marked is one transaction, so the mark is seen at
the moment at which the pages see the usage. Beside that, organizations of their own send one event
at a time and read their balance, as their overview does, until it has risen.

The load comes from organizations in equal parts first; then one of them sends nine tenths of it,
and the others are looked at.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from bench import batches, door, pipeline
from bench.report import Result
from bench.rounds import organization

if TYPE_CHECKING:
    from accounts.models import Organization

SECONDS = 10.0  # of each load, before the other takes its place
ROUNDS = 2
ORGANIZATIONS = 10  # that make the load
PROBES = 2  # that send one event at a time
SENDERS = 4
LOOK_S = 0.02
READ_S = 0.1
SHOWN_WITHIN_S = 60.0  # or else it is not slow but broken
ASKED_MS = 5_000
WARM_UP = 20  # batches
EVEN = tuple(range(ORGANIZATIONS))
SKEWED = tuple(turn for other in EVEN[1:] for turn in (*[0] * 9, other))  # nine tenths from one

APPLIED = """
    SELECT batch.organization_id, batch.id
    FROM unnest(%s::bigint[], %s::bigint[]) AS ours (organization_id, id)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = ours.organization_id AND batch.id = ours.id
    WHERE batch.state = 'applied'
"""
# One of each event, so that the balance counts them.
BY_THE_CALL: dict[str, object] = {
    "currency": "USD",
    "components": [{"code": "calls", "models": ["*"], "registers": ["requests"], "shape": "flat",
                    "per": 1, "price": "0.01"}],
}  # fmt: skip

BatchKey = tuple[int, int]  # the organization, and the batch's number


class Sender(NamedTuple):
    """An organization and the key it sends with."""

    organization: Organization
    key: str

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}


@dataclass(slots=True)
class Watch:
    """Batches between acknowledgement and the readings; in seconds of one clock."""

    conninfo: str
    open: dict[BatchKey, float] = field(default_factory=dict)  # acknowledged at
    took_s: dict[BatchKey, float] = field(default_factory=dict)
    sending: bool = True

    def run(self) -> None:
        """Look until everything that was sent is seen."""
        with psycopg.connect(self.conninfo, autocommit=True) as own:
            while self.sending or self.open:
                self._look(own)
                time.sleep(LOOK_S)

    def _look(self, own: psycopg.Connection[Any]) -> None:
        waiting = list(self.open)
        if not waiting:
            return
        columns = [list(column) for column in zip(*waiting, strict=True)]
        seen = own.execute(APPLIED, columns).fetchall()
        now = time.perf_counter()
        for organization_id, batch_id in seen:
            key = organization_id, batch_id
            self.took_s[key] = now - self.open.pop(key)
        oldest = min(self.open.values(), default=now)
        assert now - oldest < SHOWN_WITHIN_S, "a batch does not reach the readings"


@dataclass(slots=True)
class Waits:
    """How long it took, in seconds: each batch of each organization, and each probe."""

    batches: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    probes: list[float] = field(default_factory=list)
    events: int = 0
    took_s: float = 0.0

    def add(self, other: Waits) -> None:
        """Take over another round."""
        for organization_id, waited_s in other.batches.items():
            self.batches[organization_id] += waited_s
        self.probes += other.probes
        self.events += other.events
        self.took_s += other.took_s


def measure(full_per_s: float) -> Iterator[Result]:
    """Freshness at half of what the door takes, spread evenly and from one above all."""
    senders, probes = _made()
    with ExitStack() as stack:
        stack.enter_context(pipeline.at_work())
        port, _ = stack.enter_context(door.served())
        _load(port, senders, EVEN, WARM_UP, full_per_s / 2, probes=())  # nobody looks yet
        count = int(full_per_s / 2 * SECONDS) // batches.EVENTS
        even, skewed = Waits(), Waits()
        for _ in range(ROUNDS):
            even.add(_load(port, senders, EVEN, count, full_per_s / 2, probes))
            skewed.add(_load(port, senders, SKEWED, count, full_per_s / 2, probes))
    _nothing_is_lost(senders, 2 * ROUNDS * count + WARM_UP)
    yield from _results(
        full_per_s, even, skewed, others=[one.organization.pk for one in senders[1:]]
    )


def _results(
    full_per_s: float, even: Waits, skewed: Waits, others: Sequence[int]
) -> Iterator[Result]:
    full = "ingestion over HTTP, batches of 1,000"
    load = even.events / even.took_s
    yield Result("load while freshness is measured", load, "events/s", full, load / full_per_s)
    everybody = [took for those in even.batches.values() for took in those]
    allowed = f"{ASKED_MS:,} ms allowed"
    name = "acknowledged to in the readings"
    yield Result(f"{name}: p50", _ms(everybody, 50), "ms")
    yield Result(f"{name}: p99", _ms(everybody, 99), "ms", allowed, _ms(everybody, 99) / ASKED_MS)
    name = "acknowledged to in the balance"
    yield Result(f"{name}: p50", _ms(even.probes, 50), "ms")
    yield Result(f"{name}: p99", _ms(even.probes, 99), "ms", allowed,
                 _ms(even.probes, 99) / ASKED_MS)  # fmt: skip
    fair, moved = (
        [took for one in others for took in waits.batches[one]] for waits in (even, skewed)
    )
    name = "readings of the others while one sends 90 %"
    for part in (50, 99):
        before, after = _ms(fair, part), _ms(moved, part)
        yield Result(f"{name}: p{part}", after, "ms", "all send alike", after / before)
    before, after = _ms(even.probes, 99), _ms(skewed.probes, 99)
    yield Result("balance of the others while one sends 90 %: p99", after, "ms",
                 "all send alike", after / before)  # fmt: skip


def _ms(took_s: Sequence[float], part: int) -> float:
    """The percentile, by the nearest rank, in milliseconds."""
    ranked = sorted(took_s)
    return ranked[min(len(ranked) * part // 100, len(ranked) - 1)] * 1_000


def _made() -> tuple[list[Sender], list[Sender]]:
    """Organizations that make the load, and others that look; all pay by the call."""
    from tests import build

    tariff = build.make_tariff(code="by-the-call", document=BY_THE_CALL)
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    made = []
    for number in range(ORGANIZATIONS + PROBES):
        one, key = organization(f"fresh-{number}")
        build.make_subscription(organization=one, starts_at=month, tariff=tariff)
        made.append(Sender(one, key))
    return made[:ORGANIZATIONS], made[ORGANIZATIONS:]


def _load(
    port: int,
    senders: Sequence[Sender],
    turns: Sequence[int],
    count: int,
    per_s: float,
    probes: Sequence[Sender],
) -> Waits:
    """Send so many batches evenly in time, by these turns; what each waited, and each probe."""
    from metering.ingest import pool

    supply = batches.batches(seed=time.time_ns())
    bodies = [batches.as_json(batch) for batch in islice(supply, count)]
    due = list(zip(bodies, islice(cycle(turns), count), strict=True))
    watch = Watch(pool.conninfo())
    pace = _Pace(iter(due), batches.EVENTS / per_s)
    over = threading.Event()
    with ThreadPoolExecutor(1 + len(probes) + SENDERS) as threads:
        watching = threads.submit(watch.run)
        looking = [threads.submit(_probe, port, one, over) for one in probes]
        sending = [threads.submit(_send, port, senders, pace, watch) for _ in range(SENDERS)]
        try:
            for sent in sending:
                sent.result()
            took_s = time.perf_counter() - pace.started_at
        finally:
            watch.sending = False
            over.set()
        watching.result()
        found = [waited_s for looked in looking for waited_s in looked.result()]
    assert len(watch.took_s) == count, "a batch was not acknowledged or not seen"
    waits = Waits(probes=found, events=count * batches.EVENTS, took_s=took_s)
    for (organization_id, _), waited_s in watch.took_s.items():
        waits.batches[organization_id].append(waited_s)
    return waits


class _Pace:
    """Hands out what is due, one after the other, each at its moment."""

    def __init__(self, due: Iterator[tuple[bytes, int]], each_s: float) -> None:
        self.started_at = time.perf_counter()
        self._due, self._each_s, self._given = due, each_s, 0
        self._lock = threading.Lock()

    def next(self) -> tuple[bytes, int] | None:
        with self._lock:
            item = next(self._due, None)
            at = self.started_at + self._given * self._each_s
            self._given += 1
        if item is not None:
            time.sleep(max(0.0, at - time.perf_counter()))
        return item


def _send(port: int, senders: Sequence[Sender], pace: _Pace, watch: Watch) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while (item := pace.next()) is not None:
        body, turn = item
        batch_id = _post(connection, senders[turn], body)
        watch.open[senders[turn].organization.pk, batch_id] = time.perf_counter()
    connection.close()


def _post(connection: http.client.HTTPConnection, sender: Sender, body: bytes) -> int:
    """Send one request; its batch."""
    connection.request("POST", door.PATH, body, sender.headers())
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 202:
        raise RuntimeError(f"the door says {response.status}: {answer}")
    return int(answer["batch_id"])


def _probe(port: int, sender: Sender, over: threading.Event) -> list[float]:
    """Send an event, read the balance until it has risen, and again; what each time took."""
    from django.db import connection as database

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    supply = batches.batches(seed=time.time_ns())
    found = []
    while not over.is_set():
        before = _balance_cents(sender)
        _post(connection, sender, batches.as_json(next(supply)[:1]))
        acknowledged_at = time.perf_counter()
        while _balance_cents(sender) == before:
            waited_s = time.perf_counter() - acknowledged_at
            assert waited_s < SHOWN_WITHIN_S, "an event does not reach the balance"
            time.sleep(READ_S)
        found.append(time.perf_counter() - acknowledged_at)
    connection.close()
    database.close()
    return found


def _balance_cents(sender: Sender) -> int:
    """What the overview says that the period has come to."""
    from billing import costs

    cost = costs.so_far(sender.organization, datetime.now(UTC))
    assert cost is not None
    return cost.amount_minor


def _nothing_is_lost(senders: Sequence[Sender], count: int) -> None:
    from metering import readings

    read = sum(readings.event_count(one.organization.pk) for one in senders)
    assert read == count * batches.EVENTS, "a reading was lost"
