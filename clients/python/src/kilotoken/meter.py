"""The door for callers: record what a request used and forget about it.

Nothing here raises into the caller's request, or keeps it waiting longer than `wait_s` for the
disk. `offer...` hands an event over without waiting at all; `record...` then waits for the disk.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from kilotoken import dialects, labelling, wrap_anthropic, wrap_openai
from kilotoken.counting import Complaints, Counts
from kilotoken.dead_letters import DeadLetters
from kilotoken.engine import Engine, Settings
from kilotoken.event import ESTIMATED, Event, InvalidEvent, Void, instant, new_id
from kilotoken.spool import BYTES_MAX, Place
from kilotoken.wrapping import Call, Estimate, Wrapping
from kilotoken.writing import Kept, kept_within

SPOOL = "~/.local/state/kilotoken/spool"
WAIT_S = 0.25
QUEUE_MAX = 10_000
EXIT_S = 5.0
POLL_S = 0.05

logger = logging.getLogger("kilotoken")
C = TypeVar("C")


class Offer(NamedTuple):
    """An event on its way to the disk."""

    id: str
    kept: Kept


class Meter:
    """Records usage events: durable at once, sent in the background, each counted once."""

    def __init__(
        self,
        url: str,
        key: str,
        source: str,
        project: str | None = None,
        *,
        spool: str | os.PathLike[str] = SPOOL,
        spool_bytes_max: int = BYTES_MAX,
        wait_s: float = WAIT_S,
        queue_max: int = QUEUE_MAX,
        gzip: bool = False,
        take_over: bool = False,
        backfill: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the spool and start sending. Raises here, and only here, what is set up wrongly.

        `wait_s` is how long `record` may wait for the disk: 0 hands the event over and goes on.
        `take_over` sends what waits in the spool for another key with this one, after a rotation.
        `backfill` sends every event into that backfill, which must be open.
        """
        self.source = source
        self.project = project
        self.wait_s = wait_s
        self.counts = Counts()
        self._complaints = Complaints()
        self._clock = clock
        folder = Path(spool).expanduser()
        self._settings = Settings(url, key, folder, spool_bytes_max, queue_max, gzip, backfill)
        self._dead = DeadLetters(folder)
        self._closed = False
        engine = self._start()
        self._engine: Engine | None = engine
        if take_over:
            engine.spool.take_over()
        elif waiting := engine.spool.of_others():
            logger.warning(
                "%d usage events in %s wait for another address or key; if this key is the same "
                "organization's, send them with take_over=True",
                waiting,
                folder,
            )
        _meters.add(self)

    @classmethod
    def from_environment(cls, source: str, **options: Any) -> Meter:
        """A meter by KILOTOKEN_URL, KILOTOKEN_KEY, and KILOTOKEN_PROJECT and _SPOOL if set."""
        env = os.environ
        options.setdefault("project", env.get("KILOTOKEN_PROJECT"))
        options.setdefault("spool", env.get("KILOTOKEN_SPOOL", SPOOL))
        return cls(env["KILOTOKEN_URL"], env["KILOTOKEN_KEY"], source, **options)

    def __repr__(self) -> str:
        return f"Meter({self._settings.url!r}, source={self.source!r})"  # never the key

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record(self, *, model: str, usage: Mapping[str, int], **fields: Any) -> str | None:
        """Keep one event, by its registers. Fields are those of `Event`, and `estimated`.

        `occurred_at` is when the request started; left out, it is now. Returns the event's id
        once it is on disk, or `wait_s` is up and it is in the writer's hands; None if it could not
        be taken, which is logged and counted, never raised.
        """
        return self._settled(self.offer(model=model, usage=usage, **fields))

    def record_usage(
        self, usage: object, *, model: str, dialect: str | None = None, **fields: Any
    ) -> str | None:
        """Keep one event, from a provider's own usage object; its shape tells the dialect."""
        return self._settled(self.offer_usage(usage, model=model, dialect=dialect, **fields))

    def void(self, event_id: str, **fields: Any) -> str | None:
        """Take an event of this source back: it counts no more. Fields: `reason`, `source`, `id`.

        Returns the id of the void, as `record` does. Safe to repeat with the same `id`.
        """
        return self._settled(self.offer_void(event_id, **fields))

    def amend(
        self,
        event_id: str,
        *,
        model: str,
        usage: Mapping[str, int],
        occurred_at: datetime,
        **fields: Any,
    ) -> str | None:
        """Put another event in the place of one of this source: both or neither.

        It is a whole event, with the time at which the usage happened; fields as for `record`, and
        `reason`. To amend it again, name its own id.
        """
        whole = {**fields, "occurred_at": occurred_at, "amends": event_id}
        return self._settled(self.offer(model=model, usage=usage, **whole))

    def wrap(
        self,
        client: C,
        *,
        dialect: str | None = None,
        estimate: Estimate | None = None,
        response_ids: bool = False,
        ask_for_usage: bool = True,
        **fields: str,
    ) -> C:
        """Meter an `openai` or `anthropic` client, sync or async, streams included; same client.

        `estimate` counts the tokens of a text, for streams that end before they report usage.
        `response_ids` makes the provider's response id the event's, where those are unique.
        `ask_for_usage` lets chat streams ask for usage. `fields` go into every event.
        """
        wrapping = Wrapping(self, dialect, estimate, response_ids, ask_for_usage, fields)
        for home in (kind.__module__.split(".")[0] for kind in type(client).__mro__):
            if home == "openai":
                wrap_openai.wrap(client, wrapping)
                return client
            if home == "anthropic":
                wrap_anthropic.wrap(client, wrapping)
                return client
        raise TypeError(f"{type(client).__name__} is no client of openai or anthropic")

    def flush(self, timeout_s: float = EXIT_S) -> bool:
        """Wait until what was recorded so far is with the server. False: some of it waits on disk.

        Gives up before the timeout where waiting cannot help: the key or the address is wrong.
        """
        if self._closed:
            return False
        engine = self._engine_now()
        deadline = time.monotonic() + timeout_s
        engine.writer.drain(timeout_s)
        up_to = engine.spool.last()
        engine.pump.hurry()
        pause = threading.Event()
        while engine.spool.waits(up_to, self._clock()):
            if time.monotonic() >= deadline or engine.sender.held:
                return False
            pause.wait(POLL_S)  # it may be another process that sends
        return not engine.spool.waits(up_to)

    def close(self, timeout_s: float = EXIT_S) -> bool:
        """Flush, then stop. What could not be sent stays on disk for the next process."""
        if self._closed or self._engine is None:  # None: forked, and never used since
            self._closed = True
            return True
        sent = self.flush(timeout_s)
        self._closed = True
        self._engine.close(timeout_s)
        _meters.discard(self)
        return sent

    # What wrappers, callbacks and the async twin stand on. None of it waits or raises.

    def now(self) -> datetime:
        """This meter's clock: when a request that is metered starts."""
        return instant(self._clock())

    def offer(
        self,
        *,
        model: str,
        usage: Mapping[str, int],
        estimated: bool = False,
        id: str | None = None,  # noqa: A002 - the event's own name for it
        **fields: Any,
    ) -> Offer | None:
        """Hand an event to the writer of the spool."""
        try:
            event = self.event(model, usage, id, estimated=estimated, **fields)
            offer = Offer(event.id, self._engine_now().writer.submit(event.wire()))
        except InvalidEvent as error:
            self.counts.add(invalid=1)
            self.set_aside(error.code, str(error), {"model": model, "usage": usage, **fields})
            return None
        except Exception as error:  # a meter must not break what it measures
            self._lost(error)
            return None
        if estimated:
            self.counts.add(estimated=1)
        return offer

    def offer_void(
        self,
        event_id: str,
        *,
        reason: str | None = None,
        source: str | None = None,
        id: str | None = None,  # noqa: A002 - the event's own name for it
    ) -> Offer | None:
        """Hand a void to the writer of the spool."""
        made = id or new_id(self._clock())
        try:
            void = Void(made, source or self.source, event_id, reason)
            return Offer(made, self._engine_now().writer.submit(void.wire()))
        except InvalidEvent as error:
            self.counts.add(invalid=1)
            self.set_aside(error.code, str(error), {"id": made, "voids": event_id})
        except Exception as error:  # a meter must not break what it measures
            self._lost(error)
        return None

    def offer_usage(
        self, usage: object, *, model: str, dialect: str | None = None, **fields: Any
    ) -> Offer | None:
        """The same from a provider's usage object."""
        try:
            measured = dialects.read(usage, dialect)
        except dialects.UnreadableUsage as error:
            self.unmeasured(error.code, str(error), {"model": model, **error.shown, **fields})
            return None
        except Exception as error:
            self._lost(error)
            return None
        if measured.unknown:
            names = ", ".join(measured.unknown)
            self._complaints.say(
                f"unknown {names}",
                f"{model} reports tokens of a class that is new here ({names}): see whether a "
                "tariff should price it",
            )
        return self.offer(model=model, usage=measured.usage, **fields)

    def offer_call(self, call: Call) -> Offer | None:
        """The same from a call to a model: what it reported, or an estimate if one was wanted."""
        fields = call.fields()
        try:
            guess = call.estimated()
        except Exception as error:
            self._lost(error)
            return None
        if guess is not None:
            return self.offer(usage=guess, estimated=True, **fields)
        if call.usage is None or not call.complete:
            code = "usage_not_reported" if call.usage is None else "usage_incomplete"
            detail = "the response ended before it said all that it used"
            self.unmeasured(code, detail, {**fields, "reported": call.usage})
        if call.usage is None:
            return None
        return self.offer_usage(call.usage, dialect=call.dialect, **fields)

    def record_call(self, call: Call) -> str | None:
        """Offer, and wait for the disk."""
        return self._settled(self.offer_call(call))

    def _settled(self, offer: Offer | None) -> str | None:
        return offer.id if offer and kept_within(offer.kept, self.wait_s) else None

    def keep(self, events: Iterable[Event], place: Place) -> None:
        """Spool events and how far their log was read, together; SpoolFull if there is no room."""
        bodies = [event.wire() for event in events]
        engine = self._engine_now()
        engine.spool.add(bodies, place)
        self.counts.add(spooled=len(bodies))
        engine.pump.written(len(bodies))

    def place(self, path: str) -> Place | None:
        """How far a log was read."""
        return self._engine_now().spool.place(path)

    def event(
        self,
        model: str,
        usage: Mapping[str, int],
        event_id: str | None = None,
        *,
        estimated: bool = False,
        **fields: Any,
    ) -> Event:
        """An event with this meter's source and project, or InvalidEvent."""
        made = event_id or new_id(self._clock())
        if estimated:  # the server has no field that says so; the id is where a reader sees it
            made = ESTIMATED + made
        known = {"project": self.project, "source": self.source, **labelling.current(), **fields}
        known["occurred_at"] = known.get("occurred_at") or self.now()
        try:
            return Event(id=made, model=model, usage=usage, **known)
        except TypeError as error:
            raise InvalidEvent(str(error)) from None

    def unmeasured(self, code: str, detail: str, what: Mapping[str, Any]) -> None:
        """Say, and keep, that a call was made whose usage is not known."""
        self.counts.add(unmeasured=1)
        self.set_aside(code, detail, what)

    def set_aside(self, code: str, detail: str, what: Mapping[str, Any]) -> None:
        """Keep what cannot be an event among the dead letters, and say so."""
        self._complaints.say(f"dead {code}", f"set aside in {self._dead.path}: {code}: {detail}")
        try:
            at = self.now().isoformat()
            letter = {"status": "not sent", "code": code, "detail": detail, "at": at, "event": what}
            self._dead.add([letter])
        except (OSError, ValueError, TypeError) as error:
            self._complaints.say("dead letters", f"{self._dead.path}: {error}")

    def _lost(self, error: Exception) -> None:
        self.counts.add(dropped=1)
        self._complaints.say("lost", f"a usage event was lost to a fault in kilotoken: {error!r}")

    def _start(self) -> Engine:
        return Engine(self._settings, self.counts, self._complaints, self._clock)

    def _engine_now(self) -> Engine:
        engine = self._engine
        if engine is None:  # the first use after a fork
            with _starting[0]:
                engine = self._engine = self._engine or self._start()
        return engine

    def _forked(self) -> None:
        _inherited.append(self._engine)
        self._engine = None
        self.counts = Counts()
        self._complaints = Complaints()


_meters: weakref.WeakSet[Meter] = weakref.WeakSet()
_starting = [threading.Lock()]
_inherited: list[Engine | None] = []  # a forked child must neither use nor close SQLite's files


def _after_fork() -> None:
    """In a forked child no thread of the parent runs, and no lock of its can be trusted."""
    _starting[0] = threading.Lock()
    for meter in list(_meters):
        meter._forked()


def _at_exit() -> None:
    for meter in list(_meters):
        _close(meter)


def _close(meter: Meter) -> None:
    try:
        meter.close()
    except Exception:
        logger.exception("closing %r failed; what it had spooled is on disk", meter)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
