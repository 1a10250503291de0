"""`/api/v1/ingest/backfills`: opening, closing and reverting backfills, and what is in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import Machine, Refused
from accounts.api_description import BODY as BODY_REFUSALS
from accounts.api_description import refuses
from accounts.problems import Problem
from metering import asked, backfills
from metering.asked import bad, limit_parameter, number_parameter, text_parameter
from metering.backfills import PAGE_MAX, REASON_MAX, BackfillRefused, Counts
from metering.ingest import doorbell
from metering.models import Backfill

PARAMETERS = ("state", "cursor", "limit")
BODY = ("reason", "start", "end")


class EventCountsSerializer(serializers.Serializer[Counts]):
    """What became of what was sent, in events."""

    submitted = serializers.IntegerField()
    accepted = serializers.IntegerField()
    duplicate = serializers.IntegerField()
    conflict = serializers.IntegerField()
    rejected = serializers.IntegerField()
    voided = serializers.IntegerField(help_text="of the accepted ones: taken back one by one")
    applied = serializers.IntegerField(help_text="of the accepted ones: in the readings now")


class BackfillSerializer(serializers.Serializer[Backfill]):
    """A backfill, with what was sent into it."""

    id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Backfill.State.values)
    reason = serializers.CharField()
    start = serializers.DateTimeField(source="starts_at")
    end = serializers.DateTimeField(source="ends_at", help_text="exclusive")
    opened_at = serializers.DateTimeField()
    opened_by = serializers.CharField()
    closed_at = serializers.DateTimeField(allow_null=True)
    reverted_at = serializers.DateTimeField(allow_null=True)
    events = EventCountsSerializer(read_only=True)


class BackfillWholeSerializer(BackfillSerializer):
    """The same, with the sums of its accepted events."""

    usage = serializers.DictField(
        child=serializers.IntegerField(), read_only=True, help_text="register to quantity"
    )


class BackfillsSerializer(serializers.Serializer[dict[str, Any]]):
    """The answer of `GET /api/v1/ingest/backfills`."""

    backfills = BackfillSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


OPEN: dict[str, Any] = {
    "type": "object",
    "description": "What a backfill is for.",
    "required": list(BODY),
    "properties": {
        "reason": {
            "type": "string",
            "minLength": 1,
            "maxLength": REASON_MAX,
            "description": "Stands in the record: visible characters.",
        },
        "start": {
            "type": "string",
            "format": "date-time",
            "description": "Events happened at or after it; at most 366 days ago.",
        },
        "end": {
            "type": "string",
            "format": "date-time",
            "description": "Events happened before it; not in the future.",
        },
    },
    "additionalProperties": False,
}


class BackfillView(APIView):
    """Reading needs the scope `read`, everything else `manage`; neither a key of one project."""

    @property
    def scope(self) -> str:
        """What the request's method needs."""
        return "read" if self.request.method in ("GET", "HEAD") else "manage"

    def machine(self) -> Machine:
        """Who asks; a backfill is the whole organization's."""
        machine = cast("Machine", self.request.user)
        if machine.api_key.project_id is not None:
            raise Refused(
                Problem(
                    "scope_missing",
                    "A backfill is the whole organization's, and this key is for one project. It "
                    "can send events into one, with the scope 'ingest'.",
                )
            )
        return machine

    def handle_exception(self, exc: Exception) -> Response:
        """A refusal of a backfill is a problem document."""
        if isinstance(exc, BackfillRefused):
            exc = Refused(Problem(exc.code, str(exc)))
        return super().handle_exception(exc)


class Backfills(BackfillView):
    """An organization's backfills."""

    @extend_schema(
        operation_id="backfills",
        summary="Backfills, the newest first",
        parameters=[
            text_parameter("state", "only those in this state", enum=Backfill.State.values),
            number_parameter("cursor", "next_cursor of the answer before"),
            limit_parameter(PAGE_MAX),
        ],
        responses={200: BackfillsSerializer},
    )
    def get(self, request: Request) -> Response:
        """Each with what became of its events."""
        organization = self.machine().organization
        given = asked.once(request, PARAMETERS)
        state = given.get("state")
        if state is not None and state not in Backfill.State.values:
            raise bad(f"state can be {', '.join(Backfill.State.values)}.")
        limit = asked.limit(given, PAGE_MAX)
        before = asked.number(given["cursor"], "cursor") if "cursor" in given else None
        rows = backfills.find(organization.pk, state=state, before=before, limit=limit)
        counts = backfills.counts(rows)
        return Response({
            "backfills": [_shown(row, counts[row.organization_id, row.id]) for row in rows],
            "next_cursor": str(rows[-1].id) if len(rows) == limit else None,
        })  # fmt: skip

    @extend_schema(
        operation_id="open_backfill",
        summary="Open a backfill",
        request={"application/json": OPEN},
        responses={201: BackfillWholeSerializer},
        examples=[
            OpenApiExample(
                "a collector was down",
                value={
                    "reason": "collector in Frankfurt was down",
                    "start": "2026-07-01T00:00:00Z",
                    "end": "2026-08-01T00:00:00Z",
                },
                request_only=True,
            )
        ],
        extensions=refuses(*BODY_REFUSALS, "empty_body", "too_many_backfills"),
    )
    def post(self, request: Request) -> Response:
        """Then send events to `POST /api/v1/events?backfill=<id>`."""
        machine = self.machine()
        reason, start, end = _asked(request.data)
        made = backfills.open_backfill(
            machine.organization,
            reason=reason,
            start=start,
            end=end,
            now=timezone.now(),
            key=machine.api_key,
        )
        return Response(_whole(made), status=201)


class OneBackfill(BackfillView):
    """One backfill."""

    @extend_schema(
        operation_id="backfill",
        summary="One backfill, with what is in it",
        responses={200: BackfillWholeSerializer},
        extensions=refuses("not_found", "unknown_backfill"),
    )
    def get(self, request: Request, number: int) -> Response:
        """Counts, sums, and how much of it is in the readings."""
        return Response(_whole(backfills.get(self.machine().organization.pk, number)))


class CloseBackfill(BackfillView):
    """Letting a backfill count."""

    @extend_schema(
        operation_id="close_backfill",
        summary="Close a backfill: everything in it counts",
        request=None,
        responses={200: BackfillWholeSerializer},
        extensions=refuses("not_found", "unknown_backfill", "backfill_not_open"),
    )
    def post(self, request: Request, number: int) -> Response:
        """Safe to repeat."""
        machine = self.machine()
        now = timezone.now()
        if backfills.close(machine.organization, number, now=now, key=machine.api_key):
            doorbell.ring()
        return Response(_whole(backfills.get(machine.organization.pk, number)))


class RevertBackfill(BackfillView):
    """Taking a backfill back."""

    @extend_schema(
        operation_id="revert_backfill",
        summary="Revert a backfill: nothing in it counts, for good",
        request=None,
        responses={200: BackfillWholeSerializer},
        extensions=refuses("not_found", "unknown_backfill"),
    )
    def post(self, request: Request, number: int) -> Response:
        """Open or closed; safe to repeat."""
        machine = self.machine()
        now = timezone.now()
        if backfills.revert(machine.organization, number, now=now, key=machine.api_key):
            doorbell.ring()
        return Response(_whole(backfills.get(machine.organization.pk, number)))


def _whole(backfill: Backfill) -> dict[str, Any]:
    key = backfill.organization_id, backfill.id
    counts = backfills.counts([backfill])[key]
    return {**_shown(backfill, counts), "usage": backfills.usage(*key)}


def _shown(backfill: Backfill, counts: Counts) -> dict[str, Any]:
    return {
        **BackfillSerializer(backfill).data,
        "events": EventCountsSerializer(counts).data,
    }


def _asked(data: object) -> tuple[str, datetime, datetime]:
    """What a backfill is to be for, each field a text and none of them unknown."""
    if not isinstance(data, dict):
        raise bad(f"Send an object with {', '.join(BODY)}.")
    for name in data:
        if name not in BODY:
            raise bad(f"{str(name)[:40]!a} is not known here; {', '.join(BODY)} are.")
    texts = [data.get(name) for name in BODY]
    if not all(type(text) is str for text in texts):  # a number as it was written is a str too
        raise bad(f"{', '.join(BODY)} are needed, each of them a string.")
    reason, start, end = cast("list[str]", texts)
    return reason, asked.instant(start, "start"), asked.instant(end, "end")
