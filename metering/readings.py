"""The one window onto usage: what billing, the portal and the console may know of metering.

A reading is one rating key's quantity in one register for one quarter-hour. Periods are half-open
instants; a reading belongs to the period that its quarter-hour begins in. Days, weeks and months
begin at local midnight of the zone asked for, whatever the clocks do there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import connection

from accounts.models import Project
from metering.found import FoundEvent, Search, find
from metering.usage import registers

STEPS = ("quarter_hour", "hour", "day", "week", "month", "total")
DIMENSIONS = ("model", "project", "api_key", "agent", "register", "region", "service_class")


class Slice(NamedTuple):
    """A half-open stretch of time, as UTC instants."""

    start: datetime
    end: datetime


class SliceUsage(NamedTuple):
    """What was used in a slice, by everything rating asks about."""

    slice: int  # the index of the slice that was asked for
    model: str
    register: str
    region: str
    service_class: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Query:
    """A question about a stretch of time: how finely, in which zone, by what, of what."""

    start: datetime
    end: datetime
    step: str = "day"
    zone: str = "UTC"
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise ValueError(f"{self.step} is not a step; steps are {', '.join(STEPS)}")
        for dimension in (*self.group_by, *self.filters):
            if dimension not in DIMENSIONS:
                raise ValueError(f"{dimension} is not one of {', '.join(DIMENSIONS)}")


class Row(NamedTuple):
    """One local period and group. `quantity` counts tokens, except where a register is asked for.

    Split by register, each register has a row of its own, `requests` too, and the row's quantity is
    in that register's unit.
    """

    starts_at: datetime | None  # the instant the local period begins; None for step `total`
    group: tuple[str, ...]
    quantity: int
    requests: int


class Freshness(NamedTuple):
    """How far the readings are behind the events, and what needs a person."""

    pending_batches: int
    pending_events: int
    failed_batches: int
    oldest_pending_s: int | None
    overflow_events: int


def is_token(register: str) -> bool:
    """Whether a register counts tokens."""
    return registers.is_token(register)


def register_label(register: str) -> str:
    """A register's name for people."""
    return registers.label(register)


def register_unit(register: str) -> str:
    """What a register counts: token, request, search, image."""
    return registers.unit(register)


USAGE_IN = """
    SELECT slice.number - 1, key.model, reading.register, key.region, key.service_class,
           sum(reading.quantity)
    FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[])
         WITH ORDINALITY AS slice (starts_at, ends_at, number)
    JOIN metering_reading reading
      ON reading.organization_id = %(organization_id)s
     AND reading.starts_at >= slice.starts_at AND reading.starts_at < slice.ends_at
    JOIN metering_ratingkey key
      ON key.organization_id = reading.organization_id AND key.id = reading.rating_key_id
    WHERE %(project_id)s::bigint IS NULL OR key.project_id = %(project_id)s
    GROUP BY slice.number, key.model, reading.register, key.region, key.service_class
    ORDER BY 1, 2, 3, 4, 5
"""


def usage_in(
    organization_id: int, slices: Sequence[Slice], *, project_id: int | None = None
) -> list[SliceUsage]:
    """What was used in each slice, summed in the database; slices without usage have no rows."""
    if not slices:
        return []
    rows = _rows(
        USAGE_IN,
        {
            "organization_id": organization_id,
            "starts": [one.start for one in slices],
            "ends": [one.end for one in slices],
            "project_id": project_id,
        },
    )
    return [SliceUsage._make((*row[:5], int(row[5]))) for row in rows]


TOKENS_IN = """
    SELECT coalesce(sum(reading.quantity), 0)
    FROM metering_reading reading
    WHERE reading.organization_id = %(organization_id)s
      AND reading.starts_at >= %(start)s AND reading.starts_at < %(end)s
      AND reading.register <> ALL(%(not_tokens)s)
      AND (%(project_id)s::bigint IS NULL OR reading.rating_key_id IN (
            SELECT id FROM metering_ratingkey
            WHERE organization_id = %(organization_id)s AND project_id = %(project_id)s))
"""


def tokens_in(
    organization_id: int, start: datetime, end: datetime, *, project_id: int | None = None
) -> int:
    """All tokens of a stretch of time."""
    ((tokens,),) = _rows(
        TOKENS_IN,
        {
            "organization_id": organization_id,
            "start": start,
            "end": end,
            "project_id": project_id,
            "not_tokens": list(registers.NOT_TOKENS),
        },
    )
    return int(tokens)


_COLUMNS = {
    "model": "key.model",
    "project": "key.project_id",
    "api_key": "key.api_key",
    "agent": "key.agent",
    "register": "reading.register",
    "region": "key.region",
    "service_class": "key.service_class",
}
_PERIODS = {
    "total": "NULL::timestamptz",
    "quarter_hour": "reading.starts_at",
    "hour": "date_trunc('hour', reading.starts_at, %(zone)s)",
    "day": "date_trunc('day', reading.starts_at, %(zone)s)",
    "week": "date_trunc('week', reading.starts_at, %(zone)s)",
    "month": "date_trunc('month', reading.starts_at, %(zone)s)",
}


def series(organization_id: int, query: Query) -> list[Row]:
    """Quantities by local period and group, oldest first; periods without usage have no row.

    Projects are named by their slug, in filters and groups alike.
    """
    sql, parameters = _series_sql(organization_id, query)
    rows = _rows(sql, parameters)
    if "project" not in query.group_by:
        return [Row(row[0], tuple(row[3:]), int(row[1]), int(row[2])) for row in rows]
    slugs = _slugs(organization_id)
    place = 3 + query.group_by.index("project")
    named = [(*row[:place], slugs.get(row[place], ""), *row[place + 1 :]) for row in rows]
    return [Row(row[0], tuple(row[3:]), int(row[1]), int(row[2])) for row in named]


def _series_sql(organization_id: int, query: Query) -> tuple[str, dict[str, Any]]:
    """The statement. Only names from the tables above go into its text; values are parameters."""
    groups = [_COLUMNS[name] for name in query.group_by]
    by_register = "register" in query.group_by
    counted = "TRUE" if by_register else "reading.register <> ALL(%(not_tokens)s)"
    where = []
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "start": query.start,
        "end": query.end,
        "zone": query.zone,
        "not_tokens": list(registers.NOT_TOKENS),
        "requests": registers.REQUESTS,
    }
    for name, values in query.filters.items():
        parameters[f"only_{name}"] = list(values)
        if name == "register":
            counted = "reading.register = ANY(%(only_register)s)"
            continue
        if name == "project":
            parameters["only_project"] = _project_ids(organization_id, values)
        where.append(f"AND {_COLUMNS[name]} = ANY(%(only_{name})s)")
    if by_register and "register" in query.filters:
        where.append(f"AND {counted}")
    columns = "".join(f", {column}" for column in groups)
    numbers = ", ".join(str(place) for place in (1, *range(4, 4 + len(groups))))
    return (
        f"""
        SELECT {_PERIODS[query.step]} AS period,
               coalesce(sum(reading.quantity) FILTER (WHERE {counted}), 0),
               coalesce(sum(reading.quantity)
                        FILTER (WHERE reading.register = %(requests)s), 0){columns}
        FROM metering_reading reading
        JOIN metering_ratingkey key
          ON key.organization_id = reading.organization_id AND key.id = reading.rating_key_id
        WHERE reading.organization_id = %(organization_id)s
          AND reading.starts_at >= %(start)s AND reading.starts_at < %(end)s
          {" ".join(where)}
        GROUP BY {numbers} ORDER BY {numbers}
        """,  # noqa: S608
        parameters,
    )


def period_end(starts_at: datetime, step: str, zone: str) -> datetime:
    """The instant at which the period that begins there ends, by the clocks of the zone."""
    if step in ("quarter_hour", "hour"):
        return starts_at.astimezone(UTC) + timedelta(minutes=15 if step == "quarter_hour" else 60)
    local = starts_at.astimezone(ZoneInfo(zone)).date()
    if step == "month":
        following = (local.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        following = local + timedelta(days=7 if step == "week" else 1)
    return datetime.combine(following, time(), tzinfo=ZoneInfo(zone)).astimezone(UTC)


def dimension_values(
    organization_id: int, start: datetime, end: datetime, dimension: str
) -> list[str]:
    """The values a dimension has in a stretch of time, for a filter's menu."""
    query = Query(start, end, step="total", group_by=(dimension,))
    return sorted(row.group[0] for row in series(organization_id, query) if row.group[0])


FRESHNESS = """
    SELECT count(*) FILTER (WHERE state = 'pending'),
           coalesce(sum(accepted) FILTER (WHERE state = 'pending'), 0),
           count(*) FILTER (WHERE state = 'failed'),
           floor(extract(epoch FROM clock_timestamp()
                         - min(received_at) FILTER (WHERE state = 'pending'))),
           (SELECT count(*) FROM (SELECT FROM metering_event_overflow LIMIT 100000) AS overflow)
    FROM metering_ingestbatch
    WHERE state <> 'applied'
      AND (%(organization_id)s::bigint IS NULL OR organization_id = %(organization_id)s)
"""


def freshness(organization_id: int | None = None) -> Freshness:
    """How far the readings are behind, for one organization or for all of them."""
    ((batches, events, failed, oldest_s, overflow),) = _rows(
        FRESHNESS, {"organization_id": organization_id}
    )
    oldest = None if oldest_s is None else max(0, int(oldest_s))
    return Freshness(batches, int(events), failed, oldest, overflow)


def _rows(sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _slugs(organization_id: int) -> dict[int, str]:
    return dict(_projects(organization_id).values_list("id", "slug"))


def _project_ids(organization_id: int, slugs: Sequence[str]) -> list[int]:
    return list(_projects(organization_id).filter(slug__in=slugs).values_list("id", flat=True))


def _projects(organization_id: int) -> Any:
    return Project.objects.filter(organization_id=organization_id)


def find_events(
    organization_id: int,
    *,
    event_id: str | None = None,
    source: str | None = None,
    model: str | None = None,
    project_id: int | None = None,
    batch_id: int | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 50,
) -> list[FoundEvent]:
    """The newest stored events that match, newest first; `start` and `end` bound occurred_at."""
    search = Search(event_id, source, model, project_id, batch_id, start, end)
    return find(organization_id, search, limit=limit)


EVENT_COUNT = """
    SELECT coalesce(sum(reading.quantity), 0)
    FROM metering_reading reading
    WHERE reading.organization_id = %(organization_id)s AND reading.register = %(requests)s
      AND (%(start)s::timestamptz IS NULL OR reading.starts_at >= %(start)s)
      AND (%(end)s::timestamptz IS NULL OR reading.starts_at < %(end)s)
      AND (%(project_id)s::bigint IS NULL OR reading.rating_key_id IN (
            SELECT id FROM metering_ratingkey
            WHERE organization_id = %(organization_id)s AND project_id = %(project_id)s))
"""


def event_count(
    organization_id: int,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    project_id: int | None = None,
) -> int:
    """How many events are in the readings."""
    ((count,),) = _rows(
        EVENT_COUNT,
        {
            "organization_id": organization_id,
            "requests": registers.REQUESTS,
            "start": start,
            "end": end,
            "project_id": project_id,
        },
    )
    return int(count)
