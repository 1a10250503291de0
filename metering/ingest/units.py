"""A small request while it waits to be stored together with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from metering.ingest import door, plain
from metering.ingest.callers import Caller
from metering.ingest.decode import Sent
from metering.ingest.door import Admitted
from metering.ingest.plain import Wire
from metering.ingest.take import Taken
from metering.usage.event import UsageEvent

REQUEST_EVENTS_MAX = 20  # a larger request is worth a transaction of its own


class Arrived(NamedTuple):
    """A request as it came, to be read together with others of its key."""

    admitted: Admitted
    body: bytes
    wires: Sequence[Wire]


@dataclass(slots=True, eq=False)
class Unit:
    """One request's events while they wait, and in the end what became of them."""

    caller: Caller
    sent: Sent | None  # None until it is read
    waiter: Any = None  # whatever is to be woken
    arrived: Arrived | None = None
    taken: Taken | None = None
    error: Exception | None = None
    delivered: bool = False

    def identities(self) -> list[tuple[int, str, str]]:
        """What may not stand twice in one group."""
        organization_id = self.caller.organization_id
        events = self.arrived.wires if self.arrived else self.read().events
        return [(organization_id, event.source, event.id) for event in events]  # type: ignore[union-attr]

    def read(self) -> Sent:
        """Its events, read by itself unless they were read before; or a Refusal."""
        if self.sent is None:
            assert self.arrived is not None
            sent = door.understand(self.arrived.admitted, self.arrived.body)
            assert isinstance(sent, Sent)
            self.sent = sent
        return self.sent


def arrived(admitted: Admitted, body: bytes) -> Arrived | None:
    """A request that may be read together with others; None where it is large, odd or no JSON."""
    try:
        wires = plain.wires(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return Arrived(admitted, body, wires) if _are_few(wires) else None


def is_small(sent: Sent) -> bool:
    """Whether a request may share a transaction: few events, all good, none of them twice."""
    events = [event for event in sent.events if isinstance(event, UsageEvent)]
    return len(events) == len(sent.events) and _are_few(events)


def _are_few(events: Sequence[UsageEvent | Wire]) -> bool:
    if len(events) == 1:
        return True
    identities = {(event.source, event.id) for event in events}
    return 0 < len(identities) == len(events) <= REQUEST_EVENTS_MAX
