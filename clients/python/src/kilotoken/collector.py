"""`kilotoken-collect`: report usage from JSON logs of vLLM, nginx or others as they are written.

Events and how far their log was read are spooled in one transaction, so that a crash repeats
nothing; and were a line read twice, its id is made from where it stands and the server knows it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kilotoken.dialects import UnreadableUsage
from kilotoken.event import Event, InvalidEvent
from kilotoken.mapping import PRESETS, LineMapping, UnreadableLine, from_document
from kilotoken.meter import SPOOL, Meter
from kilotoken.spool import SpoolFull
from kilotoken.tailing import GRACE_S, Line, Tail

POLL_S = 0.5
FULL_S = 5.0  # how long to wait for room: the log itself keeps what the spool cannot

logger = logging.getLogger("kilotoken")


class Collector:
    """Moves what logs say into the spool."""

    def __init__(
        self,
        meter: Meter,
        mapping: LineMapping,
        paths: Sequence[Path],
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        self._meter = meter
        self._mapping = mapping
        self._tails = [Tail(path, meter.place(str(path)), grace_s=grace_s) for path in paths]
        self.read = self.skipped = self.bad = 0

    def step(self, now_s: float) -> bool:
        """Take up to a thousand lines of each log. False: there was nothing."""
        taken = [self._take(tail, now_s) for tail in self._tails]  # each gets its turn
        return any(taken)

    def run(self, stopped: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
        """Go on until told to stop."""
        while not stopped.is_set():
            if not self.step(clock()):
                stopped.wait(POLL_S)

    def close(self) -> None:
        """Let go of the logs."""
        for tail in self._tails:
            tail.close()

    def _take(self, tail: Tail, now_s: float) -> bool:
        lines = tail.lines(now_s)
        if not lines:
            return False
        events = [event for line in lines if (event := self._event(tail, line)) is not None]
        while not self._kept(events, tail):
            threading.Event().wait(FULL_S)
        return True

    def _kept(self, events: Sequence[Event], tail: Tail) -> bool:
        try:
            self._meter.keep(events, tail.place)
        except SpoolFull as full:
            logger.error("%s; reading goes on when there is room", full)
            return False
        return True

    def _event(self, tail: Tail, line: Line) -> Event | None:
        """The event in a line. A bad line is set aside by its place, never with what it says."""
        self.read += 1
        try:
            if line.torn:
                raise UnreadableLine("the line has no end")
            facts = self._mapping.read(line.data)
            if facts is None:
                self.skipped += 1
                return None
            return self._meter.event(
                facts.model,
                facts.usage,
                facts.id or line.id,
                occurred_at=facts.occurred_at,
                estimated=False,
                **facts.fields,
            )
        except (UnreadableLine, UnreadableUsage, InvalidEvent) as error:
            self.bad += 1
            where = {"file": str(tail.path), "inode": line.inode, "offset": line.offset}
            self._meter.set_aside(error.code, str(error), where)
            return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        mapping = _mapping(options.map)
        meter = Meter(
            options.url or os.environ["KILOTOKEN_URL"],
            _key(options.key_file),
            options.source,
            options.project,
            spool=options.spool,
            gzip=options.gzip,
        )
    except KeyError as error:
        sys.stderr.write(f"kilotoken-collect: {error.args[0]} is not set\n")
        return 2
    except (ValueError, OSError) as error:
        sys.stderr.write(f"kilotoken-collect: {error}\n")
        return 2
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    return _collect(meter, mapping, options, stopped)


def _collect(
    meter: Meter, mapping: LineMapping, options: argparse.Namespace, stopped: threading.Event
) -> int:
    collector = Collector(meter, mapping, options.files, grace_s=0 if options.once else GRACE_S)
    if options.once:
        while collector.step(time.monotonic()) and not stopped.is_set():
            pass
    else:
        collector.run(stopped)
    collector.close()
    sent = meter.close(options.exit_s)
    sys.stdout.write(
        f"{collector.read:,} lines read, {collector.skipped:,} without usage, "
        f"{collector.bad:,} unreadable; {meter.counts}\n"
    )
    return 0 if sent and not collector.bad else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kilotoken-collect",
        description="Report token usage from JSON logs to Kilotoken, as it is written.",
        epilog="The API key comes from KILOTOKEN_KEY or a file, never from the command line.",
    )
    add = parser.add_argument
    add("files", nargs="*", type=Path, help="logs to follow; none: only send what is spooled")
    add("--map", default="vllm", help=f"{', '.join(PRESETS)}, or a mapping file (default: vllm)")
    add("--source", required=True, help="names this reporter; with an id it identifies an event")
    add("--project", help="the project to report for")
    add("--url", help="address of the server (default: KILOTOKEN_URL)")
    add("--key-file", type=Path, help="file that holds the API key (default: KILOTOKEN_KEY)")
    add("--spool", default=os.environ.get("KILOTOKEN_SPOOL", SPOOL), help="folder of the spool")
    add("--once", action="store_true", help="read what is there, send it and stop")
    add("--gzip", action="store_true", help="compress what is sent")
    add("--exit-s", type=int, default=30, help="how long to go on sending when told to stop")
    return parser


def _mapping(name: str) -> LineMapping:
    if name in PRESETS:
        return PRESETS[name]
    return from_document(json.loads(Path(name).read_text()))


def _key(file: Path | None) -> str:
    return file.read_text().strip() if file else os.environ["KILOTOKEN_KEY"]


if __name__ == "__main__":
    sys.exit(main())
