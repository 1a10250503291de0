"""What an answer means for the batch that it answers. Pure.

Taken: each event has its outcome. Later: send the same again after a pause. Held: sending again
cannot help until somebody mends the key or the address, so everything waits. Split: the batch as
such was refused, and a smaller one may find the event at fault. Plain: never compress again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from kilotoken.posting import Answer

LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507})
RETRY_AFTER_S_MAX = 3600.0
# Refusals of a body for what is in it. A 400 with any other code may come from a stranger on the
# way, and a stranger's word is no reason to give up an event.
OF_CONTENT = frozenset({
    "body_too_large", "too_many_events", "duplicate_key", "malformed_json", "not_utf8", "too_deep",
    "wrong_shape",
})  # fmt: skip


@dataclass(frozen=True)
class Taken:
    """Every event has its outcome; `errors` are the conflicts and rejections, by their index.

    `flags` counts what the server finds worth knowing of events that it has: late, zero.
    """

    accepted: int
    duplicate: int
    errors: Mapping[int, Mapping[str, Any]]
    flags: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Later:
    """Try again, no sooner than the server asks."""

    after_s: float
    why: str


@dataclass(frozen=True)
class Held:
    """Keep everything and complain: sending again cannot help by itself."""

    why: str


@dataclass(frozen=True)
class Split:
    """The whole batch was refused for what one of its events holds, or for its size."""

    code: str
    detail: str
    certain: bool  # whether it is our server that says so


@dataclass(frozen=True)
class Plain:
    """The server does not read compressed bodies."""


Verdict = Taken | Later | Held | Split | Plain


def verdict(answer: Answer, sent: int, *, now_s: float) -> Verdict:
    """Read the answer to a batch of `sent` events."""
    said = _object(answer.body)
    status, code = answer.status, str(said.get("code", ""))
    if code == "backfill_not_open":  # closed or reverted: somebody has to open another one
        return Held(f"the server answered {code}: {str(said.get('detail', ''))[:300]}")
    if status in (202, 207, 422) and "submitted" in said:
        return _taken(said, sent)
    if status in LATER:
        return Later(_retry_after_s(answer, now_s), f"the server answered {status} {code}".strip())
    if status == 415 and code == "unsupported_encoding":
        return Plain()
    detail = str(said.get("detail") or said.get("title") or "")[:300]
    if code in OF_CONTENT or status == 413:
        return Split(code or "body_too_large", detail, certain=code in OF_CONTENT)
    return Held(f"the server answered {status} {code}: {detail}".replace(" :", ":").rstrip(": "))


def takes_gzip(answer: Answer) -> bool:
    """Whether the server says that it reads gzip (RFC 7694)."""
    offered = answer.headers.get("accept-encoding", "").lower().split(",")
    return any(each.split(";")[0].strip() == "gzip" for each in offered)


def _taken(said: Mapping[str, Any], sent: int) -> Taken | Held:
    counts = [said.get(name) for name in ("accepted", "duplicate", "conflict", "rejected")]
    listed = said.get("events")
    if not isinstance(listed, list) or not all(type(count) is int for count in counts):
        return Held("the server's answer cannot be read")
    accepted, duplicate, conflict, rejected = (int(count or 0) for count in counts)
    errors = {
        entry["index"]: entry
        for entry in listed
        if isinstance(entry, dict) and entry.get("status") in ("conflict", "rejected")
    }
    complete = accepted + duplicate + conflict + rejected == said["submitted"] == sent
    if not complete or len(errors) != conflict + rejected or not set(errors) <= set(range(sent)):
        return Held(f"the server's answer does not add up to the {sent} events it was sent")
    return Taken(accepted, duplicate, errors, _flags(said.get("flags")))


def _flags(told: object) -> Mapping[str, int]:
    """The counts of those that can be read; a server older than flags tells of none."""
    counts = told.items() if isinstance(told, dict) else ()
    return {str(name): count for name, count in counts if type(count) is int}


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _retry_after_s(answer: Answer, now_s: float) -> float:
    """Retry-After, in seconds or as a date, within reason."""
    asked = answer.headers.get("retry-after", "").strip()
    if asked.isdigit():
        return min(float(asked), RETRY_AFTER_S_MAX)
    try:
        until = parsedate_to_datetime(asked).timestamp()
    except (TypeError, ValueError):
        return 0.0
    return min(max(until - now_s, 0.0), RETRY_AFTER_S_MAX)


def pause_s(retries: int, after_s: float, chance: float, *, first_s: float, most_s: float) -> float:
    """Full jitter: many senders that failed together must not come back together."""
    return after_s + chance * min(first_s * (1 << min(retries, 20)), most_s)


def refusals(taken: Taken) -> Sequence[int]:
    """The indexes of rejections that may succeed later with the same id."""
    return [
        index
        for index, error in taken.errors.items()
        if error["status"] == "rejected" and error.get("retryable") is True
    ]
