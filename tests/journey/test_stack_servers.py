"""The embedded servers: shared, let go of, and back after every kind of death."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.stack_trial import PSQL, ROOT, Trial, read_until, trial, until

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")

ELSEWHERE = {"DATABASE_URL": "postgresql://db.example/x", "CELERY_BROKER_URL": "redis://b.example"}


@pytest.fixture(scope="module")
def home() -> Iterator[Trial]:
    """One home for all who do not mind what is in it: to make one takes a second."""
    with trial() as made:
        yield made


@pytest.fixture
def here(home: Trial) -> Iterator[Trial]:
    yield home
    home.end()


@pytest.fixture
def empty() -> Iterator[Trial]:
    with trial() as made:
        yield made


def test_a_command_finds_both_servers_and_its_exit_code_is_passed_on(empty: Trial) -> None:
    asks = f"""
        {PSQL} -XAtqc "SELECT current_user, current_setting('synchronous_commit')" "$DATABASE_URL"
        {PSQL} -XAtqc "SELECT current_setting('data_checksums')" "$DATABASE_URL"
        {PSQL} -XAtqc "CREATE EXTENSION btree_gist" "$DATABASE_URL"
        test -S "${{CELERY_BROKER_URL#redis+socket://}}" && echo "a post box"
        test ${{#SECRET_KEY}} -gt 40 && test ${{#KILOTOKEN_KEY_PEPPER}} -gt 40 && echo "two secrets"
        exit 7"""
    code, said = empty.run("exec", "--", "sh", "-c", asks)
    assert said.splitlines() == ["kilotoken|on", "on", "a post box", "two secrets"]
    assert code == 7
    assert empty.nothing_runs()


def test_commands_at_once_share_the_servers_and_the_last_one_out_stops_them(here: Trial) -> None:
    waiting = ["exec", "--", "sh", "-c", "echo up; read -r line"]
    first, second = here.start(*waiting), here.start(*waiting)
    read_until(first, "up")
    read_until(second, "up")
    before = here.postmaster()
    first.communicate("go\n", timeout=20)
    assert here.run("exec", "--", "true") == (0, "")
    assert here.postmaster() == before
    second.communicate("go\n", timeout=20)
    assert here.nothing_runs()


def test_secrets_are_made_once_and_only_their_owner_reads_them(here: Trial) -> None:
    secret = ["exec", "--", "sh", "-c", "echo $SECRET_KEY $KILOTOKEN_KEY_PEPPER"]
    first, second = here.run(*secret, **ELSEWHERE), here.run(*secret, **ELSEWHERE)
    assert first == second
    assert len(first[1]) > 80
    modes = {path.stat().st_mode & 0o777 for path in (here.home / "secrets").iterdir()}
    assert modes == {0o600}
    assert here.run(*secret, SECRET_KEY="mine", **ELSEWHERE)[1].startswith("mine ")


def test_servers_that_are_named_are_used_and_none_is_started(empty: Trial) -> None:
    echo = "echo $DATABASE_URL $CELERY_BROKER_URL"
    code, said = empty.run("exec", "--", "sh", "-c", echo, **ELSEWHERE)
    assert (code, said) == (0, "postgresql://db.example/x redis://b.example\n")
    assert not (empty.home / "postgres" / "PG_VERSION").exists()


def test_a_killed_command_leaves_no_server_behind(here: Trial) -> None:
    command = here.start("exec", "--", "sh", "-c", "echo up; read -r line")
    read_until(command, "up")
    command.kill()
    until(here.nothing_runs)


def test_a_killed_postmaster_comes_back_with_every_committed_row(here: Trial) -> None:
    command = here.start("exec", "--", "sh", "-c", "echo up; read -r line")
    read_until(command, "up")
    here.sql("CREATE TABLE kept (id int)")
    assert here.sql("INSERT INTO kept SELECT generate_series(1, 1000) RETURNING 1").count("1")
    before = here.postmaster()
    os.kill(before, signal.SIGKILL)
    until(lambda: here.sql("SELECT count(*) FROM kept") == "1000")
    assert here.postmaster() != before
    command.communicate("go\n", timeout=20)
    assert here.nothing_runs()


def test_everything_killed_at_once_is_recovered_at_the_next_start(here: Trial) -> None:
    command = here.start("exec", "--", "sh", "-c", "echo up; read -r line")
    read_until(command, "up")
    here.sql("CREATE TABLE one_row AS SELECT 1 AS id")
    for pid in here.processes():
        os.kill(pid, signal.SIGKILL)
    command.wait(10)
    count = ["exec", "--", str(PSQL), "-XAtqc", "SELECT count(*) FROM one_row"]
    url = f"postgresql://kilotoken@{str(here.home / 'run').replace('/', '%2F')}/kilotoken"
    assert here.run(*count, url) == (0, "1\n")


def test_a_lock_file_that_names_somebody_elses_process_does_not_stop_the_start(
    here: Trial,
) -> None:
    stale = here.home / "postgres" / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{here.home / 'postgres'}\n0\n5432\n{here.home / 'run'}\n")
    assert here.run("exec", "--", "true") == (0, "")


def test_a_command_that_is_not_there_is_one_sentence(here: Trial) -> None:
    code, said = here.run("exec", "--", "no-such-command")
    assert code == 1
    assert said == "kilotoken: no-such-command cannot be run: there is no such program\n"


def _python_of_nobody(nobody: pwd.struct_passwd) -> str | None:
    """A Python this user may run; pyenv's in a closed home of root is none."""
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3"):
        path = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
        asks = [path or name, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            done = subprocess.run(asks, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        except OSError:
            continue
        if done.returncode == 0:
            return path
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_runs_it_without_root(empty: Trial) -> None:
    nobody = pwd.getpwnam("nobody")
    python = _python_of_nobody(nobody)
    if not python:
        pytest.skip("no Python 3.11 that an ordinary user may run")
    empty.home.mkdir()
    os.chown(empty.home, nobody.pw_uid, nobody.pw_gid)
    done = subprocess.run(
        [
            python,
            "-m",
            "stack",
            "exec",
            "--",
            "sh",
            "-c",
            f'{PSQL} -XAtqc "SELECT 1" $DATABASE_URL',
        ],
        cwd=ROOT,
        env={"KILOTOKEN_HOME": str(empty.home), "PATH": "/usr/bin:/bin"},
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "Permission denied" in done.stderr:
        pytest.skip(f"an ordinary user cannot read this checkout: {done.stderr}")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a home that it shuts to PostgreSQL")
def test_root_opens_no_folder_of_its_own_to_others(empty: Trial) -> None:
    closed = empty.home
    closed.mkdir(mode=0o700)
    empty.home = closed / "var"
    code, said = empty.run("exec", "--", "sh", "-c", "echo $KILOTOKEN_HOME")
    moved = Path(said.splitlines()[-1])
    shutil.rmtree(moved)
    assert code == 0
    assert moved.parent == Path("/var/lib/kilotoken")
    assert closed.stat().st_mode & 0o777 == 0o700
