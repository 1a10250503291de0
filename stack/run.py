"""`stack run`: servers, migrations, the four programs, the demo; then follow them all."""

import http.client
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from stack import environment, ports, servers
from stack.children import Children, Stopped
from stack.home import ROOT, Home, open_home
from stack.locks import FileLock
from stack.refusal import Refusal
from stack.terminal import LogFile, Terminal

PYTHON = str(ROOT / ".venv" / "bin" / "python")
MANAGE = [PYTHON, "manage.py"]
ANSWER_WITHIN_S = 90.0
KEEPER_LOOK_S = 1.0
FILTERS = "PYTHONWARNINGS"
KNOCK = (
    "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL'], connect_timeout=10).close()"
)
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where to knock on who listens everywhere


def main(environ: Mapping[str, str]) -> int:
    """Run until somebody stops us (0) or something cannot be kept running (a refusal)."""
    if not os.access(PYTHON, os.X_OK):
        raise Refusal("nothing is installed yet; use `make run`, or run `make install` first")
    home = open_home(environ)
    env = {**environment.for_children(home, environ), **_quiet(environ)}
    alone = FileLock(home.locks / "run")
    if not alone.try_own():
        raise Refusal(
            f"Kilotoken runs already on {home.path}; "
            "stop it, or choose another home: KILOTOKEN_HOME=/path/to/folder make run"
        )
    for variable in ports.OURS:
        ports.refuse_if_taken(_host(env), int(env[variable]), variable=variable)
    ports.note(home.locks, env)
    children = Children(Terminal(env))
    children.listen()
    try:
        _run(home, env, environ, children)
    except Stopped:
        children.terminal.own("stopped; your data stays in " + str(home.path))
    return 0


def _run(
    home: Home, env: Mapping[str, str], environ: Mapping[str, str], children: Children
) -> None:
    embedded = environment.needs_servers(environ)
    with ExitStack() as stack:
        if embedded:
            stack.enter_context(servers.in_use(home, children.heed))
            for name in ("keeper", "postgres", "valkey"):  # from here on: how they started is dull
                children.logs.append(LogFile(name, home.logs / f"{name}.log"))
        stack.callback(children.stop)  # before the servers go
        if environ.get("DATABASE_URL"):
            knock(children, env)
        migrate(children, env)
        for name, argv in programs(home, env).items():
            children.start(name, argv, env)
        _await_answers(children, env)
        _tell_demo(home, env, environ, children)
        children.terminal.own(f"ready at http://localhost:{env['PORT']}  (Ctrl-C stops it)")
        looked_at = time.monotonic()
        while True:
            children.turn()
            if embedded and time.monotonic() > looked_at + KEEPER_LOOK_S:
                servers.ensure(
                    home, children.heed
                )  # at once where all is well; a killed keeper is replaced
                looked_at = time.monotonic()


def programs(home: Home, env: Mapping[str, str]) -> dict[str, list[str]]:
    """What runs, in the order of starting."""
    granian = [PYTHON, "-m", "granian", "--no-ws", "--host", _host(env), "--workers", "1"]
    # Who sends half a request would be waited for; nothing of it was acknowledged.
    granian += ["--workers-kill-timeout", "5"]
    wsgi = ["--interface", "wsgi", "--blocking-threads", "4"]
    # Thousands of silent senders may be connected, and those that stop within a head are let go.
    rsgi = ["--interface", "rsgi", "--http", "1", "--backpressure", "8192"]
    rsgi += ["--http1-header-read-timeout", "10000"]
    celery = [PYTHON, "-m", "celery", "-A", "config", "--quiet"]
    # Processes, not threads: only they can be ended when a task exceeds its time limit.
    worker = [*celery, "worker", "--pool", "prefork", "--concurrency", "2"]
    beat = [*celery, "beat", "--schedule", str(home.path / "beat" / "schedule")]
    return {
        "web": [*granian, *wsgi, "--port", env["PORT"], "config.wsgi:application"],
        "ingestion": [
            *granian,
            *rsgi,
            "--port",
            env["INGEST_PORT"],
            "metering.ingest.rsgi:application",
        ],
        "worker": [*worker, "--hostname", "kilotoken@%h", "--without-gossip", "--without-mingle"],
        "beat": [*beat, "--pidfile", ""],
    }


def knock(children: Children, env: Mapping[str, str]) -> None:
    """Connect once to a database that is not ours: the pool would wait and not say why."""
    look = [PYTHON, "-c", KNOCK]
    child = children.complete("database", look, env, quiet=True)
    if child.process.returncode != 0:
        why = " ".join(child.last).rpartition("Error: ")[2] or "it does not answer"
        raise Refusal(f"the server of DATABASE_URL cannot be used: {why}")


def migrate(children: Children, env: Mapping[str, str]) -> None:
    """Bring the schema up to the code, if it is behind."""
    look = [*MANAGE, "migrate", "--check"]
    if children.complete("migrate", look, env, quiet=True).process.returncode == 0:
        return
    children.terminal.own("bringing the database up to date")
    migrate = [*MANAGE, "migrate", "--no-input", "--verbosity", "0"]
    done = children.complete("migrate", migrate, env)
    if done.process.returncode != 0:
        raise Refusal("the database cannot be migrated; the lines above say why")


def _await_answers(children: Children, env: Mapping[str, str]) -> None:
    host = ANYWHERE.get(_host(env), _host(env))
    for name, variable in (("web", "PORT"), ("ingestion", "INGEST_PORT")):
        answer = partial(answers, host, int(env[variable]))
        if not children.until(answer, within_s=ANSWER_WITHIN_S):
            raise Refusal(f"{name} does not answer at port {env[variable]}; see its lines above")


def answers(host: str, port: int) -> bool:
    """Whether somebody answers there, and not with a failure of theirs."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/healthz", headers={"Host": f"localhost:{port}"})
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tell_demo(
    home: Home, env: Mapping[str, str], environ: Mapping[str, str], children: Children
) -> None:
    """Make the demo at the first start; afterwards only say how to sign in.

    A database that is not ours gets demo data on request only.
    """
    if environ.get("KILOTOKEN_DEMO", "0" if environ.get("DATABASE_URL") else "1") == "0":
        return
    made = home.path / "demo.made"
    if made.exists():
        children.complete("demo", [*MANAGE, "demo", "--sign-ins"], env)
    elif children.complete("demo", [*MANAGE, "demo"], env).process.returncode == 0:
        made.touch()
    else:
        children.terminal.own("the demo data could not be made; everything else runs")


def _quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """Lines as they are said, without Celery's daily advice to root, who knows."""
    advice = "ignore:You're running the worker with superuser privileges"
    warnings = ",".join(filter(None, [environ.get(FILTERS), advice]))
    return {"PYTHONUNBUFFERED": "1", FILTERS: warnings}


def _host(env: Mapping[str, str]) -> str:
    return env.get("HOST") or "127.0.0.1"
