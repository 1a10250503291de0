"""The ingestion door as it runs in production: granian on a port of its own, and senders to it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

DOOR = "metering.ingest.rsgi:application"
SENDERS = 3
PATH = "/api/v1/events?only=errors"


@contextmanager
def served(
    application: str = DOOR, interface: str = "rsgi", *options: str
) -> Iterator[tuple[int, int]]:
    """The port and the process, once it answers. One worker, whatever it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", interface, "--http", "1", "--no-ws",
               "--no-log", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               *options, application]  # fmt: skip
    server = subprocess.Popen(command, env=os.environ.copy())
    try:
        _wait(port)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait(port: int) -> None:
    for _ in range(300):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the door does not open")


class Senders:
    """Several senders, each with its connection, sharing out the bodies."""

    def __init__(self, port: int, key: str) -> None:
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.connections = [
            http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(SENDERS)
        ]

    def send(self, bodies: Sequence[bytes]) -> int:
        """Send all of them; how many events were accepted."""
        for connection in self.connections:
            connection.close()  # the door ends one that was idle; each opens anew by itself
        accepted = [0] * SENDERS
        work = iter(bodies)
        lock = threading.Lock()

        def run(number: int) -> None:
            while True:
                with lock:
                    body = next(work, None)
                if body is None:
                    return
                self.connections[number].request("POST", PATH, body, self.headers)
                response = self.connections[number].getresponse()
                answer = json.loads(response.read())
                if response.status != 202:
                    raise RuntimeError(f"the door says {response.status}: {answer}")
                accepted[number] += answer["accepted"]

        threads = [threading.Thread(target=run, args=(number,)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(accepted)
