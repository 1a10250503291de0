"""The spool and the two threads at work on it. Made anew in a forked process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kilotoken.counting import Complaints, Counts
from kilotoken.posting import Poster
from kilotoken.sending import Pump, Sender
from kilotoken.spool import Spool, owner_of
from kilotoken.writing import Writer

THREAD_S = 1.0  # for a thread to notice that it should end


@dataclass(frozen=True)
class Settings:
    """Where events go, and how."""

    url: str
    key: str = field(repr=False)
    folder: Path
    spool_bytes_max: int
    queue_max: int
    gzip: bool
    backfill: int | None = None


class Engine:
    """From the queue to the disk to the server."""

    def __init__(
        self,
        settings: Settings,
        counts: Counts,
        complaints: Complaints,
        clock: Callable[[], float],
    ) -> None:
        poster = Poster(settings.url, settings.key, backfill=settings.backfill)
        self.spool = Spool(
            settings.folder,
            owner=owner_of(settings.url, settings.key, settings.backfill),
            bytes_max=settings.spool_bytes_max,
        )
        self.sender = Sender(self.spool, poster, counts, complaints, compress=settings.gzip)
        self.pump = Pump(self.sender, complaints, clock)
        self.writer = Writer(
            self.spool,
            counts,
            complaints,
            queue_max=settings.queue_max,
            written=self.pump.written,
        )

    def close(self, timeout_s: float) -> None:
        """End the threads, then close the files."""
        written = self.writer.close(max(timeout_s, THREAD_S))
        if self.pump.close(max(timeout_s, THREAD_S)) and written:
            self.spool.close()  # else a thread that is left still needs it, until the exit
