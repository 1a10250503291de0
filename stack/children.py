"""The supervisor's children: their output line by line, their restarts, their end.

One thread does all of it. The kernel's death signal is bound to the thread that forked, and a
fork of a process with one thread cannot inherit a lock held by another.
"""

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from stack import processes
from stack.home import ROOT
from stack.refusal import Refusal
from stack.terminal import LogFile, Terminal

TURN_S = 0.1
BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # one per restart; after the last one we give up
STEADY_AFTER_S = 60.0  # who ran this long has no restarts held against it
GRACE_S = 10.0
LAST_LINES = 8
READ_BYTES = 65_536


class Stopped(Exception):
    """Somebody asked us to stop."""


@dataclass
class Child:
    """One program: `lasting` ones are started again when they end."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes]
    lasting: bool
    quiet: bool = False
    started_at: float = field(default_factory=time.monotonic)
    rest: bytes = b""  # the beginning of a line whose end has not come yet
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()


class Children:
    """Starts, follows, restarts and stops."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.logs: list[LogFile] = []
        self.running: dict[str, Child] = {}  # in the order of their start
        self.restarts: dict[str, int] = {}
        self.due: dict[str, tuple[float, Child]] = {}  # to be started again, and when
        self.selector = selectors.DefaultSelector()
        self.signals = 0

    def listen(self) -> None:
        """From here on a signal to stop is noted, and acted upon at the next turn."""

        def note(_number: int, _frame: FrameType | None) -> None:
            self.signals += 1

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                signal.signal(number, note)

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start one that is to run until we stop it."""
        self._start(name, argv, env, lasting=True)

    def complete(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], *, quiet: bool = False
    ) -> Child:
        """Run one to its end and follow everybody meanwhile."""
        child = self._start(name, argv, env, lasting=False, quiet=quiet)
        while child.process.poll() is None:
            self.turn()
        self._bury(child)
        return child

    def until(self, condition: Callable[[], bool], *, within_s: float) -> bool:
        """Take turns until the condition holds; False if it does not in time."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.turn()
        return True

    def heed(self) -> None:
        """Stop if somebody asked for it."""
        if self.signals:
            raise Stopped

    def turn(self) -> None:
        """Show what was said, start again who died, stop if somebody asked for it."""
        self.heed()
        self._read(TURN_S)
        for child in list(self.running.values()):
            if child.lasting and child.process.poll() is not None:
                self._bury(child)
                self._plan_restart(child)
        for name, (when, child) in list(self.due.items()):
            if time.monotonic() >= when:
                del self.due[name]
                self.start(name, child.argv, child.env)

    def stop(self) -> None:
        """Ask all, the last one first; kill who is not gone in time, or at a second Ctrl-C."""
        asked_before = self.signals
        children = list(reversed(self.running.values()))
        for child in children:
            processes.send(child.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while any(child.process.poll() is None for child in children):
            if time.monotonic() > deadline or self.signals > max(asked_before, 1):
                break
            self._read(TURN_S / 2)
        for child in children:
            if child.process.poll() is None:
                self.terminal.own(f"{child.name} does not end; killing it")
                processes.kill_group(child.process.pid)
                child.process.wait()
            self._bury(child)

    def _start(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        lasting: bool,
        quiet: bool = False,
    ) -> Child:
        process = processes.start(argv, env=env, cwd=ROOT, output=subprocess.PIPE)
        child = Child(name, argv, env, process, lasting, quiet)
        self.running[name] = child
        os.set_blocking(child.output, False)
        self.selector.register(child.output, selectors.EVENT_READ, child)
        return child

    def _read(self, timeout_s: float) -> None:
        for key, _ in self.selector.select(timeout_s):
            self._hear(key.data)
        for log in self.logs:
            for line in log.new_lines():
                self.terminal.line(log.name, line)

    def _hear(self, child: Child) -> bool:
        """Show what a child has said; whether there may be more of it at once."""
        try:
            content = os.read(child.output, READ_BYTES)
        except BlockingIOError:
            return False
        lines = (child.rest + content).split(b"\n")
        child.rest = lines.pop()
        if not content:
            self.selector.unregister(child.output)
            lines, child.rest = [child.rest] if child.rest else [], b""
        for line in lines:
            words = line.decode(errors="replace").rstrip("\r")
            child.last.append(words)
            if not child.quiet:
                self.terminal.line(child.name, words)
        return bool(content)

    def _bury(self, child: Child) -> None:
        """Read the last words, kill what is left of its session and forget it."""
        del self.running[child.name]
        processes.kill_group(child.process.pid)
        if child.output in self.selector.get_map():
            while self._hear(child):
                pass
        if child.output in self.selector.get_map():  # somebody who left its session keeps it open
            self.selector.unregister(child.output)
        assert child.process.stdout is not None
        child.process.stdout.close()

    def _plan_restart(self, child: Child) -> None:
        """Say what happened and set the time of the next attempt, or give up."""
        if time.monotonic() - child.started_at > STEADY_AFTER_S:
            self.restarts[child.name] = 0
        attempt = self.restarts.get(child.name, 0)
        how = ending(child.process.returncode)
        words = " / ".join(line for line in child.last if line.strip())
        self.terminal.own(f"{child.name} stopped unexpectedly ({how}); its last lines: {words}")
        if attempt == len(BACKOFF_S):
            raise Refusal(
                f"{child.name} stopped {attempt + 1} times in a row ({how}), so everything stops; "
                "its last lines are above"
            )
        self.restarts[child.name] = attempt + 1
        self.due[child.name] = (time.monotonic() + BACKOFF_S[attempt], child)


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
