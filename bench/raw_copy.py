"""The fastest way there is, which knows neither duplicates nor mistakes: COPY, ready-made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from bench.batches import Event

CREATE = """
    CREATE TABLE bench_copy (
        organization_id bigint NOT NULL,
        source text COLLATE "C" NOT NULL,
        event_id text COLLATE "C" NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        occurred_at timestamptz NOT NULL,
        project_id bigint NOT NULL,
        model text NOT NULL, api_key text, agent text, session text, region text,
        service_class text,
        input bigint, cache_read bigint, cache_write bigint, output bigint, reasoning bigint,
        PRIMARY KEY (organization_id, source, event_id)
    )
"""
COPY = """
    COPY bench_copy (organization_id, source, event_id, occurred_at, project_id, model, api_key,
        agent, session, region, service_class, input, cache_read, output, reasoning) FROM STDIN
"""


def render(events: list[Event], organization_id: int) -> bytes:
    """The bytes COPY reads; made before the clock runs."""
    rows = [
        "\t".join(
            str(value)
            for value in (
                organization_id, event["source"], event["id"], event["occurred_at"], 1,
                event["model"], event["api_key"], event["agent"], event["session"],
                event["region"], event["service_class"], *event["usage"].values(),
            )
        )
        for event in events
    ]  # fmt: skip
    return ("\n".join(rows) + "\n").encode()


def copy(own: psycopg.Connection[Any], texts: Iterable[bytes]) -> None:
    """Each batch a transaction of its own, on disk before it returns."""
    for text in texts:
        with own.cursor() as cursor, cursor.copy(COPY) as sink:
            sink.write(text)
