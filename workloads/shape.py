"""A seeded workload with the shape of real ones: the same seed makes the same requests.

What public traces of model endpoints agree on, and what this reproduces: a few clients send most
of it (Zipf), clients fall silent and come back (on-off), arrivals are burstier than Poisson (Gamma
and Weibull gaps), days and weekends show, inputs are log-normal with a Pareto tail, outputs near
exponential, reasoning shares bimodal, prefix caches hit while they are warm, and a little arrives
twice or late. Rates and times are floats here: that is physics. What is counted is whole.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

from workloads.request import Request

ZIPF_SLOPE = 1.2
WINDOW_S = 600
WINDOWS_PER_HOUR = 3600 // WINDOW_S
WINDOWS_PER_DAY = 24 * WINDOWS_PER_HOUR
HEAVY_CLIENTS = 5  # these hardly ever fall silent; the others mostly are
CACHE_HALF_LIFE_S = 600
CACHE_BLOCK_TOKENS = 64
SESSION_GAP_S = 1800
DOUBLING_DAYS = 75
DUPLICATE_SHARE = 0.005
LATE_SHARE = 0.01
LATE_MEAN_S = 6 * 3600
LATE_MAX_S = 5 * 86400
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Archetype:
    """What kind of program a client is."""

    name: str
    weight: int
    input_median: int
    input_sigma: float
    output_mean: int
    output_max: int = 8_192
    context_max: int = 131_072
    turns_mean: int = 1
    cached: tuple[float, float] = (0.35, 0.65)
    reasons: bool = False
    service_class: str = "standard"
    agents: tuple[str, ...] = ()
    swing: float = 0.5  # how much the day shows: 0 not at all, 1 silent at the trough
    peak_hour: int = 16
    weekend: float = 0.8


ARCHETYPES = (
    Archetype("chat", 26, 420, 1.1, 260, turns_mean=5, swing=0.7, peak_hour=20, weekend=1.1),
    Archetype("pipeline", 20, 170, 1.2, 45, cached=(0.5, 0.65)),
    Archetype(
        "coder",
        16,
        5_200,
        0.9,
        310,
        turns_mean=18,
        cached=(0.55, 0.65),
        agents=("planner", "editor", "reviewer"),
        swing=0.7,
        weekend=0.35,
    ),
    Archetype("batch", 8, 900, 0.8, 150, service_class="batch", swing=0.5, peak_hour=2),
    Archetype("rag", 14, 2_600, 0.7, 190, agents=("retriever",), weekend=0.6),
    Archetype("reasoner", 10, 210, 1.4, 1_500, output_max=32_768, turns_mean=3, reasons=True),
    Archetype("edge", 6, 90, 0.6, 20, service_class="priority", swing=0.1),
)


@dataclass(frozen=True, slots=True)
class Mix:
    """Who sends: how many clients, on which models, for which projects, from where."""

    models: tuple[str, ...] = ("qwen-max", "qwen-plus", "qwen-turbo")
    reasoning_models: tuple[str, ...] = ("deepseek-r1",)
    projects: tuple[str, ...] = ("default",)
    regions: tuple[str, ...] = ("eu-central-1", "us-east-1", "ap-southeast-1")
    zones: tuple[str, ...] = ("Europe/Berlin", "America/New_York", "Asia/Singapore")
    clients: int = 60
    requests_per_day: int = 1_000


class Client(NamedTuple):
    """One sender, drawn once per workload."""

    name: str
    archetype: Archetype
    requests_per_window: float
    idle: float
    windows_on: float
    gamma: bool
    gap_shape: float
    zone: ZoneInfo
    region: str
    project: str
    models: tuple[str, ...]


def _seeded(*words: object) -> Random:
    """A source of its own for each use, so that adding one draw does not change all others."""
    return Random("/".join(map(str, words)))  # noqa: S311 - reproducible is the point


def clients(mix: Mix, *, seed: int) -> list[Client]:
    """Draw the senders: rates fall by Zipf's law from the first to the last."""
    random = _seeded(seed, "clients")
    weights = [rank**-ZIPF_SLOPE for rank in range(1, mix.clients + 1)]
    unit = mix.requests_per_day / WINDOWS_PER_DAY / sum(weights)
    kinds = random.choices(ARCHETYPES, [kind.weight for kind in ARCHETYPES], k=mix.clients)
    # The largest sender is a bursty one in every trace; a batch job there would hide the day.
    kinds[0] = ARCHETYPES[0]
    return [
        _client(rank, kind, unit * weight, mix, random)
        for rank, (kind, weight) in enumerate(zip(kinds, weights, strict=True))
    ]


def _client(rank: int, kind: Archetype, rate: float, mix: Mix, random: Random) -> Client:
    heavy = rank < HEAVY_CLIENTS
    models = mix.reasoning_models if kind.reasons and mix.reasoning_models else mix.models
    gamma = random.random() < 0.75  # Gamma fits about three clients where Weibull fits one
    return Client(
        name=f"{kind.name}-{rank + 1:03d}",
        archetype=kind,
        requests_per_window=rate,
        idle=random.uniform(0.1, 0.4) if heavy else random.uniform(0.6, 0.9),
        windows_on=24 if heavy else random.uniform(3, 12),
        gamma=gamma,
        gap_shape=random.uniform(0.15, 1.0) if gamma else random.uniform(0.3, 0.9),
        zone=ZoneInfo(random.choice(mix.zones)),
        region=random.choice(mix.regions),
        project=mix.projects[rank % len(mix.projects)],
        models=tuple(random.sample(models, k=min(2, len(models)))),
    )


def arrivals_us(client: Client, *, seed: int, start: datetime, end: datetime) -> Iterator[int]:
    """Yield when the client sends, in whole microseconds since start, in order.

    Gaps are drawn in the client's own time, which runs as fast as it is busy: burstiness stays
    the same whether a window expects a thousand requests or a thousandth of one.
    """
    random = _seeded(seed, client.name, "arrivals")
    window_us = WINDOW_S * _SECOND_US
    last_us = (end - start) // timedelta(microseconds=1)
    due = _gap(client, random)
    for window, expected in enumerate(_expected(client, random, start, end)):
        spent = 0.0
        while due < expected - spent:
            spent += due
            moment_us = window * window_us + int(spent / expected * window_us)
            if moment_us >= last_us:
                return
            yield moment_us
            due = _gap(client, random)
        due -= expected - spent


def _gap(client: Client, random: Random) -> float:
    """One interarrival gap with mean 1 and a coefficient of variation of 1 or more."""
    if client.gamma:
        return random.gammavariate(client.gap_shape, 1 / client.gap_shape)
    return random.weibullvariate(1 / math.gamma(1 + 1 / client.gap_shape), client.gap_shape)


def _expected(client: Client, random: Random, start: datetime, end: datetime) -> Iterator[float]:
    """Requests to expect in each ten minutes: the on-off state times day, week and growth."""
    windows_off = client.windows_on * client.idle / (1 - client.idle)
    is_on = random.random() >= client.idle
    busy = client.requests_per_window / (1 - client.idle)
    level = 0.0
    for window in range(math.ceil((end - start) / timedelta(seconds=WINDOW_S))):
        if window % WINDOWS_PER_HOUR == 0:
            level = _level(client, start + timedelta(seconds=window * WINDOW_S), start, end)
        if random.random() < 1 / max(client.windows_on if is_on else windows_off, 1):
            is_on = not is_on
        yield busy * level if is_on else 0.0


def _level(client: Client, moment: datetime, start: datetime, end: datetime) -> float:
    """How busy this hour is against the client's mean: its time of day, weekday and growth."""
    local = moment.astimezone(client.zone)
    kind = client.archetype
    day = 1 + kind.swing * math.cos((local.hour - kind.peak_hour) / 24 * math.tau)
    weekday = kind.weekend if local.weekday() >= 5 else 1.0
    middle = start + (end - start) / 2
    return day * weekday * 2 ** ((moment - middle) / timedelta(days=DOUBLING_DAYS))


def requests(mix: Mix, *, seed: int, start: datetime, end: datetime) -> Iterator[Request]:
    """Yield the workload in the order it is sent: some twice, some hours after newer ones."""
    if start.tzinfo is None or end.tzinfo is None or end <= start:
        raise ValueError("start and end must be aware, and end after start")
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    streams = [_said_by(client, seed, start, end) for client in clients(mix, seed=seed)]
    in_order = heapq.merge(*streams, key=lambda request: (request.offset_us, request.client))
    return _as_sent(in_order, _seeded(seed, "sending"))


def _said_by(client: Client, seed: int, start: datetime, end: datetime) -> Iterator[Request]:
    random = _seeded(seed, client.name, "requests")
    session, before_us = 0, -(10**12)
    for number, offset_us in enumerate(arrivals_us(client, seed=seed, start=start, end=end), 1):
        gap_s = (offset_us - before_us) / _SECOND_US
        if gap_s > SESSION_GAP_S or random.random() < 1 / client.archetype.turns_mean:
            session += 1
        before_us = offset_us
        yield Request(
            id=f"{client.name}-{number}",
            offset_us=offset_us,
            model=client.models[0 if random.random() < 0.8 else -1],
            quantities=_quantities(client.archetype, gap_s, random),
            client=client.name,
            labels=_labels(client, session, random),
        )


def _labels(client: Client, session: int, random: Random) -> dict[str, str]:
    labels = {
        "project": client.project,
        "api_key": client.name,
        "region": client.region,
        "service_class": client.archetype.service_class,
    }
    if client.archetype.turns_mean > 1:
        labels["session"] = f"{client.name}-s{session}"
    if client.archetype.agents:
        labels["agent"] = random.choice(client.archetype.agents)
    return labels


def _quantities(kind: Archetype, gap_s: float, random: Random) -> dict[str, int]:
    """Draw disjoint registers: what was cached is not input, what was thought is not output."""
    given = _input_tokens(kind, random)
    warm = random.random() < 2 ** (-gap_s / CACHE_HALF_LIFE_S)
    cached = int(given * random.uniform(*kind.cached)) if warm else 0
    cached -= cached % CACHE_BLOCK_TOKENS
    produced = min(1 + int(random.expovariate(1 / kind.output_mean)), kind.output_max)
    thought = int(produced * _reasoning_share(random)) if kind.reasons else 0
    drawn = {
        "input": given - cached,
        "cache_read": cached,
        "output": produced - thought,
        "reasoning": thought,
    }
    return {register: tokens for register, tokens in drawn.items() if tokens}


def _input_tokens(kind: Archetype, random: Random) -> int:
    if random.random() < 0.96:
        drawn = random.lognormvariate(math.log(kind.input_median), kind.input_sigma)
    else:
        drawn = 3 * kind.input_median * random.paretovariate(1.3)
    return max(1, min(int(drawn), kind.context_max))


def _reasoning_share(random: Random) -> float:
    """Bimodal: some answers think a third of the way, most think nearly all of it."""
    return random.betavariate(8, 14) if random.random() < 0.35 else random.betavariate(22, 3)


def _as_sent(in_order: Iterator[Request], random: Random) -> Iterator[Request]:
    """Hold back the late ones, repeat the duplicates, let everything else pass."""
    held: list[tuple[int, int, Request]] = []
    for number, request in enumerate(in_order):
        while held and held[0][0] <= request.offset_us:
            yield heapq.heappop(held)[2]
        roll = random.random()
        if roll < LATE_SHARE:
            delay_s = min(random.expovariate(1 / LATE_MEAN_S), LATE_MAX_S)
            heapq.heappush(held, (request.offset_us + int(delay_s * _SECOND_US), number, request))
            continue
        yield request
        if roll > 1 - DUPLICATE_SHARE:
            again_us = request.offset_us + random.randrange(1, 120) * _SECOND_US
            heapq.heappush(held, (again_us, number, request))
    while held:
        yield heapq.heappop(held)[2]
