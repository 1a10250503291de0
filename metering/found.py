"""Looking events up one by one: what the portal and the console show when somebody asks which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from metering.usage import registers

LIMIT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event as it is stored, with what became of its batch."""

    source: str
    id: str
    occurred_at: datetime
    received_at: datetime
    project_id: int
    project: str
    model: str
    api_key: str | None
    agent: str | None
    session: str | None
    region: str | None
    service_class: str | None
    usage: dict[str, int]
    batch_id: int
    ordinal: int
    batch_state: str


@dataclass(frozen=True, slots=True)
class Search:
    """Which events; what is None does not matter."""

    event_id: str | None = None
    source: str | None = None
    model: str | None = None
    project_id: int | None = None
    batch_id: int | None = None
    start: datetime | None = None  # of occurred_at, half-open
    end: datetime | None = None


# Ids are unique per source, so every source is asked for the id: the few sources of an organization
# are found by skipping through the key's index.
PLACES = """
    WITH RECURSIVE source (name) AS (
        (SELECT min(source) FROM metering_eventkey WHERE organization_id = %(organization_id)s)
        UNION ALL
        SELECT (SELECT min(key.source) FROM metering_eventkey key
                WHERE key.organization_id = %(organization_id)s AND key.source > source.name)
        FROM source WHERE source.name IS NOT NULL
    )
    SELECT key.batch_id, key.ordinal
    FROM source
    JOIN metering_eventkey key
      ON key.organization_id = %(organization_id)s AND key.source = source.name
     AND key.event_id = %(event_id)s
"""
EVENTS = """
    SELECT event.batch_id, event.ordinal, event.occurred_at, event.received_at,
           event.project_id, coalesce(project.slug, ''), event.model, event.api_key, event.agent,
           event.session, event.region, event.service_class, event.input, event.cache_read,
           event.cache_write, event.output, event.reasoning, event.other
    FROM metering_event event
    LEFT JOIN accounts_project project ON project.id = event.project_id
    WHERE event.organization_id = %(organization_id)s {conditions}
    ORDER BY event.batch_id DESC, event.ordinal DESC
    LIMIT %(limit)s
"""
IDENTITIES = """
    SELECT key.batch_id, key.ordinal, key.source, key.event_id, batch.state
    FROM metering_eventkey key
    JOIN metering_ingestbatch batch
      ON batch.organization_id = key.organization_id AND batch.id = key.batch_id
    WHERE key.organization_id = %(organization_id)s AND key.batch_id = ANY(%(batch_ids)s)
"""
_NAMES = ("batch_id", "ordinal", "occurred_at", "received_at", "project_id", "project", "model",
          "api_key", "agent", "session", "region", "service_class")  # fmt: skip
_CONDITIONS = {
    "source": """AND EXISTS (SELECT FROM metering_eventkey key
        WHERE key.organization_id = event.organization_id AND key.batch_id = event.batch_id
          AND key.ordinal = event.ordinal AND key.source = %(source)s)""",
    "model": "AND event.model = %(model)s",
    "project_id": "AND event.project_id = %(project_id)s",
    "batch_id": "AND event.batch_id = %(batch_id)s",
    "start": "AND event.occurred_at >= %(start)s",
    "end": "AND event.occurred_at < %(end)s",
}


def find(organization_id: int, search: Search, *, limit: int = 50) -> list[FoundEvent]:
    """The newest events that match, newest first."""
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "limit": min(limit, LIMIT_MAX),
    }
    conditions = []
    for name, condition in _CONDITIONS.items():
        if (value := getattr(search, name)) is not None:
            parameters[name] = value
            conditions.append(condition)
    if search.event_id is not None:
        places = _rows(PLACES, {"organization_id": organization_id, "event_id": search.event_id})
        parameters["batch_ids"] = [batch_id for batch_id, _ in places]
        parameters["ordinals"] = [ordinal for _, ordinal in places]
        conditions.append(
            "AND (event.batch_id, event.ordinal) IN (SELECT * FROM "
            "unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]))"
        )
    if search.start is not None:  # nothing is received before it is 300 s from happening
        conditions.append("AND event.received_at >= %(start)s - interval '300 seconds'")
    rows = _rows(EVENTS.format(conditions=" ".join(conditions)), parameters)
    return _with_identity(organization_id, rows)


def _with_identity(organization_id: int, rows: Sequence[tuple[Any, ...]]) -> list[FoundEvent]:
    batch_ids = sorted({row[0] for row in rows})
    identities = {
        (batch_id, ordinal): (source, event_id, state)
        for batch_id, ordinal, source, event_id, state in _rows(
            IDENTITIES, {"organization_id": organization_id, "batch_ids": batch_ids}
        )
    }
    return [_event(row, *identities[row[0], row[1]]) for row in rows]


def _event(row: tuple[Any, ...], source: str, event_id: str, state: str) -> FoundEvent:
    core = zip(registers.CORE, row[12:17], strict=True)
    other: dict[str, int] = json.loads(row[17]) if row[17] else {}
    usage = {name: value for name, value in core if value is not None} | other
    named = dict(zip(_NAMES, row[:12], strict=True))
    return FoundEvent(source=source, id=event_id, batch_state=state, usage=usage, **named)


def _rows(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
