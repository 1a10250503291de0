"""Batches of events as a busy AI cloud would send them; every id is new."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

MODELS = ("deepseek-v4", "llama-4-maverick", "qwen3-235b", "glm-5", "kimi-k2")
AGENTS = ("coder", "search", "support", "batch-eval")
EVENTS = 1_000

Event = dict[str, Any]


def batches(seed: int) -> Iterator[list[Event]]:
    """Without end; the same for the same seed, but for the time of day."""
    chance = random.Random(seed)
    while True:
        now = datetime.now(UTC)
        yield [_event(chance, now) for _ in range(EVENTS)]


def _event(chance: random.Random, now: datetime) -> Event:
    happened = now - timedelta(seconds=chance.expovariate(1 / 5))
    return {
        "id": str(uuid.UUID(int=chance.getrandbits(128))),
        "source": "gateway-eu-1",
        "occurred_at": happened.isoformat().replace("+00:00", "Z"),
        "project": "default",
        "model": chance.choice(MODELS),
        "api_key": f"key{chance.randrange(40):02}",
        "agent": chance.choice(AGENTS),
        "session": f"run-{chance.randrange(100_000):05}",
        "region": "eu-central",
        "service_class": "standard",
        "usage": {
            "input": chance.randrange(1, 8_000),
            "cache_read": chance.randrange(20_000),
            "output": chance.randrange(1, 2_000),
            "reasoning": chance.randrange(1_000),
        },
    }


def by_time(batch: list[Event], chance: random.Random) -> list[Event]:
    """The same with ids that begin with the time: UUID version 7, as our client makes them."""
    for event in batch:
        milliseconds = int(datetime.now(UTC).timestamp() * 1000)
        number = milliseconds << 80 | 0x7 << 76 | chance.getrandbits(76)
        event["id"] = str(uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62))
    return batch


def as_json(batch: list[Event]) -> bytes:
    """A request's body, as Python's own json writes it."""
    return json.dumps(batch).encode()
