"""`stack exec`: one command with the servers up and the environment set."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from stack import environment, ports, processes, servers
from stack.home import ROOT, open_home
from stack.refusal import Refusal


@contextmanager
def ready(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Servers up, environment complete."""
    home = open_home(environ)
    with ExitStack() as stack:
        if environment.needs_servers(environ):
            stack.enter_context(servers.in_use(home))
        yield environment.for_children(home, environ)


def main(command: Sequence[str]) -> int:
    """Run the command and pass on how it ended, as a shell would: 128 and the signal."""
    if not shutil.which(command[0], path=environment.search_path(os.environ)):
        raise Refusal(f"{command[0]} cannot be run: there is no such program")
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    with ready(os.environ) as env:
        code = run(command, env | _doors(env["KILOTOKEN_HOME"], os.environ))
    return code if code >= 0 else 128 - code


def _doors(home: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The ports of the `make run` beside us, unless the caller names some."""
    if any(environ.get(name) for name in ports.OURS):
        return {}
    return ports.of_running(Path(home) / "locks")


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def run(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    stdin: int | None = None,
    interrupts: list[int] | None = None,
) -> int:
    """Run in our own session and on our own terminal: the command may ask and be debugged."""
    heard = interrupts if interrupts is not None else []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        heard.append(number)
        if number != signal.SIGINT:  # the terminal's Ctrl-C reaches the command by itself
            processes.send(child.pid, number)

    child = subprocess.Popen(
        command,
        env=dict(env),
        cwd=ROOT,
        stdin=stdin,
        preexec_fn=processes.dies_with_parent(signal.SIGTERM),  # noqa: PLW1509
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
