"""What the machine room says, and how a child's life is told."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack import children, commands, processes
from stack.children import Children
from stack.home import ROOT
from stack.refusal import Refusal
from stack.terminal import LogFile, Terminal


def watched(monkeypatch: pytest.MonkeyPatch) -> Children:
    monkeypatch.setattr(children, "BACKOFF_S", (0.0, 0.0))
    monkeypatch.setattr(children, "TURN_S", 0.01)
    return Children(Terminal({}))


def until_told(family: Children) -> None:
    family.until(lambda: False, within_s=20)


def test_a_program_that_keeps_dying_is_given_up_with_its_last_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family = watched(monkeypatch)
    family.start("web", ["sh", "-c", "echo starting; echo no such module >&2; exit 3"], os.environ)
    with pytest.raises(Refusal, match=r"^web stopped 3 times in a row \(exit code 3\)"):
        until_told(family)
    said = capsys.readouterr().out
    assert said.count("web      | no such module") == 3
    assert "web stopped unexpectedly (exit code 3); its last lines: starting / no such mod" in said


def test_a_program_that_ran_steadily_has_no_restarts_held_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(children, "STEADY_AFTER_S", -1.0)
    family = watched(monkeypatch)
    family.start("web", ["false"], os.environ)
    family.until(lambda: family.restarts.get("web", 0) > 2, within_s=0.5)
    assert family.restarts["web"] == 1
    family.stop()


def test_a_line_is_shown_whole_however_it_arrives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family = watched(monkeypatch)
    slow = "import time, sys\nfor part in ('half', ' and half\\n', 'no end'):\n"
    slow += "    sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.05)"
    child = family.complete("demo", [sys.executable, "-c", slow], os.environ)
    assert child.process.returncode == 0
    assert capsys.readouterr().out == "demo     | half and half\ndemo     | no end\n"


def test_a_program_that_ignores_the_signal_is_killed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(children, "GRACE_S", 0.1)
    family = watched(monkeypatch)
    stubborn = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
    family.start("web", ["sh", "-c", stubborn], os.environ)
    family.until(lambda: bool(family.running["web"].last), within_s=10)
    pid = family.running["web"].process.pid
    family.stop()
    assert not processes.alive(pid)
    assert "web does not end; killing it" in capsys.readouterr().out


def test_a_log_file_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("before\n")
    log = LogFile("x", path)
    with path.open("a") as file:
        file.write("one\ntw")
    assert log.new_lines() == ["one"]
    path.write_text("new\n")
    assert log.new_lines() == ["new"]


@pytest.mark.parametrize(
    ("environ", "is_a_terminal", "coloured"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({}, False, False)],
)
def test_colours_are_for_terminals_and_for_those_who_want_them(
    environ: dict[str, str], is_a_terminal: bool, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_a_terminal, raising=False)
    assert Terminal(environ).colours is coloured


def test_a_full_disk_is_told_in_words_and_not_as_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands, "_dispatch", full)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    assert commands.main([]) == 1
    assert capsys.readouterr().err.startswith("kilotoken: no disk space is left; ")


def test_an_old_python_is_refused_in_words_it_can_parse() -> None:
    """The first page must be readable to a Python that knows nothing since 3.6."""
    for name in ("__init__.py", "__main__.py"):
        ast.parse((ROOT / "stack" / name).read_text(), feature_version=(3, 6))
    too_new = "import sys, stack.__main__ as page; page.OLDEST = (9, 0); page.NEWER = []; "
    done = subprocess.run(
        [sys.executable, "-c", too_new + "sys.exit(page.main())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("kilotoken: Python 3.11 or newer is needed and this is 3.")


def test_the_machine_room_imports_nothing_but_the_standard_library() -> None:
    allowed = set(sys.stdlib_module_names) | {"stack"}
    imported = {
        alias.split(".")[0]
        for path in (ROOT / "stack").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in node.names]
        )
    }
    assert imported <= allowed
