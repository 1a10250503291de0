"""The keeper starts a server that died anew, and knows when to give up."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stack import keeper
from stack.home import Home, Person
from stack.keeper import LEFT_BEHIND, RESTARTS_MAX, Server
from stack.refusal import Refusal


class Ended:
    """A process that is over."""

    returncode = 1

    def poll(self) -> int:
        return self.returncode


class Living(Ended):
    def poll(self) -> None:  # type: ignore[override]
        return None


class Trial:
    """A server that ends at once so many times, and says why."""

    def __init__(self, tmp_path: Path, *, ends: int, says: str) -> None:
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "postgres.log").write_text(says)
        self.home = Home(tmp_path, Person(1, 1, "nobody"), tmp_path)
        self.left, self.starts = ends, 1
        self.server = Server("postgres", self._start, lambda child: child.poll() is None,
                             lambda _: None)  # fmt: skip
        self.running: dict[str, subprocess.Popen[bytes]] = {"postgres": Ended()}  # type: ignore[dict-item]

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        self.left -= 1
        return Ended() if self.left else Living()  # type: ignore[return-value]

    def see_ready(self) -> None:
        keeper._see_ready(self.home, self.server, self.running)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper.time, "sleep", lambda _: None)


def test_a_server_is_waited_for_whose_killed_predecessor_still_holds_its_memory(
    tmp_path: Path,
) -> None:
    trial = Trial(tmp_path, ends=RESTARTS_MAX * 3, says=f"FATAL: {LEFT_BEHIND} is still in use")
    trial.see_ready()
    assert trial.starts == RESTARTS_MAX * 3 + 1


def test_a_server_that_does_not_start_for_another_reason_is_told_of_soon(tmp_path: Path) -> None:
    trial = Trial(tmp_path, ends=RESTARTS_MAX * 3, says="FATAL: could not open the file")
    with pytest.raises(Refusal, match="could not open the file"):
        trial.see_ready()
    assert trial.starts == RESTARTS_MAX
