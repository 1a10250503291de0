"""Group commit: small requests that wait at the same time share one transaction.

Nobody waits for company: a request that finds the committer idle is committed at once, and those
that come meanwhile are the next group, in which organizations take turns. Events of one key become
one batch. Each request is answered after the COMMIT that holds its events and not before.

A neighbour harms nobody: each batch has a savepoint, and where one fails, each of its requests is
tried again alone. The same identity never stands twice in one group, so no answer speaks of a place
in another request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from accounts.problems import Problem
from metering import names
from metering.ingest.callers import Caller
from metering.ingest.decode import Refusal, Sent, id_of
from metering.ingest.pool import connected
from metering.ingest.take import Taken, keep_faults, placed, take
from metering.ingest.turns import Turns
from metering.store import Incoming, Outcome, Status, Stored, store
from metering.usage.event import Rejected, UsageEvent

REQUEST_EVENTS_MAX = 20  # a larger request is worth a transaction of its own
GROUP_MAX = 256  # requests in one transaction
WAITING_MAX = 4_096  # requests; beyond, senders are told to come back
EACH_MAX = 1_024  # of one organization

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Unit:
    """One request's events while they wait, and in the end what became of them."""

    caller: Caller
    sent: Sent
    waiter: Any = None  # whatever is to be woken
    taken: Taken | None = None
    error: Exception | None = None
    delivered: bool = False

    def identities(self) -> Iterable[tuple[int, str, str]]:
        """What may not stand twice in one group."""
        organization_id = self.caller.organization_id
        for event in self.sent.events:
            assert isinstance(event, UsageEvent)
            yield organization_id, event.source, event.id


Deliver = Callable[[Sequence[Unit]], None]


def is_small(sent: Sent) -> bool:
    """Whether a request may share a transaction: few events, all good, none of them twice."""
    events = sent.events
    if len(events) == 1:
        return isinstance(events[0], UsageEvent)
    return (
        len(events) <= REQUEST_EVENTS_MAX
        and all(isinstance(event, UsageEvent) for event in events)
        and len({(event.source, event.id) for event in events if isinstance(event, UsageEvent)})
        == len(events)
    )


class Gatherer:
    """A queue of small requests, and the thread that commits them group by group."""

    def __init__(self, deliver: Deliver) -> None:
        """`deliver` is called on that thread, with requests whose outcome is known."""
        self._deliver = deliver
        self._turns: Turns[Unit] = Turns(waiting_max=WAITING_MAX, each_max=EACH_MAX)
        self._some = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gather", daemon=True)
        self._thread.start()

    def put(self, unit: Unit) -> None:
        """Queue up for the next group; 503 where too many wait already."""
        with self._some:
            if self._closed or not self._turns.put(unit.caller.organization_id, unit):
                detail = "More events wait than can be stored soon, so this one was not taken."
                raise Refusal(Problem("temporarily_unavailable", detail))
            self._some.notify()

    def close(self) -> None:
        """Commit what waits, and end."""
        with self._some:
            self._closed = True
            self._some.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next():
            commit(group, self._deliver)

    def _next(self) -> list[Unit]:
        """The next group, as soon as anybody waits; empty at the end."""
        with self._some:
            while not (len(self._turns) or self._closed):
                self._some.wait()
            return form(self._turns)


def form(turns: Turns[Unit]) -> list[Unit]:
    """Who waits longest of each organization, in turn; who repeats an identity waits once more."""
    group: list[Unit] = []
    repeating: list[Unit] = []
    seen: set[tuple[int, str, str]] = set()
    while len(group) < GROUP_MAX and (unit := turns.take()) is not None:
        own = set(unit.identities())
        if seen.isdisjoint(own):
            seen |= own
            group.append(unit)
        else:
            repeating.append(unit)
    for unit in reversed(repeating):
        turns.put_back(unit.caller.organization_id, unit)
    return group


@dataclass(slots=True)
class _Batch:
    """The events of one key in a group."""

    organization_id: int
    api_key_id: int
    units: list[Unit] = field(default_factory=list)
    incoming: list[Incoming] = field(default_factory=list)
    stored: Stored | None = None

    def add(self, unit: Unit, found: Sequence[Incoming]) -> None:
        start = len(self.incoming)
        self.units.append(unit)
        self.incoming += [item._replace(ordinal=start + item.ordinal) for item in found]

    def know_names(self, connection: Connection[Any]) -> None:
        """Give every name its number now: within the transaction none would be remembered."""
        events = [(item.event, item.project_id) for item in self.incoming]
        names.source_ids(connection, self.organization_id, {event.source for event, _ in events})
        names.attribution_ids(
            connection,
            self.organization_id,
            [
                names.attribution(event, project_id)
                for event, project_id in events
                if isinstance(event, UsageEvent)
            ],
        )

    def store(self, connection: Connection[Any]) -> None:
        self.stored = store(connection, self.organization_id, self.api_key_id, self.incoming)

    def tell(self) -> None:
        """Give every request the verdicts on its own events."""
        assert self.stored is not None
        outcomes = iter(self.stored.outcomes)
        for unit in self.units:
            verdicts = [
                _own(unit.sent, index, next(outcomes)) for index in range(len(unit.sent.events))
            ]
            news = any(
                isinstance(one, Outcome) and one.status is Status.ACCEPTED for one in verdicts
            )
            unit.taken = Taken(verdicts, self.stored.batch_id, news)


def _own(sent: Sent, index: int, outcome: Outcome | Rejected) -> Outcome | Rejected:
    """A verdict as its own request has it: what was refused while storing points into its body."""
    if isinstance(outcome, Outcome):
        return outcome._replace(ordinal=index)
    outcome.pointer = sent.pointer(index, outcome.pointer)
    outcome.event_id = id_of(sent.events[index])
    return outcome


def commit(group: Sequence[Unit], deliver: Deliver) -> None:
    """Store a group and deliver every request in it, each once, whatever happens."""
    try:
        with connected() as connection:
            batches, alone = _batches(connection, group)
            alone += _store(connection, batches)
            _answer(connection, batches, deliver)
    except Exception as error:
        if not isinstance(error, Refusal):
            logger.error("a group of %d requests failed", len(group), exc_info=error)
        # Of a lost connection nobody knows what it took with it: nobody is told "accepted".
        _fail([unit for unit in group if not unit.delivered], error, deliver)
        return
    for place, unit in enumerate(alone):
        try:
            unit.taken = take(unit.caller, unit.sent, atomic=False)
        except Refusal as refusal:  # no database: the others need not wait for the same
            _fail(alone[place:], refusal, deliver)
            return
        except Exception as error:
            _fail([unit], error, deliver)
        else:
            _hand_over([unit], deliver)


def _batches(connection: Connection[Any], group: Sequence[Unit]) -> tuple[list[_Batch], list[Unit]]:
    """One batch for each key, in one order for everybody; and who cannot be stored as it is."""
    batches: dict[tuple[int, int], _Batch] = {}
    alone = []
    for unit in group:
        caller = unit.caller
        found = placed(connection, caller, unit.sent)
        incoming = [item for item in found if isinstance(item, Incoming)]
        if len(incoming) < len(found):
            alone.append(unit)
            continue
        key = caller.organization_id, caller.api_key_id
        batches.setdefault(key, _Batch(*key)).add(unit, incoming)
    return [batches[key] for key in sorted(batches)], alone


def _store(connection: Connection[Any], batches: Sequence[_Batch]) -> list[Unit]:
    """Store all in one transaction; the requests of those batches that could not be stored."""
    try:
        if len(batches) > 1:
            for batch in batches:
                batch.know_names(connection)
            with connection.transaction():
                for batch in batches:
                    _try(connection, batch)  # in a savepoint of its own
        elif batches:
            _try(connection, batches[0])
    except Exception as error:
        if connection.closed:
            raise
        logger.warning("a group failed at its commit, its requests are tried alone: %s", error)
        for batch in batches:
            batch.stored = None
    return [unit for batch in batches if batch.stored is None for unit in batch.units]


def _try(connection: Connection[Any], batch: _Batch) -> None:
    """Store one; its failure is no other's."""
    try:
        batch.store(connection)
    except Exception as error:
        if connection.closed:
            raise
        logger.warning("a batch failed in its group, its requests are tried alone: %s", error)


def _answer(connection: Connection[Any], batches: Iterable[_Batch], deliver: Deliver) -> None:
    """Deliver what was committed; what is in conflict after it was kept."""
    units = []
    for batch in batches:
        if batch.stored:
            batch.tell()
            units += batch.units
    _hand_over([unit for unit in units if _is_good(unit)], deliver)
    for unit in units:
        if not unit.delivered:
            assert unit.taken is not None
            taken = unit.taken
            keep_faults(connection, unit.caller, unit.sent, taken.verdicts, taken.batch_id)
            _hand_over([unit], deliver)
        unit.caller.note_use(connection)


def _is_good(unit: Unit) -> bool:
    assert unit.taken is not None
    return all(
        isinstance(one, Outcome) and one.status is not Status.CONFLICT
        for one in unit.taken.verdicts
    )


def _fail(units: Sequence[Unit], error: Exception, deliver: Deliver) -> None:
    for unit in units:
        unit.taken, unit.error = None, error
    _hand_over(units, deliver)


def _hand_over(units: Sequence[Unit], deliver: Deliver) -> None:
    for unit in units:
        unit.delivered = True
    if units:
        deliver(units)
