"""From the spool to the server, so that each event counts once however often it is sent.

`Sender.step` is one attempt and reads no clock: it is told the time and says how long to wait.
`Pump` is the thread that keeps calling it.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kilotoken.counting import Complaints, Counts
from kilotoken.dead_letters import DeadLetters
from kilotoken.posting import Answer, Poster, Unreachable
from kilotoken.spool import Row, Spool
from kilotoken.verdicts import (
    RETRY_AFTER_S_MAX,
    Held,
    Later,
    Plain,
    Split,
    Taken,
    pause_s,
    refusals,
    takes_gzip,
    verdict,
)

EVENTS_PER_BATCH_MAX = 1_000
BODY_BYTES_MAX = 5 * 1024 * 1024
INTERVAL_S = 1.0  # how long events may gather, and how often others' events are looked for
PAUSE_S_FIRST = 0.5
PAUSE_S_MAX = 60.0
HELD_S = 60.0
WAIT_S_MAX = RETRY_AFTER_S_MAX + PAUSE_S_MAX
# "Not now" for one event (its project is not made yet, a clock is ahead) is asked again for a day.
REFUSED_S_FIRST = 60.0
REFUSED_S_MAX = 3600.0
REFUSALS_MAX = 30
FLAGS = {
    "late": "{} events came after their period was closed: they appear as adjustments on the next "
    "invoice",
    "zero": "{} events report nothing but zeros",
}


class Sender:
    """Sends what is due, one batch at a time."""

    def __init__(
        self,
        spool: Spool,
        poster: Poster,
        counts: Counts,
        complaints: Complaints,
        *,
        compress: bool = False,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._spool = spool
        self._poster = poster
        self._counts = counts
        self._complaints = complaints
        self._dead = DeadLetters(spool.folder)
        self._compress = compress
        self._plain_for_good = False
        self._chance = chance
        self._batch_max = EVENTS_PER_BATCH_MAX
        self._retries = 0
        self._asked_until_s = 0.0  # by the server; nothing shortens this wait
        self._paused_until_s = 0.0  # by ourselves
        self.held = False  # whether somebody has to mend something first

    def hurry(self) -> None:
        """Forget our own pause and what we thought of the key, though not the server's wish."""
        self._paused_until_s = 0.0
        self.held = False

    def close(self) -> None:
        """Let go of the connection."""
        self._poster.close()

    def step(self, now_s: float) -> float:
        """Make one attempt if it is time. Returns how many seconds to wait before the next."""
        wait_s = max(self._asked_until_s, self._paused_until_s) - now_s
        if 0 < wait_s <= WAIT_S_MAX:  # more than that means that the clock was set back
            return wait_s
        if not self._spool.lease():
            return INTERVAL_S  # another process sends
        rows = self._spool.due(now_s, events_max=self._batch_max, bytes_max=BODY_BYTES_MAX)
        if not rows:
            return INTERVAL_S
        self._counts.add(requests=1)
        compress = self._compress and not self._plain_for_good
        try:
            answer = self._poster.post(_body(rows), compress=compress)
        except Unreachable as error:
            return self._later(now_s, 0.0, f"cannot reach {error}")
        return self._answered(rows, answer, now_s)

    def _answered(self, rows: Sequence[Row], answer: Answer, now_s: float) -> float:
        said = verdict(answer, len(rows), now_s=now_s)
        self.held = isinstance(said, Held)
        if takes_gzip(answer):
            self._compress = True
        match said:
            case Taken():
                self._retries = 0
                self._batch_max = EVENTS_PER_BATCH_MAX
                self._settle(rows, said, now_s)
                return 0.0
            case Later(after_s, why):
                return self._later(now_s, after_s, why)
            case Held(why):
                self._complaints.say("held", f"usage events wait, none is lost: {why}")
                return self._pause(now_s, HELD_S)
            case Plain():
                if self._plain_for_good or not self._compress:
                    return self._later(now_s, 0.0, "the server answered 415 to a plain body")
                self._plain_for_good = True
                return 0.0
            case Split():
                return self._split(rows, said, now_s)

    def _later(self, now_s: float, after_s: float, why: str) -> float:
        self._complaints.say("later", f"usage events wait, none is lost: {why}")
        self._counts.add(retries=1)
        self._asked_until_s = now_s + after_s
        wait_s = pause_s(
            self._retries, after_s, self._chance(), first_s=PAUSE_S_FIRST, most_s=PAUSE_S_MAX
        )
        self._retries += 1
        return self._pause(now_s, wait_s)

    def _pause(self, now_s: float, wait_s: float) -> float:
        self._paused_until_s = now_s + wait_s
        return wait_s

    def _split(self, rows: Sequence[Row], said: Split, now_s: float) -> float:
        """Half as many next time, until the one at fault stands alone."""
        if len(rows) > 1:
            self._batch_max = (len(rows) + 1) // 2
            return 0.0
        if not said.certain:
            self.held = True
            self._complaints.say("held", f"one event alone was refused as too large: {said.detail}")
            return self._pause(now_s, HELD_S)
        self._batch_max = EVENTS_PER_BATCH_MAX
        self._bury(rows, [{"code": said.code, "detail": said.detail}])
        self._counts.add(rejected=1)
        self._spool.settle([rows[0].seq])
        return 0.0

    def _settle(self, rows: Sequence[Row], taken: Taken, now_s: float) -> None:
        """Bury what will never be taken, put off what may be, forget the rest; in that order."""
        later = {
            index: rows[index] for index in refusals(taken) if rows[index].refusals < REFUSALS_MAX
        }
        buried = [index for index in sorted(taken.errors) if index not in later]
        self._bury([rows[index] for index in buried], [taken.errors[index] for index in buried])
        self._spool.settle(
            [row.seq for index, row in enumerate(rows) if index not in later],
            [(now_s + _refused_s(row.refusals), row.seq) for row in later.values()],
        )
        conflicts = sum(taken.errors[index]["status"] == "conflict" for index in buried)
        self._counts.add(
            accepted=taken.accepted,
            duplicate=taken.duplicate,
            conflict=conflicts,
            rejected=len(buried) - conflicts,
            put_off=len(later),
            late=taken.flags.get("late", 0),
            zero=taken.flags.get("zero", 0),
        )
        for flag, sentence in FLAGS.items():
            if events := taken.flags.get(flag):
                self._complaints.say(f"flag {flag}", sentence.format(events))
        for index in later:
            self._complaints.say("put off", f"an event is tried again later: {taken.errors[index]}")

    def _bury(self, rows: Sequence[Row], errors: Sequence[Any]) -> None:
        self._dead.add(
            {
                "status": error.get("status", "rejected"),
                "code": error.get("code"),
                "pointer": error.get("pointer"),
                "detail": error.get("detail"),
                "event": json.loads(row.body),
            }
            for row, error in zip(rows, errors, strict=True)
        )
        for error in errors:
            self._complaints.say(
                f"dead {error.get('code')}",
                f"an event was set aside in {self._dead.path}: {error.get('code')}: "
                f"{error.get('detail')}",
            )


class Pump:
    """Calls `step` in the background: every second, at once for a full batch or when asked to."""

    def __init__(self, sender: Sender, complaints: Complaints, clock: Callable[[], float]) -> None:
        self._sender = sender
        self._complaints = complaints
        self._clock = clock
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._gathered = 0
        self._thread = threading.Thread(target=self._run, name="kilotoken-sender", daemon=True)
        self._thread.start()

    def written(self, events: int) -> None:
        """Hear that events reached the spool."""
        self._gathered += events  # only the writer's thread adds
        if self._gathered >= EVENTS_PER_BATCH_MAX:
            self._gathered = 0
            self._wake.set()

    def hurry(self) -> None:
        """Try now, even within a pause of our own."""
        self._sender.hurry()
        self._wake.set()

    def close(self, timeout_s: float) -> bool:
        """End the thread. False: it waits for an answer and had to be left running."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if (wait_s := self._step()) > 0:
                self._wake.wait(wait_s)
            self._wake.clear()
        self._sender.close()

    def _step(self) -> float:
        try:
            return self._sender.step(self._clock())
        except (sqlite3.Error, OSError) as error:  # a full or broken disk under the spool
            self._complaints.say("spool", f"the spool cannot be read or settled: {error}")
            return INTERVAL_S
        except Exception as error:  # a thread that dies would stop all sending without a word
            self._complaints.say("sender", f"sending failed in a way that it must not: {error!r}")
            return HELD_S


def _body(rows: Sequence[Row]) -> bytes:
    return b"[" + b",".join(row.body for row in rows) + b"]"


def _refused_s(refusals: int) -> float:
    return min(REFUSED_S_FIRST * (1 << min(refusals, 10)), REFUSED_S_MAX)
