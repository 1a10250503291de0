"""Backfills as the door sees them: whether one is open, and which time it covers."""

from __future__ import annotations

from accounts.problems import Problem
from metering.ingest.callers import Caller
from metering.ingest.decode import Refusal
from metering.ingest.pool import connected
from metering.usage.correction import Span

FIND = """
    SELECT state, starts_at, ends_at FROM metering_backfill WHERE organization_id = %s AND id = %s
"""


def span_of(caller: Caller, number: int | None) -> Span | None:
    """The time that an open backfill covers; None where none is meant.

    Whether it is still open when the events are stored is seen to there (metering.store).
    """
    if number is None:
        return None
    with connected() as connection:
        row = connection.execute(FIND, [caller.organization_id, number]).fetchone()
    if row is None:
        detail = f"The organization has no backfill {number}."
        raise Refusal(Problem("unknown_backfill", detail))
    state, starts_at, ends_at = row
    if state != "open":
        raise not_open(number, state)
    return Span(starts_at, ends_at)


def not_open(number: int | None, state: str = "not open any more") -> Refusal:
    """Nothing can be sent into it; nothing of this request was stored."""
    return Refusal(
        Problem(
            "backfill_not_open",
            f"Backfill {number} is {state}, so nothing of this request was stored. Open another "
            "one and send it there.",
        )
    )
