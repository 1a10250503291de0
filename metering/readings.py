"""The one window onto usage: what billing, the portal and the console may know of metering.

A reading is one rating key's quantity in one register for one quarter-hour. Periods are half-open
instants; a reading belongs to the period that its quarter-hour begins in. Days, weeks and months
begin at local midnight of the zone asked for, whatever the clocks do there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import connection

from accounts import prepared
from accounts.models import Project
from metering import limits
from metering import tally_blocks as tally_blocks
from metering.closed import close as close
from metering.closed import open_again as open_again
from metering.found import EventPage as EventPage  # all these for whoever looks events up
from metering.found import EventPlace as EventPlace
from metering.found import EventSearch as EventSearch
from metering.found import FoundEvent as FoundEvent
from metering.found import event_at as event_at
from metering.found import event_page as event_page
from metering.limits import INPUT_LIMITS_MAX as INPUT_LIMITS_MAX
from metering.loads import load_in as load_in
from metering.loads import system_load_in as system_load_in
from metering.quarters import reading_of as reading_of
from metering.quarters import stand_still as stand_still
from metering.reaggregation import needs_telling as needs_telling
from metering.reaggregation import tell_apart as tell_apart
from metering.reaggregation import tells_apart as tells_apart
from metering.taken_back import Corrections as Corrections
from metering.taken_back import voids_of as voids_of
from metering.tallies import Tally as Tally
from metering.tallies import tallies as tallies
from metering.unsettled import Unsettled as Unsettled
from metering.unsettled import anybody_unsettled as anybody_unsettled
from metering.unsettled import unsettled as unsettled
from metering.usage import bands, registers
from metering.used import Slice as Slice
from metering.used import used_by_quarter, used_in

STEPS = ("quarter_hour", "hour", "day", "week", "month", "total")
QUARTER = timedelta(minutes=15)
DIMENSIONS = ("model", "project", "api_key", "agent", "register", "region", "service_class")


Parameters = dict[str, Any]


class SliceUsage(NamedTuple):
    """What was used in a slice, by everything rating asks about."""

    slice: int  # the index of the slice that was asked for
    model: str
    register: str
    region: str
    service_class: str
    input_band: int  # the largest limit that the request's whole input was above, or 0
    thinking: bool  # whether the request reasoned
    attributes: tuple[str, ...]  # such as media_input, in alphabetical order
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


def unit_label(register: str) -> str:
    """What one of a register is: token, image, search, request."""
    return registers.unit(register)


def input_limits() -> tuple[int, ...]:
    """The sizes of a request's whole input at which readings are told apart from now on, in tokens;
    `tell_apart` adds to them."""
    with connection.cursor() as cursor:
        return limits.newest(cursor).limits


def request_attributes() -> tuple[str, ...]:
    """The attributes of requests that readings are told apart by."""
    return tuple(bands.ATTRIBUTES)


def register_unit(register: str) -> str:
    """What a register counts: token, request, search, image."""
    return registers.unit(register)


USAGE_IN = """
    SELECT used.number, key.model, used.register, key.region, key.service_class, key.input_band,
           key.thinking, key.attributes, sum(used.quantity)
    FROM used
    JOIN metering_ratingkey key
      ON key.organization_id = %(organization_id)s AND key.id = used.rating_key_id
    WHERE %(project_id)s::bigint IS NULL OR key.project_id = %(project_id)s
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def usage_in(
    organization_id: int, slices: Sequence[Slice], *, project_id: int | None = None
) -> list[SliceUsage]:
    """What was used in each slice, summed in the database; slices without usage have no rows."""
    if not slices:
        return []
    begun, parameters = used_in(slices)
    asked = {"organization_id": organization_id, "project_id": project_id, **parameters}
    rows = prepared.rows(begun + USAGE_IN, asked)
    return [
        SliceUsage._make((*row[:7], tuple(row[7].split(",")) if row[7] else (), int(row[8])))
        for row in rows
    ]


TOKENS_BY_PROJECT = """
    SELECT key.project_id, sum(used.quantity)
    FROM used
    JOIN metering_ratingkey key
      ON key.organization_id = %(organization_id)s AND key.id = used.rating_key_id
    GROUP BY key.project_id
"""


def tokens_by_project(organization_id: int, start: datetime, end: datetime) -> dict[int, int]:
    """All tokens of a stretch of time, by project; projects without usage are not in it."""
    begun, parameters = used_in([Slice(start, end)], only="reading.register <> ALL(%(not_tokens)s)")
    asked = {
        "organization_id": organization_id,
        "not_tokens": list(registers.NOT_TOKENS),
        **parameters,
    }
    rows = _rows(begun + TOKENS_BY_PROJECT, asked)
    return {project_id: int(tokens) for project_id, tokens in rows}


def tokens_in(
    organization_id: int, start: datetime, end: datetime, *, project_id: int | None = None
) -> int:
    """All tokens of a stretch of time."""
    by_project = tokens_by_project(organization_id, start, end)
    return sum(by_project.values()) if project_id is None else by_project.get(project_id, 0)


_COLUMNS = {
    "model": "key.model",
    "project": "key.project_id",
    "api_key": "key.api_key",
    "agent": "key.agent",
    "register": "used.register",
    "region": "key.region",
    "service_class": "key.service_class",
}


def series(organization_id: int, query: Query, *, rows_max: int | None = None) -> list[Row]:
    """Quantities by local period and group, oldest first; periods without usage have no row.

    Projects are named by their slug, in filters and groups alike. `rows_max` ends the answer early.
    """
    starts = []
    if query.step != "quarter_hour":
        starts = period_starts(query.start, query.end, query.step, query.zone)
    sql, parameters = _series_sql(organization_id, query, starts)
    rows = _rows(sql, {**parameters, "rows_max": rows_max})
    if "project" in query.group_by:
        slugs = _slugs(organization_id)
        place = 3 + query.group_by.index("project")
        rows = [(*row[:place], slugs.get(row[place], ""), *row[place + 1 :]) for row in rows]
    at: Mapping[Any, datetime | None] = dict(enumerate(starts))
    if query.step == "total":
        at = {0: None}
    return [Row(at.get(row[0], row[0]), tuple(row[3:]), int(row[1]), int(row[2])) for row in rows]


def _series_sql(
    organization_id: int, query: Query, starts: Sequence[datetime]
) -> tuple[str, Parameters]:
    """The statement. Only names from the tables above go into its text; values are parameters."""
    groups = [_COLUMNS[name] for name in query.group_by]
    by_register = "register" in query.group_by
    counted = "TRUE" if by_register else "used.register <> ALL(%(not_tokens)s)"
    where, only = [], ["TRUE"]
    parameters: Parameters = {
        "organization_id": organization_id,
        "start": query.start,
        "end": query.end,
        "not_tokens": list(registers.NOT_TOKENS),
        "requests": registers.REQUESTS,
        "rows_max": None,
    }
    for name, values in query.filters.items():
        parameters[f"only_{name}"] = list(values)
        if name == "register":
            counted = "used.register = ANY(%(only_register)s)"
            asked = "reading.register = ANY(%(only_register)s)"
            only.append(asked if by_register else f"({asked} OR reading.register = %(requests)s)")
            continue
        if name == "project":
            parameters["only_project"] = _project_ids(organization_id, values)
        where.append(f"AND {_COLUMNS[name]} = ANY(%(only_{name})s)")
    if where:
        only.append(
            "reading.rating_key_id IN (SELECT key.id FROM metering_ratingkey key"  # noqa: S608
            f" WHERE key.organization_id = %(organization_id)s {' '.join(where)})"
        )
    if query.step == "quarter_hour":
        begun = used_by_quarter(only=" AND ".join(only))
    else:
        cuts = pairwise([query.start, *starts[1:], query.end])
        begun, of_slices = used_in([Slice(*each) for each in cuts], only=" AND ".join(only))
        parameters |= of_slices
    columns = "".join(f", {column}" for column in groups)
    numbers = ", ".join(str(place) for place in (1, *range(4, 4 + len(groups))))
    return (
        f"""
        {begun}
        SELECT used.number, coalesce(sum(used.quantity) FILTER (WHERE {counted}), 0),
               coalesce(sum(used.quantity)
                        FILTER (WHERE used.register = %(requests)s), 0){columns}
        FROM used
        JOIN metering_ratingkey key
          ON key.organization_id = %(organization_id)s AND key.id = used.rating_key_id
        GROUP BY {numbers} ORDER BY {numbers} LIMIT %(rows_max)s
        """,  # noqa: S608
        parameters,
    )


def period_starts(start: datetime, end: datetime, step: str, zone: str) -> list[datetime]:
    """Where the local periods begin that tile a stretch of time; the first may begin before it."""
    if step == "total":
        return [start]
    starts = [_period_start(start, step, zone)]
    while (following := period_end(starts[-1], step, zone)) < end:
        starts.append(following)
    return starts


def _period_start(moment: datetime, step: str, zone: str) -> datetime:
    """The instant at which the local period around a moment begins."""
    if step == "quarter_hour":
        return moment.astimezone(UTC).replace(
            minute=moment.minute // 15 * 15, second=0, microsecond=0
        )
    local = moment.astimezone(ZoneInfo(zone))
    if step == "hour":
        begun = moment.astimezone(UTC) - timedelta(
            minutes=local.minute, seconds=local.second, microseconds=local.microsecond
        )
        while period_end(begun, step, zone) <= moment:  # a clock was set within the hour
            begun = period_end(begun, step, zone)
        return begun
    day = local.date()
    if step == "week":
        day -= timedelta(days=day.weekday())
    if step == "month":
        day = day.replace(day=1)
    return _midnight(day, zone)


def period_end(starts_at: datetime, step: str, zone: str) -> datetime:
    """The instant at which the period that begins there ends, by the clocks of the zone.

    An hour also ends where a clock is set by less than an hour (Lord Howe), so that none overlap.
    """
    if step == "quarter_hour":
        return starts_at.astimezone(UTC) + QUARTER
    local = starts_at.astimezone(ZoneInfo(zone))
    if step == "hour":
        return _hour_end(local)
    day = local.date()
    if step == "month":
        following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        following = day + timedelta(days=7 if step == "week" else 1)
    return _midnight(following, zone)


def _hour_end(local: datetime) -> datetime:
    """The first instant after it at which the clock shows a full hour, or was set otherwise."""
    moment = local.astimezone(UTC)
    end = moment + timedelta(minutes=60 - local.minute)
    if end.astimezone(local.tzinfo).utcoffset() == local.utcoffset():
        return end
    while moment.astimezone(local.tzinfo).utcoffset() == local.utcoffset():
        moment += QUARTER
    return moment


def _midnight(day: date, zone: str) -> datetime:
    """The first instant of a local day: of two midnights the first, as in the billing periods."""
    return datetime.combine(day, time(), tzinfo=ZoneInfo(zone)).astimezone(UTC)


def dimension_values(
    organization_id: int, start: datetime, end: datetime, dimension: str
) -> list[str]:
    """The values a dimension has in a stretch of time, for a filter's menu."""
    query = Query(start, end, step="total", group_by=(dimension,))
    return sorted(row.group[0] for row in series(organization_id, query) if row.group[0])


FRESHNESS = """
    SELECT count(*) FILTER (WHERE state <> 'failed'),
           coalesce(sum(accepted) FILTER (WHERE state <> 'failed'), 0),
           count(*) FILTER (WHERE state = 'failed'),
           floor(extract(epoch FROM clock_timestamp() - min(coalesce(released_at, received_at))
                                                        FILTER (WHERE state <> 'failed'))),
           (SELECT coalesce(sum(cardinality(ordinals)), 0)
            FROM (SELECT ordinals FROM metering_segment_overflow LIMIT 1000) AS overflow)
    FROM metering_ingestbatch
    WHERE state IN ('pending', 'failed', 'reverting')
      AND (%(organization_id)s::bigint IS NULL OR organization_id = %(organization_id)s)
"""


def freshness(organization_id: int | None = None) -> Freshness:
    """How far the readings are behind, for one organization or for all of them."""
    ((batches, events, failed, oldest_s, overflow),) = _rows(
        FRESHNESS, {"organization_id": organization_id}
    )
    oldest = None if oldest_s is None else max(0, int(oldest_s))
    return Freshness(batches, int(events), failed, oldest, overflow)


class NotApplied(NamedTuple):
    """Batches that are stored and not in the readings: those to come, and those that failed."""

    pending: int
    failed: int


NOT_APPLIED = """
    SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'failed')
    FROM metering_ingestbatch
    WHERE state <> 'applied' AND organization_id = %(organization_id)s
      AND received_at < %(received_before)s
"""


def batches_not_applied(organization_id: int, *, received_before: datetime) -> NotApplied:
    """How many of an organization's batches of before an instant are not in the readings."""
    parameters = {"organization_id": organization_id, "received_before": received_before}
    (row,) = prepared.rows(NOT_APPLIED, parameters)
    return NotApplied(*row)


CHANGED_SINCE = """
    SELECT least(
        (SELECT min(reaches_back_to) FROM metering_void
         WHERE organization_id = %(organization_id)s AND received_at > %(moment)s),
        (SELECT min(starts_at) FROM metering_backfill
         WHERE organization_id = %(organization_id)s AND closed_at IS NOT NULL
           AND greatest(closed_at, reverted_at) > %(moment)s),
        (SELECT min(reaches_back_to) FROM metering_reach
         WHERE organization_id = %(organization_id)s AND noted_at > %(moment)s))
"""


def changed_since(organization_id: int, moment: datetime) -> datetime | None:
    """How far back corrections, backfills and replays that came after a moment may have reached.

    None: no further than events may be late. What was only ever held is in no reading.
    """
    parameters = {"organization_id": organization_id, "moment": moment}
    ((reach,),) = prepared.rows(CHANGED_SINCE, parameters)
    return reach if reach is None else reach.astimezone(UTC)


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


def find_events(organization_id: int, *, limit: int = 50, **wanted: Any) -> list[FoundEvent]:
    """The newest stored events that match, newest first; `wanted` are the fields of EventSearch."""
    return event_page(organization_id, EventSearch(**wanted), limit=limit).events


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
