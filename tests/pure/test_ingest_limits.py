"""Limits per key: buckets in whole numbers, with the time passed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.ingest.decode import BODY_BYTES_MAX, EVENTS_MAX, Refusal
from metering.ingest.limits import BURST_S, NS, Allowance, Allowances, Allowed, Bucket, Rate

RATES = st.builds(Rate, st.integers(1, 50_000), st.integers(1, 500_000))
STEPS = st.lists(st.tuples(st.integers(0, 3 * NS), st.integers(1, 2_000)), max_size=80)


@given(RATES, STEPS)
def test_never_more_than_rate_times_time_plus_burst(
    rate: Rate, steps: list[tuple[int, int]]
) -> None:
    """Over every stretch of time, not only from the start."""
    bucket, now = Bucket.full(rate, 0), 0
    taken: list[tuple[int, int]] = []
    for pause, asked in steps:
        now += pause
        units = min(asked, rate.burst)
        if bucket.take(units, now) == 0:
            taken.append((now, units))
    for first, (start, _) in enumerate(taken):
        admitted = 0
        for at, units in taken[first:]:
            admitted += units
            assert admitted * NS <= rate.per_s * (at - start) + rate.burst * NS


@given(RATES, STEPS)
def test_who_waits_as_long_as_told_is_let_through_and_not_a_nanosecond_before(
    rate: Rate, steps: list[tuple[int, int]]
) -> None:
    bucket, now = Bucket.full(rate, 0), 0
    for pause, asked in steps:
        now += pause
        wait = bucket.take(asked, now)
        if wait:
            assert bucket.take(asked, now + wait - 1) > 0
            assert bucket.take(asked, now + wait) == 0
            now += wait


@given(RATES, st.integers(1, 10**6))
def test_a_request_larger_than_the_burst_needs_a_full_bucket_and_leaves_a_debt(
    rate: Rate, more: int
) -> None:
    bucket = Bucket.full(rate, 0)
    assert bucket.take(rate.burst + more, 0) == 0
    assert bucket.remaining() == 0
    # What was lent comes back first: one unit can be had only after `more` others.
    assert bucket.take(1, 0) == -(-(more + 1) * NS // rate.per_s)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = Bucket.full(Rate(10, 10), 5 * NS)
    assert bucket.take(10, 5 * NS) == 0
    assert bucket.take(1, 5 * NS) > 0
    assert bucket.take(1, 4 * NS) > 0
    assert bucket.take(1, 5 * NS + NS // 10) == 0


@pytest.mark.parametrize(
    ("per_s", "processes", "wanted"),
    [
        (20_000, 1, Rate(20_000, 20_000 * BURST_S)),
        (20_000, 4, Rate(5_000, 5_000 * BURST_S)),
        (10, 1, Rate(10, EVENTS_MAX)),  # a whole request always fits
        (1, 8, Rate(1, EVENTS_MAX)),
        (10, 3, Rate(4, EVENTS_MAX)),
    ],
)
def test_processes_share_a_limit_and_each_can_take_one_whole_request(
    per_s: int, processes: int, wanted: Rate
) -> None:
    assert Rate.shared(per_s, at_once_min=EVENTS_MAX, processes=processes) == wanted


def test_a_refusal_says_how_much_is_allowed_left_and_when_to_come_back() -> None:
    allowance = Allowance(Allowed(100, None), processes=1, now_ns=0)
    allowance.take("events", 950, 0)
    allowance.take("bytes", BODY_BYTES_MAX, 0)
    with pytest.raises(Refusal) as refused:
        allowance.take("events", 300, 0)
    problem = refused.value.problem
    assert (problem.code, problem.status) == ("rate_limited", 429)
    assert problem.extra == {
        "limit": 100, "unit": "events_per_s", "burst": 1000, "remaining": 50, "retry_after_s": 3,
    }  # fmt: skip
    assert ("Retry-After", "3") in problem.headers()
    assert dict(refused.value.headers) == {
        "RateLimit-Policy": '"events";q=1000;w=10;qu="events"',
        "RateLimit": '"events";r=50;t=3',
    }
    allowance.take("events", 300, 3 * NS)


@given(st.integers(1, BODY_BYTES_MAX), st.integers(0, BODY_BYTES_MAX))
def test_a_body_of_unknown_size_gets_through_when_sent_again_after_as_long_as_told(
    size: int, drawn: int
) -> None:
    """What came of it before the refusal is drawn for good, so waiting for one piece is no end."""
    allowance = Allowance(Allowed(None, 100_000), processes=1, now_ns=0)
    allowance.take("bytes", drawn, 0)
    try:
        _in_pieces(allowance, size, 0)
    except Refusal as refused:
        wait_s = refused.problem.extra["retry_after_s"]
        assert isinstance(wait_s, int)
        _in_pieces(allowance, size, wait_s * NS)


def _in_pieces(allowance: Allowance, size: int, now_ns: int) -> None:
    piece = 1 << 16
    for start in range(0, size, piece):
        allowance.take("bytes", min(piece, size - start), now_ns, is_piece=True)


def test_headers_tell_of_both_limits_and_of_none() -> None:
    both = Allowance(Allowed(1_000, 1_000_000), processes=1, now_ns=0)
    both.take("events", 1, 0)
    assert dict(both.headers()) == {
        "RateLimit-Policy": '"events";q=10000;w=10;qu="events", '
        '"bytes";q=10000000;w=10;qu="content-bytes"',
        "RateLimit": '"events";r=9999;t=1, "bytes";r=10000000;t=0',
    }
    assert Allowance(Allowed(None, None), processes=1, now_ns=0).headers() == ()


def test_a_key_keeps_its_bucket_until_its_limits_change() -> None:
    known = Allowances()
    first = known.of(7, Allowed(1, None), processes=1, now_ns=0)
    first.take("events", EVENTS_MAX, 0)
    assert known.of(7, Allowed(1, None), processes=1, now_ns=0) is first
    with pytest.raises(Refusal):
        first.take("events", 1, 0)
    known.of(7, Allowed(2, None), processes=1, now_ns=0).take("events", EVENTS_MAX, 0)


def test_forgetting_for_want_of_room_gives_nobody_a_second_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("metering.ingest.limits.REMEMBERED_MAX", 3)
    known, allowed = Allowances(), Allowed(1, None)
    used = known.of(1, allowed, processes=1, now_ns=0)
    used.take("events", 1, 0)
    for key in (2, 3, 4, 5):
        known.of(key, allowed, processes=1, now_ns=0)
    assert known.of(1, allowed, processes=1, now_ns=0) is used
