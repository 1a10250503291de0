"""Looking events up one by one: what the portal, the console and the API show when asked which.

An id is looked up through the key's index. Every other search walks an organization's batches from
the newest back, those of some days by the index of days, and looks at so many events at most, so
that an answer costs the same whatever is stored: where the walk ends before the page is full, the
answer says how far it came, and its cursor goes on from there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple

from django.db import connection

from metering.usage import bands, registers

LIMIT_MAX = 1_000
ORDINAL_MAX = 2**15 - 1
BATCHES_AT_ONCE = (4, 32, 256, 2_048)  # the first look is small: most pages fill from it
EVENTS_LOOKED_AT_MAX = 200_000  # of a page; counted by what their batches accepted
DAYS_MAX = 62  # that are looked up one by one; a longer window is walked from the newest back
DAY = timedelta(days=1)
QUARTER = timedelta(minutes=15)


class EventPlace(NamedTuple):
    """Where an event lies: its batch, and its place in the request. It never changes."""

    batch_id: int
    ordinal: int

    def __str__(self) -> str:
        return f"{self.batch_id}-{self.ordinal}"

    @classmethod
    def named(cls, text: str) -> EventPlace | None:
        """The place that an address or a cursor names; None where it names none."""
        found = _PLACE.fullmatch(text)
        if found is None or int(found[2]) > ORDINAL_MAX:
            return None
        return cls(int(found[1]), int(found[2]))


_PLACE = re.compile(r"([0-9]{1,18})-([0-9]{1,5})", re.ASCII)


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
    applied_at: datetime | None
    input_limits: tuple[int, ...]  # that its batch is told apart by, in tokens

    @property
    def place(self) -> EventPlace:
        return EventPlace(self.batch_id, self.ordinal)

    @property
    def quarter_hour(self) -> datetime:
        """The start of the quarter-hour that it is summed in."""
        moment = self.occurred_at.astimezone(UTC)
        return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)

    @property
    def input_band(self) -> int:
        return bands.band(self.usage, self.input_limits)

    @property
    def thinking(self) -> bool:
        return self.usage.get("reasoning", 0) > 0

    @property
    def attributes(self) -> tuple[str, ...]:
        return bands.attributes(self.usage)

    def fields(self) -> dict[str, object]:
        """The native event, rebuilt from what is stored; sent again, it is a duplicate."""
        moment = self.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        fields = {
            "id": self.id, "source": self.source, "occurred_at": moment, "project": self.project,
            "model": self.model, "api_key": self.api_key, "agent": self.agent,
            "session": self.session, "region": self.region, "service_class": self.service_class,
            "usage": self.usage,
        }  # fmt: skip
        return {name: value for name, value in fields.items() if value is not None}

    def as_sent(self) -> str:
        """The same as JSON, and the same text each time: fields in the order of the reference,
        registers in the order of rating, the rest by name."""
        return json.dumps(self.fields(), indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class EventSearch:
    """Which events; what is None does not matter."""

    event_id: str | None = None
    source: str | None = None
    model: str | None = None
    project_id: int | None = None
    batch_id: int | None = None
    api_key: str | None = None  # the label on the event, not the key that signed the request
    agent: str | None = None
    session: str | None = None
    start: datetime | None = None  # of occurred_at, half-open
    end: datetime | None = None
    before: EventPlace | None = None  # the cursor: older than this one
    is_taken_back: Literal[True] | None = None  # by a void, an amendment, a backfill's revert


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, newest first, and where to go on; `looked_back_to` where the walk was cut."""

    events: list[FoundEvent]
    next: EventPlace | None
    looked_back_to: datetime | None = None


# Ids are unique per source, so each of the few sources is asked for the id. A void has no usage to
# show: its id leads to the event that it took back.
PLACES = """
    WITH called AS (
        SELECT identity.batch_id, identity.ordinal
        FROM metering_source source
        JOIN metering_identity identity
          ON identity.organization_id = %(organization_id)s AND identity.source_id = source.id
         AND identity.id = metering_packed(%(event_id)s)
        WHERE source.organization_id = %(organization_id)s
          AND (%(source)s::text IS NULL OR source.name = %(source)s)
    )
    SELECT coalesce(void.target_batch_id, called.batch_id),
           coalesce(void.target_ordinal, called.ordinal)
    FROM called
    LEFT JOIN metering_void void
      ON void.organization_id = %(organization_id)s AND void.batch_id = called.batch_id
     AND void.ordinal = called.ordinal AND NOT void.is_amendment
"""
_MATCHES = """batch.organization_id = %(organization_id)s AND batch.accepted > 0
      AND (%(only)s::bigint[] IS NULL OR batch.id = ANY(%(only)s))
      AND (%(at_most)s::bigint IS NULL OR batch.id <= %(at_most)s)
      AND (%(start)s::timestamptz IS NULL OR batch.occurred_last >= %(start)s)
      AND (%(end)s::timestamptz IS NULL OR batch.occurred_first < %(end)s)
      {besides}"""
# Batches of which something was taken back: few, and known without looking into them.
_TAKEN_BACK = """
    SELECT target_batch_id FROM metering_void WHERE organization_id = %(organization_id)s
    UNION SELECT id FROM metering_ingestbatch
    WHERE organization_id = %(organization_id)s AND backfill_id IS NOT NULL
      AND state IN ('reverting', 'reverted')"""
_NEWEST = "ORDER BY batch.id DESC LIMIT %(batches)s"
BATCHES = f"""
    SELECT batch.id, batch.received_at, batch.accepted
    FROM metering_ingestbatch batch
    WHERE {_MATCHES}
    {_NEWEST}
"""  # noqa: S608 - texts of our own
# For each day the batches that begin on it, and the few that began before and reach into the first.
BATCHES_OF_DAYS = f"""
    WITH batch AS (
        SELECT found.* FROM unnest(%(days)s::date[]) AS day CROSS JOIN LATERAL (
            SELECT batch.id, batch.received_at, batch.accepted
            FROM metering_ingestbatch batch
            WHERE (batch.occurred_first AT TIME ZONE 'UTC')::date = day AND {_MATCHES}
            {_NEWEST}) found
        UNION ALL (
            SELECT batch.id, batch.received_at, batch.accepted
            FROM metering_ingestbatch batch
            WHERE (batch.occurred_first AT TIME ZONE 'UTC')::date
                < (batch.occurred_last AT TIME ZONE 'UTC')::date
              AND (batch.occurred_first AT TIME ZONE 'UTC')::date < (%(days)s::date[])[1]
              AND {_MATCHES}
            {_NEWEST}))
    SELECT id, received_at, accepted FROM batch {_NEWEST}
"""  # noqa: S608
EVENTS = """
    SELECT event.batch_id, event.ordinal, event.occurred_at, event.received_at,
           event.project_id, coalesce(project.slug, ''), event.model, event.api_key, event.agent,
           event.session, event.region, event.service_class, event.input, event.cache_read,
           event.cache_write, event.output, event.reasoning, event.other
    FROM metering_event event
    LEFT JOIN accounts_project project ON project.id = event.project_id
    WHERE event.organization_id = %(organization_id)s
      AND event.batch_id = ANY(%(batch_ids)s)
      AND event.received_at BETWEEN %(received_first_at)s AND %(received_last_at)s
      {conditions}
    ORDER BY event.batch_id DESC, event.ordinal DESC
    LIMIT %(limit)s
"""
# A batch's identities lie side by side, and the index knows where; so a batch is read as a whole,
# and only the ids that are wanted are made text.
IDENTITIES = """
    WITH identity AS MATERIALIZED (
        SELECT batch_id, ordinal, source_id, id FROM metering_identity
        WHERE organization_id = %(organization_id)s AND batch_id = ANY(%(batches)s::bigint[])
    )
    SELECT identity.batch_id, identity.ordinal, source.name, metering_unpacked(identity.id),
           batch.state, batch.applied_at, told.limits
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN identity ON identity.batch_id = place.batch_id AND identity.ordinal = place.ordinal
    JOIN metering_source source
      ON source.organization_id = %(organization_id)s AND source.id = identity.source_id
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = identity.batch_id
    JOIN metering_inputlimits told ON told.version = batch.limits_version
"""
_NAMES = ("batch_id", "ordinal", "occurred_at", "received_at", "project_id", "project", "model",
          "api_key", "agent", "session", "region", "service_class")  # fmt: skip
_CONDITIONS = {
    "source": """AND (event.batch_id, event.ordinal) IN (
        SELECT identity.batch_id, identity.ordinal
        FROM metering_identity identity JOIN metering_source source
          ON source.organization_id = %(organization_id)s AND source.id = identity.source_id
        WHERE identity.organization_id = %(organization_id)s
          AND identity.batch_id = ANY(%(batch_ids)s::bigint[]) AND source.name = %(source)s)""",
    "model": "AND event.model = %(model)s",
    "project_id": "AND event.project_id = %(project_id)s",
    "api_key": "AND event.api_key = %(api_key)s",
    "agent": "AND event.agent = %(agent)s",
    "session": "AND event.session = %(session)s",
    "start": "AND event.occurred_at >= %(start)s",
    "end": "AND event.occurred_at < %(end)s",
    "is_taken_back": """AND (EXISTS (
            SELECT FROM metering_void void
            WHERE void.organization_id = %(organization_id)s
              AND void.target_batch_id = event.batch_id AND void.target_ordinal = event.ordinal)
        OR EXISTS (
            SELECT FROM metering_ingestbatch batch
            WHERE batch.organization_id = %(organization_id)s AND batch.id = event.batch_id
              AND batch.state IN ('reverting', 'reverted')))""",
    "before": "AND (event.batch_id, event.ordinal) < (%(before_batch)s, %(before_ordinal)s)",
}
_AT = """AND (event.batch_id, event.ordinal) IN (
    SELECT * FROM unnest(%(place_batches)s::bigint[], %(place_ordinals)s::smallint[]))"""

Parameters = dict[str, Any]


class _Batch(NamedTuple):
    id: int
    received_at: datetime
    accepted: int


def event_page(organization_id: int, search: EventSearch, *, limit: int = 50) -> EventPage:
    """The newest events that match, newest first: by arrival, and within a request by place."""
    limit = min(limit, LIMIT_MAX)
    found: list[FoundEvent] = []
    places = None if search.event_id is None else _places(organization_id, search)
    for batches, is_last in _walk(organization_id, search, places):
        rows = _look(organization_id, search, batches, places, limit=limit + 1 - len(found))
        found += _with_identity(organization_id, rows)
        if len(found) > limit:
            return EventPage(found[:limit], found[limit - 1].place)
        if is_last:
            oldest = batches[-1]
            return EventPage(found, EventPlace(oldest.id, 0), oldest.received_at)
    return EventPage(found, None)


def event_at(
    organization_id: int, place: EventPlace, *, project_id: int | None = None
) -> FoundEvent | None:
    """The event at a place, if there is one (in this project, where one is named)."""
    search = EventSearch(batch_id=place.batch_id, project_id=project_id)
    for batches, _ in _walk(organization_id, search, [place]):
        rows = _look(organization_id, search, batches, [place], limit=1)
        return next(iter(_with_identity(organization_id, rows)), None)
    return None


def _places(organization_id: int, search: EventSearch) -> list[EventPlace]:
    named = {"event_id": search.event_id, "source": search.source}
    rows = _rows(PLACES, {"organization_id": organization_id, **named})
    return [EventPlace._make(row) for row in rows]


def _walk(
    organization_id: int, search: EventSearch, places: Sequence[EventPlace] | None
) -> Iterator[tuple[list[_Batch], bool]]:
    """The batches to look into, from the newest back; the last ones say that the walk is cut."""
    days = _days(search)
    besides = f"AND batch.id IN ({_TAKEN_BACK})" if search.is_taken_back else ""
    statement = (BATCHES_OF_DAYS if days else BATCHES).format(besides=besides)
    parameters: Parameters = {
        "organization_id": organization_id,
        "only": _only(search, places),
        "at_most": search.before and _newest_left(search.before),
        "start": search.start,
        "end": search.end,
        "days": days,
    }
    left = EVENTS_LOOKED_AT_MAX
    sizes = iter(BATCHES_AT_ONCE)
    size = next(sizes)
    while True:
        batches = [_Batch._make(row) for row in _rows(statement, parameters | {"batches": size})]
        looked = _within(batches, left)
        left -= sum(batch.accepted for batch in looked)
        is_end = len(batches) < size and len(looked) == len(batches)
        if looked:
            yield looked, left <= 0 and not is_end
        if is_end or left <= 0:
            return
        parameters["at_most"] = looked[-1].id - 1
        size = next(sizes, size)


def _days(search: EventSearch) -> list[date]:
    """The days of a window, in UTC; none where it is open or too long."""
    if search.start is None or search.end is None or not search.start < search.end:
        return []
    first = search.start.astimezone(UTC).date()
    last = (search.end.astimezone(UTC) - timedelta(microseconds=1)).date()
    count = (last - first).days + 1
    return [first + DAY * number for number in range(count)] if count <= DAYS_MAX else []


def _newest_left(before: EventPlace) -> int:
    """The newest batch with events before a place; nothing comes before the first of a batch."""
    return before.batch_id if before.ordinal else before.batch_id - 1


def _only(search: EventSearch, places: Sequence[EventPlace] | None) -> list[int] | None:
    if places is not None:
        return sorted({place.batch_id for place in places})
    return None if search.batch_id is None else [search.batch_id]


def _within(batches: Sequence[_Batch], events: int) -> list[_Batch]:
    """As many of the batches as hold so many events; always the first."""
    taken = []
    for batch in batches:
        if events <= 0:
            break
        taken.append(batch)
        events -= batch.accepted
    return taken


def _look(
    organization_id: int,
    search: EventSearch,
    batches: Sequence[_Batch],
    places: Sequence[EventPlace] | None,
    *,
    limit: int,
) -> list[tuple[Any, ...]]:
    """The rows of these batches that match, newest first."""
    parameters: Parameters = {
        "organization_id": organization_id,
        "batch_ids": [batch.id for batch in batches],
        "received_first_at": min(batch.received_at for batch in batches),
        "received_last_at": max(batch.received_at for batch in batches),
        "limit": limit,
    }
    conditions = []
    for name, condition in _CONDITIONS.items():
        if (value := getattr(search, name)) is not None:
            parameters[name] = value
            conditions.append(condition)
    if search.before is not None:
        parameters["before_batch"], parameters["before_ordinal"] = search.before
        del parameters["before"]
    if places is not None:
        parameters["place_batches"] = [place.batch_id for place in places]
        parameters["place_ordinals"] = [place.ordinal for place in places]
        conditions.append(_AT)
    return _rows(EVENTS.format(conditions=" ".join(conditions)), parameters)


def _with_identity(organization_id: int, rows: Sequence[tuple[Any, ...]]) -> list[FoundEvent]:
    if not rows:
        return []
    places = {
        "organization_id": organization_id,
        "batches": sorted({row[0] for row in rows}),
        "batch_ids": [row[0] for row in rows],
        "ordinals": [row[1] for row in rows],
    }
    identities = {row[:2]: row[2:] for row in _rows(IDENTITIES, places)}
    return [_event(row, *identities[row[:2]]) for row in rows]


def _event(
    row: tuple[Any, ...],
    source: str,
    event_id: str,
    state: str,
    applied_at: datetime | None,
    limits: Sequence[int],
) -> FoundEvent:
    core = zip(registers.CORE, row[12:17], strict=True)
    other: dict[str, int] = row[17] if isinstance(row[17], dict) else json.loads(row[17] or "{}")
    usage = {name: value for name, value in core if value is not None}
    usage |= {name: other[name] for name in sorted(other)}
    named = dict(zip(_NAMES, row[:12], strict=True))
    return FoundEvent(
        source=source,
        id=event_id,
        batch_state=state,
        applied_at=applied_at,
        input_limits=tuple(limits),
        usage=usage,
        **named,
    )


def _rows(sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
