"""The ingestion process answers whatever reaches it, and stores only what it said it stored."""

from __future__ import annotations

import json
import random

from tests.fuzz.requests import EVENTS, TRACES, storm
from tests.journey.live import Live

REQUESTS = 400
SEED = 20261124
STORED = """
    SELECT count(*) FROM metering_identity
    WHERE organization_id = (SELECT id FROM accounts_organization WHERE slug = 'fuzzed')
"""


def test_no_request_is_answered_in_a_way_none_may_be_and_what_is_stored_was_told(
    live: Live,
) -> None:
    code = "from accounts import people; people.create_verified('fuzz@journey.example', 'x' * 16)"
    live.manage("shell", "--no-imports", "-c", code)
    made_organization = live.manage(
        "create_organization", "Fuzzed", "--owner-email", "fuzz@journey.example", "--with-key"
    )
    key = json.loads(made_organization)["key"]
    address = ("127.0.0.1", int(live.env["INGEST_PORT"]))
    accepted = storm(EVENTS, address, key, random.Random(SEED), range(REQUESTS))
    assert accepted > REQUESTS // 8
    assert live.rows(STORED) == [(accepted,)]
    storm(TRACES, address, key, random.Random(SEED), range(REQUESTS // 2))
    assert live.rows(STORED) > [(accepted,)]
