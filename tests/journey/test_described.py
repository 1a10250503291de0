"""The real servers answer as the description says, whatever they are sent: by schemathesis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.described.command import DOOR, run
from tests.journey.live import Live

SEED = 20261124


@pytest.fixture(scope="module")
def key(live: Live) -> str:
    """A key that may do everything, in an organization with a little usage."""
    code = "from accounts import people; people.create_verified('schema@journey.example', 'x' * 16)"
    live.manage("shell", "--no-imports", "-c", code)
    made = live.manage(
        "create_organization", "Described", "--owner-email", "schema@journey.example", "--with-key"
    )
    text = str(json.loads(made)["key"])
    live.execute(
        "UPDATE accounts_apikey SET scopes = '{ingest,read,manage}' WHERE prefix = %s",
        text.split("_")[1],
    )
    return text


@pytest.mark.parametrize("door", [False, True], ids=["web", "ingestion"])
def test_no_request_made_from_the_description_is_answered_otherwise(
    live: Live, key: str, tmp_path: Path, door: bool
) -> None:
    """Never a 5xx, and no status, media type, header or body that is not in it."""
    port = live.env["INGEST_PORT"] if door else live.env["PORT"]
    done = run(
        f"http://127.0.0.1:{live.env['PORT']}/api/v1/openapi.json", f"http://127.0.0.1:{port}",
        key, seed=SEED, examples_max=60 if door else 12, phases=("examples", "fuzzing"),
        folder=tmp_path, only=DOOR if door else (),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert "No issues found" in done.stdout
