"""`stack check` and `stack test`: every check runs, every result is told, pytest closes."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence

from stack import one_command
from stack.home import ROOT, open_home
from stack.locks import FileLock
from stack.refusal import say

CHECKS = {
    "formatting": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "types of the client": ["mypy", "--config-file", "clients/python/pyproject.toml"],
    "import directions": ["lint-imports", "--no-logo"],
    "migrations": ["python", "manage.py", "makemigrations", "--check", "--dry-run"],
}


def main(environ: Mapping[str, str], *, pytest: Sequence[str] | None) -> int:
    """Run the checks, and pytest with these arguments unless None; 1 if anything failed."""
    environ = {"KILOTOKEN_HOME": str(ROOT / "var" / "test"), **environ}
    alone = FileLock(open_home(environ).locks / "test")  # two would drop each other's database
    if not alone.try_own():
        say(f"another test run uses {environ['KILOTOKEN_HOME']}; waiting for it to end")
        alone.own()
    with one_command.ready(environ) as env:
        results = {name: _timed(name, command, env) for name, command in CHECKS.items()}
        _summary(results)
        if pytest is not None:
            # Told above and not below: the last line belongs to pytest's own count.
            results["pytest"] = _timed("pytest", ["pytest", *pytest], env)
    alone.close()
    return int(any(code for code, _ in results.values()))


def _timed(name: str, command: Sequence[str], env: Mapping[str, str]) -> tuple[int, float]:
    print(f"\n== {name}: {' '.join(command)}", flush=True)
    started_at = time.monotonic()
    program = ROOT / ".venv" / "bin" / command[0]
    argv = [os.fspath(program), *command[1:]]
    interrupts: list[int] = []
    code = one_command.run(argv, env, stdin=subprocess.DEVNULL, interrupts=interrupts)
    if interrupts:
        raise SystemExit(128 + interrupts[0])
    return code, time.monotonic() - started_at


def _summary(results: Mapping[str, tuple[int, float]]) -> None:
    print("\n== checks", flush=True)
    for name, (code, took_s) in results.items():
        print(f"{'FAILED' if code else 'passed'}  {took_s:5.1f} s  {name}", flush=True)
