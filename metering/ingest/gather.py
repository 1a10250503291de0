"""Group commit: small requests that wait at the same time share one transaction.

Nobody waits for company: a request that finds the committer idle is committed at once, and those
that come meanwhile are the next group, in which organizations take turns. Events of one key become
one batch. Each request is answered after the COMMIT that holds its events and not before.

What was sent is read together too: column by column where nothing in any of it is odd, else request
by request. A neighbour harms nobody: each batch has a savepoint, and where one fails, each of its
requests is tried again alone. The same identity never stands twice in one group, so no answer
speaks of a place in another request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from psycopg import Connection

from accounts.problems import Problem
from metering.ingest import doorbell
from metering.ingest.decode import Refusal
from metering.ingest.pool import connected
from metering.ingest.take import keep_faults, take
from metering.ingest.together import Batch
from metering.ingest.turns import Turns
from metering.ingest.units import Unit
from metering.store import Outcome, Status

GROUP_MAX = 256  # requests in one transaction
WAITING_MAX = 4_096  # requests; beyond, senders are told to come back
EACH_MAX = 1_024  # of one organization

logger = logging.getLogger(__name__)


Deliver = Callable[[Sequence[Unit]], None]


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
            if len(self._turns) == 1:  # the committer waits only where nobody else does
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
        own = unit.identities()
        if seen.isdisjoint(own):
            seen.update(own)
            group.append(unit)
        else:
            repeating.append(unit)
    for unit in reversed(repeating):
        turns.put_back(unit.caller.organization_id, unit)
    return group


def commit(group: Sequence[Unit], deliver: Deliver) -> None:
    """Store a group and deliver every request in it, each once, whatever happens."""
    try:
        batches = _batches(group)
        _hand_over([unit for batch in batches for unit in batch.read()], deliver)
        with connected() as connection:
            alone = [unit for batch in batches for unit in batch.prepare(connection)]
            alone += _store(connection, [batch for batch in batches if batch.units])
            _answer(connection, batches, deliver)
    except Exception as error:
        if not isinstance(error, Refusal):
            logger.error("a group of %d requests failed", len(group), exc_info=error)
        # Of a lost connection nobody knows what it took with it: nobody is told "accepted".
        _fail([unit for unit in group if not unit.delivered], error, deliver)
        return
    for place, unit in enumerate(alone):
        try:
            unit.taken = take(unit.caller, unit.read(), atomic=False)
        except Refusal as refusal:  # no database: the others need not wait for the same
            _fail(alone[place:], refusal, deliver)
            return
        except Exception as error:
            _fail([unit], error, deliver)
        else:
            _hand_over([unit], deliver)


def _batches(group: Sequence[Unit]) -> list[Batch]:
    """One batch for each key, in one order for everybody."""
    batches: dict[tuple[int, int], Batch] = {}
    for unit in group:
        key = unit.caller.organization_id, unit.caller.api_key_id
        batches.setdefault(key, Batch(*key)).units.append(unit)
    return [batches[key] for key in sorted(batches)]


def _store(connection: Connection[Any], batches: Sequence[Batch]) -> list[Unit]:
    """Store all in one transaction; the requests of those batches that could not be stored."""
    try:
        if len(batches) > 1:
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
            batch.undo()
    return [unit for batch in batches if not batch.is_stored for unit in batch.apart()]


def _try(connection: Connection[Any], batch: Batch) -> None:
    """Store one; its failure is no other's."""
    try:
        batch.store(connection)
    except Exception as error:
        if connection.closed:
            raise
        logger.warning("a batch failed in its group, its requests are tried alone: %s", error)


def _answer(connection: Connection[Any], batches: Iterable[Batch], deliver: Deliver) -> None:
    """Ring for news; deliver what was committed, and what is in conflict after it was kept."""
    units = []
    for batch in batches:
        if batch.is_stored:
            batch.tell()
            units += batch.units
    if any(batch.opened for batch in batches):
        doorbell.ring()
    new = {id(unit) for batch in batches if batch.opened for unit in batch.units}
    _hand_over([unit for unit in units if id(unit) in new or _is_good(unit)], deliver)
    for unit in units:
        if not unit.delivered:
            assert unit.taken is not None
            taken = unit.taken
            keep_faults(connection, unit.caller, unit.read(), taken.verdicts, taken.batch_id)
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
