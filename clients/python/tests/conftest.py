"""The cast: a fake Kilotoken, fake providers, and meters that are closed again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "src"):  # so that it runs from the repository's root as well
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from kilotoken import Meter  # noqa: E402
from kilotoken_fake import FakeKilotoken  # noqa: E402
from provider_fake import FakeProvider  # noqa: E402
from waiting import KEY  # noqa: E402


@pytest.fixture
def server() -> Iterator[FakeKilotoken]:
    with FakeKilotoken() as fake:
        yield fake


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def make_meter(server: FakeKilotoken, tmp_path: Path) -> Iterator[Callable[..., Meter]]:
    made: list[Meter] = []

    def make(**options: Any) -> Meter:
        given = {"url": server.url, "key": KEY, "source": "tests", "project": "default",
                 "spool": tmp_path / "spool", "wait_s": 10, **options}  # fmt: skip
        made.append(Meter(**given))
        return made[-1]

    yield make
    for meter in made:
        meter.close(0)


@pytest.fixture
def meter(make_meter: Callable[..., Meter]) -> Meter:
    return make_meter()


@pytest.fixture
def letters(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    import json

    def read() -> list[dict[str, Any]]:
        path = tmp_path / "spool" / "dead-letters.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    return read
