"""How schemathesis is called: the same by hand and in a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOOR = ("/api/v1/events", "/v1/traces")  # what the ingestion processes answer
# Left out are checks that ask for more than a description can say: that whatever fits its schema is
# taken (an event may be too old), and that whatever does not is refused (207 refuses some of many).
# Who may do what is held by tests/web/test_openapi.py, operation by operation.
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "unsupported_method",
    "allow_header_conformance",
)  # fmt: skip


def run(
    description: str,
    base: str,
    key: str,
    *,
    seed: int,
    examples_max: int,
    phases: Sequence[str],
    folder: Path,
    only: Sequence[str] = (),
    more: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Hold the servers at `base` to the description at another address; 0 is without a finding.

    The same seed makes the same requests, but for the time of day in them. Reports and caches stay
    in `folder`.
    """
    argv = [
        sys.executable, "-m", "schemathesis.cli", "run", description, "--url", base,
        "--header", f"Authorization: Bearer {key}", "--seed", str(seed),
        "--max-examples", str(examples_max), "--phases", ",".join(phases),
        "--checks", ",".join(CHECKS), "--continue-on-failure", "--no-shrink",
        "--exclude-path", "/readyz",  # its 503 is an answer, and no failure
        "--suppress-health-check", "all", "--warnings", "off",
        *(f"--include-path={path}" for path in only), *more,
    ]  # fmt: skip
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.described.hooks", "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True)
