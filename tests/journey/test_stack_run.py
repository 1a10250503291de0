"""`stack run`: the supervisor keeps its programs, tells what happens, and takes all with it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.locks import FileLock
from tests.journey.stack_trial import Trial, read_until, trial, until

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")


@pytest.fixture(scope="module")
def home() -> Iterator[Trial]:
    """One home for all who do not mind what is in it: to make one takes a second."""
    with trial(stand_in=True) as made:
        yield made


@pytest.fixture
def here(home: Trial) -> Iterator[Trial]:
    yield home
    home.end()


@pytest.fixture
def empty() -> Iterator[Trial]:
    with trial(stand_in=True) as made:
        yield made


def answer(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_it_starts_all_tells_the_address_and_stops_clean(empty: Trial) -> None:
    supervisor = empty.start("run")
    said = read_until(supervisor, "ready at")
    assert "kilotoken| bringing the database up to date" in said
    assert "demo     | making the demo" in said
    assert said.count("sign in as alice") == 1
    assert f"http://localhost:{empty.port} " in said
    assert "\033" not in said  # nobody looks, no colours
    assert (answer(empty.port), answer(empty.port + 1)) == (200, 200)
    read_until(supervisor, "ticked")  # beat rang, the broker carried, the worker worked
    supervisor.send_signal(signal.SIGTERM)
    rest, _ = supervisor.communicate(timeout=20)
    assert supervisor.returncode == 0
    assert "Traceback" not in said + rest
    assert empty.nothing_runs()
    assert {"migrated", "demo.made"} <= {path.name for path in empty.home.iterdir()}


def test_a_killed_supervisor_leaves_no_child(here: Trial) -> None:
    supervisor = here.start("run", KILOTOKEN_DEMO="0")
    read_until(supervisor, "ticked")  # the worker has its pool
    assert len(here.processes()) > 8
    supervisor.kill()
    until(here.nothing_runs)


def test_the_next_start_is_short_and_what_is_killed_then_is_started_again(here: Trial) -> None:
    here.home.mkdir(exist_ok=True)
    for mark in ("migrated", "demo.made"):
        (here.home / mark).touch()
    supervisor = here.start("run")
    said = read_until(supervisor, "ready at")
    assert "bringing the database" not in said
    assert "making the demo" not in said
    assert said.count("sign in as alice") == 1
    lines = here.processes().items()
    os.kill(min(pid for pid, line in lines if f"--port {here.port} " in line), signal.SIGKILL)
    os.kill(min(pid for pid, line in lines if "stack keep" in line), signal.SIGKILL)
    read_until(supervisor, "web stopped unexpectedly (signal SIGKILL)")
    until(lambda: here.sql("SELECT 1").startswith("failed"))
    until(lambda: here.sql("SELECT 1") == "1")
    until(lambda: answer(here.port) == 200)
    supervisor.send_signal(signal.SIGINT)
    supervisor.communicate(timeout=20)
    assert supervisor.returncode == 0
    assert here.nothing_runs()


def test_a_command_beside_it_knows_its_ports_and_whoever_sends_slowly_does_not_keep_it_up(
    here: Trial,
) -> None:
    supervisor = here.start("run", KILOTOKEN_DEMO="0")
    read_until(supervisor, "ready at")
    say = ["exec", "--", "sh", "-c", "echo $PORT $INGEST_PORT"]
    assert here.run(*say, PORT="") == (0, f"{here.port} {here.port + 1}\n")
    assert here.run(*say, PORT="9", INGEST_PORT="") == (0, "9 10\n")
    with socket.create_connection(("127.0.0.1", here.port + 1)) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n[")
        read_until(supervisor, "ticked")  # by then it waits for the rest
        supervisor.send_signal(signal.SIGINT)
        rest, _ = supervisor.communicate(timeout=20)
    assert supervisor.returncode == 0
    assert "does not end" not in rest
    assert here.run(*say, PORT="") == (0, "8000 8001\n")  # nobody is there to ask


def test_a_second_one_on_the_same_home_is_refused_in_one_sentence(here: Trial) -> None:
    (here.home / "locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(here.home / "locks" / "run")  # as a running one holds it
    assert lock.try_own()
    code, said = here.run("run")
    lock.close()
    assert code == 1
    assert said.startswith(f"kilotoken: Kilotoken runs already on {here.home}")
    assert said.count("\n") == 1


def test_a_taken_port_is_named_with_its_holder_and_the_way_out(here: Trial) -> None:
    with socket.create_server(("127.0.0.1", here.port)):
        code, said = here.run("run")
    assert code == 1
    assert said == (
        f"kilotoken: port {here.port} is taken by process {os.getpid()} "
        f"({Path('/proc/self/comm').read_text().strip()}); "
        f"stop it or choose another: PORT={here.port + 10} make run\n"
    )
    assert here.nothing_runs()


def test_a_database_that_cannot_be_used_is_one_sentence(here: Trial) -> None:
    broker = "redis://127.0.0.1:1/0"
    nobody = f"postgresql://kilotoken@127.0.0.1:{here.port}/kilotoken"
    code, said = here.run("run", DATABASE_URL=nobody, CELERY_BROKER_URL=broker)
    assert code == 1
    assert said.startswith(
        "kilotoken: the server of DATABASE_URL cannot be used: connection failed"
    )
    assert (said.count("\n"), "refused" in said) == (1, True)
    code, said = here.run("run", DATABASE_URL="mysql://db/x", CELERY_BROKER_URL=broker)
    assert said == "kilotoken: DATABASE_URL must name a PostgreSQL server: postgresql://...\n"
    assert code == 1
