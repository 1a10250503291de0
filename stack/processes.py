"""Child processes that do not outlive their parent."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from stack.home import Person

PR_SET_PDEATHSIG = 1

# Loaded here and not after the fork, where importing could wait for a lock for ever.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def dies_with_parent(signal_number: int) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends this signal when the parent dies, even by kill -9.

    Linux only; elsewhere the child simply starts. Fork from the main thread: the kernel means
    the parent thread, not the process.
    """
    return partial(die_with, os.getpid(), signal_number)


def die_with(parent: int, signal_number: int) -> None:
    """Have the kernel send us this signal when our parent dies; at once if it has already."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != parent:  # died between fork and prctl
            os._exit(1)


def start(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    output: int | IO[bytes],
    person: Person | None = None,
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in its own session, so that Ctrl-C reaches our supervisor only."""
    as_person = person if person and os.geteuid() == 0 and person.uid != 0 else None
    return subprocess.Popen(
        [os.fspath(word) for word in argv],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=dies_with_parent(death_signal),  # noqa: PLW1509 (one thread, see above)
        user=as_person.uid if as_person else None,
        group=as_person.gid if as_person else None,
        extra_groups=[] if as_person else None,
    )


def stop(child: subprocess.Popen[bytes], signal_number: int, *, grace_s: float) -> None:
    """Ask, wait, then kill the child and whatever is left of its session."""
    if child.poll() is None:
        send(child.pid, signal_number)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    kill_group(child.pid)


def send(pid: int, signal_number: int) -> None:
    """Signal one process; one that is gone already is as good as signalled."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def kill_group(leader: int) -> None:
    """Kill what a dead session leader left behind."""
    # macOS answers with the second of these for a zombie.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process of this number runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return not Path("/proc/self/stat").exists()
    return text.rpartition(")")[2].split()[0] not in "ZX"


def command_line(pid: int) -> str:
    """What a process was started with; empty if there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""
    asked = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return asked.stdout


def until(condition: Callable[[], bool], *, within_s: float) -> bool:
    """Poll a condition until it holds or the time is up; say which."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
