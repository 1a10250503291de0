"""The generated workload has the shape of real ones, within the bands published for them."""

import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from workloads import shape

START = datetime(2026, 11, 2, tzinfo=UTC)
THREE_DAYS = START + timedelta(days=3)
BUSY = shape.Mix(requests_per_day=20_000)
SMALL = shape.Mix(clients=20, requests_per_day=400)


def arrivals(mix: shape.Mix, seed: int) -> dict[str, list[int]]:
    return {
        client.name: list(shape.arrivals_us(client, seed=seed, start=START, end=THREE_DAYS))
        for client in shape.clients(mix, seed=seed)
    }


def windows(moments_us: list[int]) -> dict[int, list[int]]:
    parts: dict[int, list[int]] = {}
    for moment_us in moments_us:
        parts.setdefault(moment_us // 600_000_000, []).append(moment_us)
    return parts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_load_is_skewed_peaky_and_bursty_as_in_real_pools(seed):
    by_client = arrivals(BUSY, seed)
    total = sum(map(len, by_client.values()))
    top_10 = sum(sorted(map(len, by_client.values()))[-10:])
    assert 0.60 <= top_10 / total <= 0.90

    pool = Counter[int]()
    variations = []
    for moments_us in by_client.values():
        for window, inside in windows(moments_us).items():
            pool[window] += len(inside)
            if len(inside) >= 30:
                gaps = [after - before for before, after in pairwise(inside)]
                variations.append(statistics.pstdev(gaps) / statistics.mean(gaps))
    assert 1.8 <= max(pool.values()) / (total / (3 * 144)) <= 3.2
    assert sum(variation > 1 for variation in variations) / len(variations) > 0.60


def test_the_median_client_is_silent_most_of_the_time():
    busy_windows = [len(windows(moments)) for moments in arrivals(BUSY, 1).values()]
    assert 0.59 <= 1 - statistics.median(busy_windows) / (3 * 144) <= 0.97


def test_the_same_seed_and_end_make_the_same_events():
    def drawn(seed: int) -> list[shape.Request]:
        return list(shape.requests(SMALL, seed=seed, start=START, end=THREE_DAYS))

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_every_id_is_one_event_and_a_few_are_sent_twice_or_late():
    sent = list(shape.requests(BUSY, seed=1, start=START, end=THREE_DAYS))
    once = {request.id: request for request in sent}
    assert all(once[request.id] == request for request in sent)
    assert 0.003 <= (len(sent) - len(once)) / len(once) <= 0.007
    newest_us, late = 0, 0
    for request in sent:
        late += request.offset_us < newest_us - 120_000_000  # a duplicate lags two minutes at most
        newest_us = max(newest_us, request.offset_us)
    assert 0.006 <= late / len(sent) <= 0.014


def test_every_event_is_counted_in_whole_disjoint_positive_registers():
    sent = list(shape.requests(SMALL, seed=3, start=START, end=THREE_DAYS))
    for request in sent:
        assert request.quantities.keys() <= {"input", "cache_read", "output", "reasoning"}
        assert all(
            type(tokens) is int and 0 < tokens <= 131_072 for tokens in request.quantities.values()
        )
        assert 0 <= request.offset_us < 3 * 86_400_000_000
    assert {"input", "cache_read", "output", "reasoning"} == set().union(
        *(request.quantities for request in sent)
    )


def test_only_reasoning_models_reason():
    sent = list(shape.requests(BUSY, seed=5, start=START, end=START + timedelta(hours=6)))
    assert {r.model for r in sent if "reasoning" in r.quantities} == {"deepseek-r1"}


def test_labels_vary_over_projects_keys_sessions_agents_regions_and_classes():
    mix = shape.Mix(projects=("search", "support"), clients=40, requests_per_day=3_000)
    sent = list(shape.requests(mix, seed=1, start=START, end=THREE_DAYS))
    for label in ("project", "api_key", "session", "agent", "region", "service_class"):
        assert len({request.labels.get(label) for request in sent}) > 1, label


def test_a_naive_or_backward_stretch_is_refused():
    with pytest.raises(ValueError, match="aware"):
        shape.requests(SMALL, seed=1, start=START.replace(tzinfo=None), end=THREE_DAYS)
    with pytest.raises(ValueError, match="after start"):
        shape.requests(SMALL, seed=1, start=THREE_DAYS, end=START)
