"""A proxy before PostgreSQL's socket that cuts connections after so many bytes, either way.

A connection dies at the start-up packet, between a statement and its answer, in the middle of a
COPY, or after COMMIT was sent and before it was confirmed: the number of bytes decides.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHUNK_BYTES = 1 << 16
BYTES_MAX = 400_000  # a batch of a thousand events and its answer
SOCKET = ".s.PGSQL.5432"


class Wire:
    """The proxy; `cutting` says whether new connections get a number of bytes to live."""

    def __init__(self, target: Path, folder: Path, seed: int) -> None:
        self.folder = folder
        self.cutting = False
        self.cut = 0
        self._target = target
        self._chance = random.Random(f"{seed}/wire")

    async def serve(self, stopped: asyncio.Event, started: threading.Event) -> None:
        """Serve until stopped."""
        path = self.folder / SOCKET
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path)
        path.chmod(0o777)
        started.set()
        async with server:
            await stopped.wait()

    async def _connected(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            there, forth = await asyncio.open_unix_connection(self._target / SOCKET)
        except OSError:
            back.close()
            return
        ways = [
            asyncio.create_task(self._carry(here, forth)),
            asyncio.create_task(self._carry(there, back)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (forth, back):
            with suppress(OSError, AttributeError):
                end.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Carry bytes one way; a connection that is being cut has so many left from then on."""
        left: int | None = None
        while chunk := await source.read(CHUNK_BYTES):
            if self.cutting and left is None:
                left = self._chance.randrange(BYTES_MAX)
            if not self.cutting:
                left = None
            if left is not None and len(chunk) >= left:
                sink.write(chunk[:left])
                with suppress(OSError):
                    await sink.drain()
                self.cut += 1
                return
            if left is not None:
                left -= len(chunk)
            sink.write(chunk)
            await sink.drain()


@contextmanager
def proxied(target: Path, folder: Path, seed: int) -> Iterator[Wire]:
    """A proxy on a thread of its own."""
    wire = Wire(target, folder, seed)
    loop = asyncio.new_event_loop()
    stopped, started = asyncio.Event(), threading.Event()

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(wire.serve(stopped, started))

    thread = threading.Thread(target=run, name="wire")
    thread.start()
    assert started.wait(10)
    try:
        yield wire
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
