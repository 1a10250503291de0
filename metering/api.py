"""`GET /api/v1/usage`: what was used, by local period and group."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import organizations
from accounts.api_auth import Machine
from accounts.models import Organization, Project
from metering import asked, readings
from metering.asked import bad, listed_parameter, text_parameter
from metering.readings import DIMENSIONS, STEPS, Query, Row
from metering.usage.event import TIME

SPANS_MAX = {  # what a step may cover: at most some thousands of periods
    "quarter_hour": timedelta(days=32),
    "hour": timedelta(days=93),
    "day": timedelta(days=1098),
    "week": timedelta(days=3660),
    "month": timedelta(days=3660),
    "total": timedelta(days=3660),
}
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
ROWS_MAX = 50_000
FILTERS = tuple(name for name in DIMENSIONS)
PARAMETERS = ("start", "end", "step", "zone", "group_by", *FILTERS)


class PointSerializer(serializers.Serializer[dict[str, Any]]):
    """One local period and group."""

    starts_at = serializers.DateTimeField(allow_null=True, help_text="UTC; null for step total")
    ends_at = serializers.DateTimeField(allow_null=True)
    period = serializers.CharField(help_text="its name in the zone, such as 2026-03-29")
    group = serializers.DictField(child=serializers.CharField())
    quantity = serializers.IntegerField(help_text="tokens; by register: that register's unit")
    requests = serializers.IntegerField()


class TotalsSerializer(serializers.Serializer[dict[str, Any]]):
    """Sums over the whole answer."""

    tokens = serializers.IntegerField()
    requests = serializers.IntegerField()


class FreshnessSerializer(serializers.Serializer[dict[str, Any]]):
    """How far the readings are behind what was acknowledged."""

    pending_events = serializers.IntegerField()
    oldest_pending_s = serializers.IntegerField(allow_null=True)


class UsageSerializer(serializers.Serializer[dict[str, Any]]):
    """The answer of `GET /api/v1/usage`."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    zone = serializers.CharField()
    step = serializers.ChoiceField(choices=STEPS)
    group_by = serializers.ListField(child=serializers.CharField())
    totals = TotalsSerializer()
    series = PointSerializer(many=True)
    freshness = FreshnessSerializer()


def _edge(name: str, description: str, example: str) -> OpenApiParameter:
    schema = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}
    examples = [OpenApiExample("a local date", value=example)]
    return asked.parameter(name, schema, description, required=True, examples=examples)


class Usage(APIView):
    """What an organization used."""

    scope = "read"

    @extend_schema(
        operation_id="usage",
        summary="Usage by local period and group",
        parameters=[
            _edge("start", "a local date, or an RFC 3339 instant with offset", "2026-11-01"),
            _edge("end", "exclusive; a local date, or an instant with offset", "2026-12-01"),
            text_parameter("step", "length of a period", enum=list(STEPS), default="day"),
            text_parameter("zone", "IANA time zone; the organization's unless given"),
            listed_parameter("group_by", "a row for each of these", enum=list(DIMENSIONS)),
            *(listed_parameter(name, f"only this {name}, or these") for name in FILTERS),
        ],
        responses={200: UsageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Totals and a series; periods without usage are not in it."""
        machine = cast("Machine", request.user)
        organization = machine.organization
        query = query_of(request, organization, machine.api_key.project)
        rows = readings.series(organization.pk, query, rows_max=ROWS_MAX + 1)
        if len(rows) > ROWS_MAX:
            raise bad(f"The answer has more than {ROWS_MAX} rows. Ask for less time, longer "
                      "periods or fewer groups.")  # fmt: skip
        fresh = readings.freshness(organization.pk)
        return Response({
            "start": query.start,
            "end": query.end,
            "zone": query.zone,
            "step": query.step,
            "group_by": list(query.group_by),
            "totals": totals(organization.pk, query),
            "series": [point(row, query) for row in rows],
            "freshness": {
                "pending_events": fresh.pending_events,
                "oldest_pending_s": fresh.oldest_pending_s,
            },
        })  # fmt: skip


def totals(organization_id: int, query: Query) -> dict[str, int]:
    """Tokens and requests of the whole stretch, whatever it is split by."""
    whole = Query(query.start, query.end, "total", query.zone, (), query.filters)
    row = next(iter(readings.series(organization_id, whole)), Row(None, (), 0, 0))
    return {"tokens": row.quantity, "requests": row.requests}


def point(row: Row, query: Query) -> dict[str, Any]:
    """A row as the reader sees it: with its local name and its UTC bounds."""
    group = dict(zip(query.group_by, row.group, strict=True))
    shown = {"group": group, "quantity": row.quantity, "requests": row.requests}
    if row.starts_at is None:
        return {"starts_at": query.start, "ends_at": query.end, "period": "total", **shown}
    local = row.starts_at.astimezone(ZoneInfo(query.zone))
    return {
        "starts_at": row.starts_at.astimezone(UTC),
        "ends_at": readings.period_end(row.starts_at, query.step, query.zone),
        "period": label(local, query.step),
        **shown,
    }


def label(local: datetime, step: str) -> str:
    """What a period is called where it is counted."""
    match step:
        case "month":
            return f"{local:%Y-%m}"
        case "week":
            return f"{local:%G-W%V}"
        case "day":
            return f"{local:%Y-%m-%d}"
    return local.isoformat(timespec="minutes")


def query_of(
    request: Request, organization: Organization, own_project: Project | None = None
) -> Query:
    """The question in the request's parameters, each known, each given once.

    A key made for one project reads that project alone.
    """
    given = asked.once(request, PARAMETERS)
    zone = given.get("zone", organization.zone)
    if zone not in organizations.zones():
        raise bad(f"zone {zone[:40]!a} is not an IANA time zone, such as Europe/Berlin.")
    step = given.get("step", "day")
    if step not in STEPS:
        raise bad(f"step {step[:40]!a} is not one of {', '.join(STEPS)}.")
    start, end = (_instant(name, given.get(name), zone) for name in ("start", "end"))
    if not start < end:
        raise bad("end must lie after start; it is not part of the answer.")
    if end - start > SPANS_MAX[step]:
        raise bad(f"With step {step} at most {SPANS_MAX[step].days} days can be asked for.")
    filters = {name: _listed(given[name]) for name in FILTERS if name in given}
    if own_project is not None:
        if not {own_project.slug}.issuperset(filters.get("project", ())):
            raise bad(f"This key reads the project {own_project.slug!r} alone.")
        filters["project"] = (own_project.slug,)
    return Query(start, end, step, zone, _groups(given.get("group_by", "")), filters)


def _groups(text: str) -> tuple[str, ...]:
    names = _listed(text)
    for name in names:
        if name not in DIMENSIONS:
            raise bad(f"group_by {name[:40]!a} is not one of {', '.join(DIMENSIONS)}.")
    if len(set(names)) != len(names):
        raise bad("group_by names a dimension twice.")
    return names


def _listed(text: str) -> tuple[str, ...]:
    if "\0" in text:
        raise bad("A parameter holds a NUL character.")
    return tuple(part for part in text.split(",") if part)


def _instant(name: str, text: str | None, zone: str) -> datetime:
    """An RFC 3339 instant as it is, or a local date's midnight in the zone."""
    if text is None:
        raise bad(f"{name} is missing: an instant such as 2026-11-01T00:00:00Z, or a local date.")
    try:
        if TIME.fullmatch(text):
            return _within_reach(datetime.fromisoformat(text).astimezone(UTC))
        if DATE.fullmatch(text):
            midnight = datetime.combine(date.fromisoformat(text), time(), tzinfo=ZoneInfo(zone))
            return _within_reach(midnight.astimezone(UTC))
    except (ValueError, OverflowError):
        pass
    raise bad(f"{name} {text[:40]!a} is neither an RFC 3339 instant with offset nor a date.")


def _within_reach(instant: datetime) -> datetime:
    if not 1970 <= instant.year <= 2200:
        raise ValueError("out of reach")
    return instant
