"""The requests of one key in a group: read together, numbered together, stored as one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import Connection

from metering import news
from metering.ingest import decode, naming
from metering.ingest.decode import Decoded, Refusal, Sent, id_of
from metering.ingest.flagging import Verdict, closed_for, flagged, is_plain_news
from metering.ingest.plain import NotPlain, Plain
from metering.ingest.take import Taken, all_accepted, as_news, placed
from metering.ingest.units import Arrived, Unit, is_small
from metering.news import News, Opened
from metering.store import Incoming, Outcome, Status, Stored, store
from metering.usage.event import Rejected
from metering.usage.flags import ClosedPeriod


@dataclass(slots=True)
class Batch:
    """The events of one key in a group."""

    organization_id: int
    api_key_id: int
    units: list[Unit] = field(default_factory=list)
    plain: Plain | None = None  # the events of all units, where they could be read together
    news: News | None = None
    incoming: list[Incoming] = field(default_factory=list)  # else
    opened: Opened | None = None
    stored: Stored | None = None
    closed: Sequence[ClosedPeriod] = ()  # that some of its events may lie in

    @property
    def is_stored(self) -> bool:
        """Whether its events are as good as committed."""
        return self.opened is not None or self.stored is not None

    def read(self) -> list[Unit]:
        """Read what has not been read; those of its units that are refused, and leave it."""
        refused = self._read_together()
        if self.plain is None:
            for unit in self.units:
                try:
                    unit.read()
                except Exception as error:  # whatever it is, it is no other's
                    unit.error = error
                    refused.append(unit)
        self.units = [unit for unit in self.units if unit.error is None]
        return refused

    def _read_together(self) -> list[Unit]:
        """Read and count all of them, unless one is odd; those that are more than their key may."""
        refused: list[Unit] = []
        waiting = [(unit, unit.arrived) for unit in self.units if unit.arrived and not unit.sent]
        if len(waiting) < len(self.units):
            return refused
        now = self.units[-1].caller.now()
        try:
            self.plain = _together([one for _, one in waiting], now)
        except NotPlain:
            return refused
        for unit, one in waiting:
            try:
                one.admitted.count(len(one.wires))
            except Refusal as refusal:
                unit.error = refusal
                refused.append(unit)
        if refused:
            counted = [one for unit, one in waiting if unit.error is None]
            self.plain = _together(counted, now) if counted else None
        return refused

    def prepare(self, connection: Connection[Any]) -> list[Unit]:
        """Give every name its number now: within the transaction none would be remembered.

        Those of its units that cannot be stored as they are leave it.
        """
        self._find_closed(connection)
        if self.plain is not None:
            self.news = as_news(connection, self.units[-1].caller, self.plain)
        alone = [] if self.news else self._place(connection)
        self.units = [unit for unit in self.units if unit not in alone]
        return alone

    def _find_closed(self, connection: Connection[Any]) -> None:
        events: Decoded = self.plain or [one for unit in self.units for one in unit.read().events]
        if self.units:
            self.closed = closed_for(connection, self.units[-1].caller, events)

    def _place(self, connection: Connection[Any]) -> list[Unit]:
        """Find the project of each event; the units that have more to them than good events."""
        alone = []
        items = [self._placed(connection, unit) for unit in self.apart()]
        together = [item for of_unit in items for item in of_unit if isinstance(item, Incoming)]
        naming.know(connection, self.organization_id, together)
        for unit, of_unit in zip(self.units, items, strict=True):
            found = naming.named(connection, self.organization_id, unit.read(), of_unit)
            incoming = [item for item in found if isinstance(item, Incoming)]
            if not incoming or len(incoming) < len(found):
                alone.append(unit)
                continue
            start = len(self.incoming)
            self.incoming += [item._replace(ordinal=start + item.ordinal) for item in incoming]
        return alone

    def _placed(self, connection: Connection[Any], unit: Unit) -> Sequence[Incoming | Rejected]:
        sent = unit.read()
        return placed(connection, self.units[-1].caller, sent) if is_small(sent) else ()

    def apart(self) -> Sequence[Unit]:
        """Its units, each with those of the events that are its own."""
        if self.plain is not None:
            start = 0
            for unit in self.units:
                assert unit.arrived is not None
                end = start + len(unit.arrived.wires)
                unit.sent = decode.sent_of(self.plain[start:end], unit.arrived.body)
                start = end
        self.plain = None
        return self.units

    def store(self, connection: Connection[Any]) -> None:
        """All of it, as news or event by event."""
        whose = connection, self.organization_id, self.api_key_id
        if self.news is not None:
            self.opened = news.store(*whose, self.news)
        if self.opened is None:
            if self.news is not None:  # some of it is known, but every project is found
                self._place(connection)
            self.stored = store(*whose, self.incoming)

    def undo(self) -> None:
        """Nothing of it was committed."""
        self.opened = self.stored = None

    def tell(self) -> None:
        """Give every request the verdicts on its own events."""
        if self.opened is not None and self.plain and is_plain_news(self.plain, self.closed):
            alike: dict[int, Taken] = {}
            for unit in self.units:
                assert unit.arrived is not None
                count = len(unit.arrived.wires)
                if count not in alike:
                    alike[count] = Taken(all_accepted(count), self.opened.batch_id, news=True)
                unit.taken = alike[count]
            return
        batch = self.opened or self.stored
        assert batch is not None
        outcomes: Iterator[Verdict] | None = iter(self.stored.outcomes) if self.stored else None
        for unit in self.apart():
            sent = unit.read()
            count = len(sent.events)
            own: Sequence[Verdict] = all_accepted(count)
            if outcomes is not None:
                own = [_own(sent, index, next(outcomes)) for index in range(count)]
            new = any(isinstance(one, Outcome) and one.status is Status.ACCEPTED for one in own)
            told = flagged(own, sent.events, self.closed, batch.received_at)
            unit.taken = Taken(told, batch.batch_id, new)


def _together(requests: Sequence[Arrived], now: datetime) -> Plain:
    """The events of several requests, which must all be plain."""
    wires = [wire for one in requests for wire in one.wires]
    return decode.plain_of(wires, b"\n".join([one.body for one in requests]), now)


def _own(sent: Sent, index: int, outcome: Outcome | Rejected) -> Outcome | Rejected:
    """A verdict as its own request has it: what was refused while storing points into its body."""
    if isinstance(outcome, Outcome):
        return outcome._replace(ordinal=index)
    outcome.pointer = sent.pointer(index, outcome.pointer)
    outcome.event_id = id_of(sent.events[index])
    return outcome
