"""Writers: what each sends follows from a seed; a batch is sent until the door answers for it."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from tests.chaos.journal import Acknowledged, Journal

MODELS = ("qwen3-235b", "deepseek-v4", "glm-5")
EVENTS_MAX = 990  # and a few corrections
CORRECTING = 0.2
ANSWER_S = 30.0
PAUSE_S = 0.05  # between tries, so that a door that is down is not hammered


class Event(NamedTuple):
    """One event of a batch; it may take another one back, or put other usage in its place."""

    event_id: str
    occurred_at: datetime
    model: str
    usage: dict[str, int]  # empty in a void
    takes_back: Event | None = None

    def as_sent(self, source: str) -> dict[str, object]:
        """The event as the door reads it."""
        body: dict[str, object] = {"id": self.event_id, "source": source}
        if self.takes_back and not self.usage:
            return body | {"voids": self.takes_back.event_id, "reason": "sent by mistake"}
        body |= {
            "occurred_at": self.occurred_at.isoformat(),
            "model": self.model,
            "usage": self.usage,
        }
        if self.takes_back:
            body |= {"amends": self.takes_back.event_id, "reason": "counted wrongly"}
        return body


@dataclass(frozen=True, slots=True)
class Plan:
    """From these follows everything that is ever sent."""

    seed: int
    began_at: datetime

    def batch(self, writer: int, number: int) -> list[Event]:
        """A batch's events, and now and then some that take back events of two batches before.

        No other batch takes those back, and they were acknowledged before this one is sent.
        """
        chance = random.Random(f"{self.seed}/{writer}/{number}/corrections")
        events = self._usage(writer, number)
        if number >= 2 and chance.random() < CORRECTING:
            before = self._usage(writer, number - 2)
            for place, target in enumerate(chance.sample(before, min(len(before), 4))):
                made = self._event(chance, writer, number, f"c{place}")
                usage = made.usage if place % 2 else {}
                events.append(made._replace(usage=usage, takes_back=target))
        return events

    def _usage(self, writer: int, number: int) -> list[Event]:
        """Few events or many, over the last day, some with registers of their own."""
        chance = random.Random(f"{self.seed}/{writer}/{number}")
        size = chance.choice((1, 1, chance.randint(2, 50), chance.randint(51, EVENTS_MAX)))
        return [self._event(chance, writer, number, str(place)) for place in range(size)]

    def _event(self, chance: random.Random, writer: int, number: int, place: str) -> Event:
        usage = {"input": chance.randrange(40_000), "output": chance.randrange(4_000)}
        if chance.random() < 0.3:
            usage["cache_read"] = chance.randrange(100_000)
        if chance.random() < 0.1:
            usage["input_audio"] = chance.randrange(1_000)
        return Event(
            event_id=f"{chance.getrandbits(64):016x}-{writer}-{number}-{place}",
            occurred_at=self.began_at - timedelta(seconds=chance.randrange(86_400)),
            model=chance.choice(MODELS),
            usage=usage,
        )


def source_of(writer: int) -> str:
    """The source a writer's events carry."""
    return f"writer-{writer}"


def body_of(writer: int, events: Sequence[Event]) -> bytes:
    """The batch as it goes over the wire."""
    return json.dumps([event.as_sent(source_of(writer)) for event in events]).encode()


class NotAnswered(Exception):
    """Nobody knows what became of it: it is sent again."""


class Wrong(Exception):
    """The door said what it never may."""


@dataclass(slots=True)
class Tally:
    """What all writers saw, together."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, **counts: int) -> None:
        with self.lock:
            self.counts.update(counts)


@dataclass(slots=True)
class Writer:
    """One sender with one batch in flight, as a gateway's flushing thread is."""

    number: int
    plan: Plan
    key: str
    ports: Sequence[int]
    journal: Journal
    tally: Tally
    goes_on: Callable[[], bool]
    _chance: random.Random = field(init=False)
    _connection: http.client.HTTPConnection | None = None

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.plan.seed}/cuts/{self.number}")

    def run(self) -> None:
        """Send batch after batch until told to stop; the last one is answered, too."""
        number = 0
        try:
            while self.goes_on():
                self._deliver(number)
                number += 1
        except Wrong as wrong:
            self.tally.wrong.append(f"writer {self.number}, batch {number}: {wrong}")

    def _deliver(self, number: int) -> None:
        events = self.plan.batch(self.number, number)
        body = body_of(self.number, events)
        while True:
            if self._chance.random() < 0.02:
                self._cut_short(body)
            try:
                answer = self._post(body)
            except NotAnswered:
                self.tally.add(unanswered=1)
                self._connection = None
                time.sleep(PAUSE_S)
                continue
            self._check(answer, len(events))
            self.journal.write(
                Acknowledged(self.number, number, answer["accepted"], answer["duplicate"])
            )
            self.tally.add(acknowledged=len(events), batches=1, found_stored=answer["duplicate"])
            return

    def _post(self, body: bytes) -> dict[str, Any]:
        port = self._chance.choice(self.ports)
        if self._connection is None or self._connection.port != port:
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            self._connection.request("POST", "/api/v1/events?only=errors", body, headers)
            response = self._connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotAnswered from error
        if response.status in (408, 429, 503):
            raise NotAnswered
        if response.status != 202:
            raise Wrong(f"{response.status} {said[:500]!r}")
        answer: dict[str, Any] = json.loads(said)
        return answer

    def _check(self, answer: dict[str, Any], count: int) -> None:
        if answer["accepted"] + answer["duplicate"] != count or answer["submitted"] != count:
            raise Wrong(f"{count} events were sent and the answer is {answer}")

    def _cut_short(self, body: bytes) -> None:
        """Send it and be gone: in the middle of the body, or before the answer is read."""
        head = (
            "POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        whole = head + body
        until = self._chance.choice((len(whole), self._chance.randrange(1, len(whole))))
        try:
            with socket.create_connection(
                ("127.0.0.1", self._chance.choice(self.ports)), timeout=5
            ) as wire:
                wire.sendall(whole[:until])
        except OSError:
            return
        self.tally.add(cut_by_the_sender=1)


def planned(plan: Plan, batches: Sequence[Acknowledged]) -> Iterator[tuple[Acknowledged, Event]]:
    """Every event of some batches, made anew from the plan."""
    for batch in batches:
        for event in plan.batch(batch.writer, batch.number):
            yield batch, event


@lru_cache(maxsize=100_000)
def quarter_hour(moment: datetime) -> datetime:
    """The quarter-hour an instant lies in."""
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
