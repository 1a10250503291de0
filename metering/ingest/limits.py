"""How much a key may send: buckets that fill at a rate and hold a burst. Time is passed in.

A bucket starts full. It never lets through more than `rate x time + burst`; one request that is
larger than the whole burst (only an OpenTelemetry export can be) needs a full bucket and leaves a
debt. Levels are whole units times nanoseconds: nothing is lost or gained by rounding, however often
it is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from accounts.problems import Problem
from metering.ingest.decode import BODY_BYTES_MAX, EVENTS_MAX, Refusal

BURST_S = 10  # a bucket holds what its rate fills in this time, and never less than one request
REMEMBERED_MAX = 10_000
NS = 1_000_000_000

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Rate:
    """Units a second, and units at once."""

    per_s: int
    burst: int

    @classmethod
    def shared(cls, per_s: int, *, at_once_min: int, processes: int) -> Rate:
        """One process's share of a rate. Every share holds at least one whole request."""
        share = max(1, -(-per_s // processes))
        return cls(share, max(at_once_min, share * BURST_S))

    @property
    def window_s(self) -> int:
        """In how many seconds an empty bucket is full, rounded up."""
        return -(-self.burst // self.per_s)


@dataclass(slots=True)
class Bucket:
    """A level that rises with time and falls with use."""

    rate: Rate
    level: int  # unit-nanoseconds; below zero after a request larger than the burst
    filled_at_ns: int

    @classmethod
    def full(cls, rate: Rate, now_ns: int) -> Bucket:
        """One that nobody has drawn from."""
        return cls(rate, rate.burst * NS, now_ns)

    def take(self, units: int, now_ns: int) -> int:
        """Take all the units, or none and say how many nanoseconds to wait; 0 means taken."""
        self._fill(now_ns)
        missing = min(units, self.rate.burst) * NS - self.level
        if missing > 0:
            return -(-missing // self.rate.per_s)
        self.level -= units * NS
        return 0

    def remaining(self) -> int:
        """Whole units that could be taken at once, as of the last look."""
        return max(self.level, 0) // NS

    def full_in_s(self) -> int:
        """Seconds until it is full, rounded up, as of the last look."""
        return -(-(self.rate.burst * NS - self.level) // (self.rate.per_s * NS))

    def is_full(self, now_ns: int) -> bool:
        """Whether it is as good as new."""
        self._fill(now_ns)
        return self.level == self.rate.burst * NS

    def _fill(self, now_ns: int) -> None:
        if now_ns > self.filled_at_ns:
            gained = (now_ns - self.filled_at_ns) * self.rate.per_s
            self.level = min(self.level + gained, self.rate.burst * NS)
            self.filled_at_ns = now_ns


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a key may send, a second; None is without limit."""

    events_per_s: int | None
    bytes_per_s: int | None


UNLIMITED = Allowed(None, None)
# By the name that answers use: the quota unit of the RateLimit headers, and the least burst.
UNITS = {"events": ("events", EVENTS_MAX), "bytes": ("content-bytes", BODY_BYTES_MAX)}


class Allowance:
    """The buckets of one key in this process. For several threads at once."""

    def __init__(self, allowed: Allowed, *, processes: int, now_ns: int) -> None:
        self.allowed = allowed
        self._lock = threading.Lock()
        rates = {"events": allowed.events_per_s, "bytes": allowed.bytes_per_s}
        self._buckets = {
            name: Bucket.full(
                Rate.shared(per_s, at_once_min=UNITS[name][1], processes=processes), now_ns
            )
            for name, per_s in rates.items()
            if per_s is not None
        }
        self._policy = ", ".join(
            f'"{name}";q={one.rate.burst};w={one.rate.window_s};qu="{UNITS[name][0]}"'
            for name, one in self._buckets.items()
        )

    def take(self, name: str, units: int, now_ns: int, *, is_piece: bool = False) -> None:
        """Let through so many events or bytes, or refuse with how long to wait.

        A piece is part of a request whose size nobody knows, and what came of it before is drawn
        for good: only a full bucket is sure to hold all of it when it is sent again.
        """
        bucket = self._buckets.get(name)
        if bucket is None:
            return
        with self._lock:
            wait_ns = bucket.take(units, now_ns)
        if wait_ns:
            wait_s = bucket.full_in_s() if is_piece else -(-wait_ns // NS)
            raise self._refusal(name, bucket, units, wait_s, is_piece=is_piece)

    def headers(self) -> Headers:
        """What is left, as draft-ietf-httpapi-ratelimit-headers has it; nothing without limits."""
        if not self._buckets:
            return ()
        left = ", ".join(
            f'"{name}";r={one.remaining()};t={one.full_in_s()}'
            for name, one in self._buckets.items()
        )
        return (("RateLimit-Policy", self._policy), ("RateLimit", left))

    def is_unused(self, now_ns: int) -> bool:
        """Whether forgetting it changes nothing."""
        with self._lock:
            return all(bucket.is_full(now_ns) for bucket in self._buckets.values())

    def _refusal(
        self, name: str, bucket: Bucket, units: int, wait_s: int, *, is_piece: bool
    ) -> Refusal:
        rate, remaining = bucket.rate, bucket.remaining()
        what = "the next piece of this request" if is_piece else "this request"
        detail = (
            f"This key may send {rate.per_s} {name} a second, {rate.burst} at once; {what} "
            f"has {units} and {remaining} are left. Send it again, unchanged, in {wait_s} s."
        )
        extra: dict[str, object] = {
            "limit": rate.per_s, "unit": f"{name}_per_s", "burst": rate.burst,
            "remaining": remaining, "retry_after_s": wait_s,
        }  # fmt: skip
        headers = (
            ("RateLimit-Policy", self._policy),
            ("RateLimit", f'"{name}";r={remaining};t={wait_s}'),
        )
        return Refusal(Problem("rate_limited", detail, extra), headers)


class Allowances:
    """The allowances of this process's keys."""

    def __init__(self) -> None:
        self._known: dict[int, Allowance] = {}
        self._lock = threading.Lock()

    def of(self, api_key_id: int, allowed: Allowed, *, processes: int, now_ns: int) -> Allowance:
        """The key's allowance; a new one, full, when its limits were changed."""
        found = self._known.get(api_key_id)
        if found is not None and found.allowed == allowed:
            return found
        with self._lock:
            if len(self._known) >= REMEMBERED_MAX:
                self._drop_unused(now_ns)
            found = Allowance(allowed, processes=processes, now_ns=now_ns)
            self._known[api_key_id] = found
        return found

    def forget(self) -> None:
        """Every bucket is full again."""
        with self._lock:
            self._known.clear()

    def _drop_unused(self, now_ns: int) -> None:
        """Full buckets are as good as new ones; if all are in use, all begin anew."""
        in_use = {key: one for key, one in self._known.items() if not one.is_unused(now_ns)}
        self._known = in_use if len(in_use) < REMEMBERED_MAX else {}
