"""Names that repeat from event to event, kept once: sources, and what events are attributed to.

An attribution is a project, model, API key, agent, region and service class together; the empty
text stands for an absent name. Numbers are given in a committed statement of their own, before the
batch that uses them, because what a process remembers must be in the database whatever becomes of
that batch. A name that no event refers to does no harm.

An organization has room for so many. Names that find none have no number; all others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from django.conf import settings
from psycopg import Connection
from psycopg.pq import TransactionStatus

REMEMBERED_MAX = 100_000
LATEST = 1_000  # the newest attributions, by which those who bring so many are told apart
FULL_BELIEVED_S = 2.0  # for so long nobody counts again

Attribution = tuple[int, str, str, str, str, str]  # project's row, then the names
Names = Mapping[Any, int]

# Counted once a statement, and only where something is new; rivals may pass it by a batch each.
_ROOM = """LIMIT greatest(0, %(most)s - (
        SELECT count(*) FROM {} WHERE organization_id = %(organization_id)s))"""
SOURCES = f"""
    INSERT INTO metering_source (organization_id, name)
    SELECT %(organization_id)s, name FROM unnest(%(names)s::text[]) AS wanted (name)
    WHERE NOT EXISTS (SELECT FROM metering_source known
        WHERE known.organization_id = %(organization_id)s AND known.name = wanted.name)
    ORDER BY name
    {_ROOM.format("metering_source")}
    ON CONFLICT DO NOTHING
"""  # noqa: S608
SOURCE_IDS = """
    SELECT name, id FROM metering_source
    WHERE organization_id = %(organization_id)s AND name = ANY(%(names)s)
"""
FIELDS = ("model", "api_key", "agent", "region", "service_class")
_COLUMNS = f"project_id, {', '.join(FIELDS)}"
_WANTED = """unnest(%(project_ids)s::bigint[], %(models)s::text[], %(api_keys)s::text[],
        %(agents)s::text[], %(regions)s::text[], %(service_classes)s::text[])"""
ATTRIBUTIONS = f"""
    INSERT INTO metering_attribution (organization_id, {_COLUMNS})
    SELECT %(organization_id)s, {_COLUMNS} FROM {_WANTED} AS wanted ({_COLUMNS})
    WHERE NOT EXISTS (SELECT FROM metering_attribution known
        WHERE known.organization_id = %(organization_id)s
          AND (known.project_id, known.model, known.api_key, known.agent, known.region,
               known.service_class)
            = (wanted.project_id, wanted.model, wanted.api_key, wanted.agent, wanted.region,
               wanted.service_class))
    ORDER BY {_COLUMNS}
    {_ROOM.format("metering_attribution")}
    ON CONFLICT DO NOTHING
"""  # noqa: S608
# Where many are new: how many different values each field had lately.
DIFFERENT = f"""
    SELECT {", ".join(f"count(DISTINCT {field})" for field in FIELDS)} FROM (
        SELECT * FROM metering_attribution WHERE organization_id = %s ORDER BY id DESC LIMIT %s
    ) AS latest
"""  # noqa: S608
ATTRIBUTION_IDS = f"""
    SELECT {_COLUMNS}, known.id
    FROM {_WANTED} AS wanted ({_COLUMNS})
    JOIN metering_attribution known USING ({_COLUMNS})
    WHERE known.organization_id = %(organization_id)s
"""  # noqa: S608


class Different(NamedTuple):
    """How many different values a field had lately."""

    field: str
    values: int


class _Remembered:
    """Numbers known to be committed, by organization and name; forgotten all at once when full.

    And the organizations that have no room for another name, each for a moment.
    """

    def __init__(self) -> None:
        self._ids: dict[tuple[int, Any], int] = {}
        self._full: dict[int, float] = {}
        self._lock = threading.Lock()

    def of(self, organization_id: int, names: Iterable[Any]) -> tuple[dict[Any, int], list[Any]]:
        """The numbers that are known, and the names whose numbers are not."""
        found: dict[Any, int] = {}
        missing = []
        for name in names:
            number = self._ids.get((organization_id, name))
            if number is None:
                missing.append(name)
            else:
                found[name] = number
        return found, missing

    def keep(self, organization_id: int, numbers: Names) -> None:
        with self._lock:
            if len(self._ids) + len(numbers) > REMEMBERED_MAX:
                self._ids.clear()
            self._ids.update({(organization_id, name): number for name, number in numbers.items()})

    def has_room(self, organization_id: int) -> bool:
        """False where there was none a moment ago."""
        full_at = self._full.get(organization_id)
        return full_at is None or time.monotonic() - full_at > FULL_BELIEVED_S

    def note_room(self, organization_id: int, *, left: bool) -> None:
        with self._lock:
            if left:
                self._full.pop(organization_id, None)
            else:
                self._full[organization_id] = time.monotonic()

    def forget(self) -> None:
        with self._lock:
            self._ids.clear()
            self._full.clear()


_sources = _Remembered()
_attributions = _Remembered()


def forget() -> None:
    """Remember nothing: for whoever emptied the tables."""
    _sources.forget()
    _attributions.forget()


class Named(Protocol):
    """An event, or what is said in several."""

    @property
    def model(self) -> str: ...
    @property
    def api_key(self) -> str | None: ...
    @property
    def agent(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def service_class(self) -> str | None: ...


def attribution(event: Named, project_id: int) -> Attribution:
    """What an event is attributed to."""
    return (
        project_id,
        event.model,
        event.api_key or "",
        event.agent or "",
        event.region or "",
        event.service_class or "",
    )


def source_ids(connection: Connection[Any], organization_id: int, names: Iterable[str]) -> Names:
    """The number of each source; new ones are made, and committed unless a transaction is open.

    Those that find no room are left out.
    """
    found, missing = _sources.of(organization_id, set(names))
    if missing:
        parameters = {"organization_id": organization_id, "names": missing, **_most()}
        if _sources.has_room(organization_id):
            connection.execute(SOURCES, parameters)
        new = dict(connection.execute(SOURCE_IDS, parameters).fetchall())
        _sources.note_room(organization_id, left=len(new) == len(missing))
        _remember(connection, _sources, organization_id, new)
        found |= new
    return found


def attribution_ids(
    connection: Connection[Any], organization_id: int, wanted: Iterable[Attribution]
) -> Names:
    """The number of each attribution, as `source_ids` for sources."""
    found, missing = _attributions.of(organization_id, set(wanted))
    if missing:
        columns = [list(column) for column in zip(*missing, strict=True)]
        named = ("project_ids", "models", "api_keys", "agents", "regions", "service_classes")
        parameters = {
            "organization_id": organization_id,
            **dict(zip(named, columns, strict=True)),
            **_most(),
        }
        if _attributions.has_room(organization_id):
            connection.execute(ATTRIBUTIONS, parameters)
        rows: Sequence[Sequence[Any]] = connection.execute(ATTRIBUTION_IDS, parameters).fetchall()
        new = {tuple(row[:-1]): row[-1] for row in rows}
        _attributions.note_room(organization_id, left=len(new) == len(missing))
        _remember(connection, _attributions, organization_id, new)
        found |= new
    return found


def _most() -> dict[str, int]:
    return {"most": settings.INGEST_NAMES_MAX}


def different(connection: Connection[Any], organization_id: int) -> list[Different]:
    """How many values each field of the newest attributions has, the most first."""
    counts = connection.execute(DIFFERENT, [organization_id, LATEST]).fetchone() or ()
    found = [Different(*pair) for pair in zip(FIELDS, counts, strict=True)]
    return sorted(found, key=lambda one: -one.values)


def _remember(
    connection: Connection[Any], where: _Remembered, organization_id: int, numbers: Names
) -> None:
    """Only what is committed: inside somebody's transaction it may yet be undone."""
    if connection.info.transaction_status == TransactionStatus.IDLE:
        where.keep(organization_id, numbers)
