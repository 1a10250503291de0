"""A running Kilotoken of its own for the journeys: a database, the web, the ingestion, a worker.

The journeys cannot run inside a test's transaction: other processes have to see their rows. So
each session gets a database beside the one of the tests, and drops it at the end.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACES = ROOT.parent / "shared" / "traces"
COMMANDER = [sys.executable, "-m", "tests.journey.commander"]
READY_S = 60
COMMAND_S = 900
VIRTUAL_HOST = 13  # the broker may serve others; their messages are not ours


def trace(name: str) -> Path:
    """A real trace; the test is skipped where it is not at hand, for it is never copied here."""
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"the real trace {name} is not at hand: {TRACES} does not have it")
    return path


@dataclass(frozen=True, slots=True)
class Live:
    """One running Kilotoken, and how to talk to it from outside."""

    env: dict[str, str]
    port: int
    commander: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def events_url(self) -> str:
        return f"http://127.0.0.1:{self.env['INGEST_PORT']}/api/v1/events"

    def manage(self, *arguments: object, code: int = 0) -> str:
        """Run a command to its end; what it said, on both channels, if it ended as expected."""
        assert self.commander.stdin is not None
        assert self.commander.stdout is not None
        self.commander.stdin.write(json.dumps([str(one) for one in arguments]) + "\n")
        self.commander.stdin.flush()
        ready, _, _ = select.select([self.commander.stdout], [], [], COMMAND_S)
        assert ready, f"{arguments[0]} does not end"
        answer = json.loads(self.commander.stdout.readline())
        assert answer["code"] == code, answer["said"]
        return str(answer["said"])

    def replay(self, path: Path, *options: object) -> dict[str, Any]:
        """Replay a file; what it reported, with what it printed beside it."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            said = self.manage("replay", path, *options, "--report", report)
            return {**json.loads(report.read_text()), "said": said}

    def send(self, key: str, events: list[dict[str, Any]]) -> dict[str, Any]:
        """Post events to the ingestion door."""
        answer = httpx.post(
            self.events_url, json=events, headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        assert answer.status_code in (202, 207, 422), answer.text
        said: dict[str, Any] = answer.json()
        return said

    def get(self, path: str, key: str, **parameters: str) -> dict[str, Any]:
        """Ask the reading API."""
        answer = httpx.get(
            self.url + path,
            params=parameters,
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        with psycopg.connect(self.env["DATABASE_URL"]) as connection:
            return connection.execute(sql, parameters or None).fetchall()

    def execute(self, sql: str, *parameters: object) -> None:
        """Do to the database what nobody should."""
        with psycopg.connect(self.env["DATABASE_URL"]) as connection:
            connection.execute(sql, parameters or None)

    def ring(self, task: str) -> None:
        """Send the worker a message, as beat would."""
        subprocess.run(
            [sys.executable, "-m", "celery", "-A", "config", "call", task],
            cwd=ROOT, env=self.env, capture_output=True, check=True, timeout=60,
        )  # fmt: skip

    @contextmanager
    def signed_in(self, email: str, password: str) -> Iterator[httpx.Client]:
        """A person's browser, signed in at the portal."""
        with httpx.Client(base_url=self.url, follow_redirects=True, timeout=30) as browser:
            form = browser.get("/accounts/login/")
            token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.text)
            assert token, form.text
            answer = browser.post(
                "/accounts/login/",
                data={"csrfmiddlewaretoken": token[1], "login": email, "password": password},
                headers={"Referer": f"{self.url}/accounts/login/"},
            )
            assert answer.status_code == 200, answer.text
            assert "/accounts/login" not in str(answer.url), answer.text
            yield browser


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """A running Kilotoken with an empty database."""
    broker = os.environ.get("CELERY_BROKER_URL", "")
    if not broker.startswith("redis"):
        pytest.skip("needs a broker that a worker can share; `python3 -m stack exec` starts one")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kt-live-")))
        database_url = stack.enter_context(_database(os.environ["DATABASE_URL"]))
        port, ingest_port = _free_port(), _free_port()
        env = {
            **os.environ,
            "DATABASE_URL": database_url,
            "CELERY_BROKER_URL": f"{broker}?virtual_host={VIRTUAL_HOST}",
            "KILOTOKEN_HOME": str(home),
            "PORT": str(port),
            "INGEST_PORT": str(ingest_port),
            "PUBLIC_URL": f"http://localhost:{port}",
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        live = Live(env, port, stack.enter_context(_commander(env)))
        live.manage("migrate", "--no-input")
        log = stack.enter_context((home / "log").open("w+"))
        for argv in _programs(env, home):
            stack.enter_context(_running(argv, env, log))
        _await(port, log)
        _await(ingest_port, log)
        yield live


def until(condition: Callable[[], Any], *, within_s: int = 30) -> Any:
    """What a condition comes to once it is true; polled against a deadline."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def _database(beside: str) -> Iterator[str]:
    """A database on the same server."""
    name = f"kt_live_{os.getpid()}_{secrets.token_hex(3)}"
    with psycopg.connect(beside, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        try:
            yield re.sub(r"/[^/]+$", f"/{name}", beside)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _programs(env: dict[str, str], home: Path) -> Iterator[list[str]]:
    granian = [sys.executable, "-m", "granian", "--no-ws", "--host", "127.0.0.1", "--workers", "1"]
    wsgi = ["--interface", "wsgi", "--blocking-threads", "4"]
    rsgi = ["--interface", "rsgi", "--http", "1", "--backpressure", "8192"]
    yield [*granian, *wsgi, "--port", env["PORT"], "config.wsgi:application"]
    yield [*granian, *rsgi, "--port", env["INGEST_PORT"], "metering.ingest.rsgi:application"]
    # No beat: periods are closed when a journey says so. The doorbell wakes the worker.
    celery = [sys.executable, "-m", "celery", "-A", "config", "worker", "--pool", "threads"]
    yield [*celery, "--concurrency", "2", "--loglevel", "WARNING", "--hostname", home.name]


@contextmanager
def _commander(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        COMMANDER, cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process  # ends when its standard input does


@contextmanager
def _running(argv: list[str], env: dict[str, str], log: Any) -> Iterator[None]:
    """A process in a session of its own, so that its children end with it."""
    process = subprocess.Popen(
        argv, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _await(port: int, log: Any) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)  # polled against the deadline
    log.seek(0)
    pytest.fail(f"nothing answers at port {port}:\n{log.read()[-4000:]}")
