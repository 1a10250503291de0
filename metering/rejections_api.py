"""`/api/v1/ingest/rejections`: what was not taken, and sending it again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import Machine
from accounts.api_description import BODY as BODY_REFUSALS
from accounts.api_description import refuses
from accounts.problems import KINDS
from metering import asked, rejections
from metering.asked import bad, instant_parameter, limit_parameter, number_parameter, text_parameter
from metering.models import Rejection
from metering.rejections import REPLAYED_MAX, Which

PARAMETERS = ("code", "start", "end", "cursor", "limit")
BODY = ("ids", "code", "start", "end")


class RejectionSerializer(serializers.Serializer[Rejection]):
    """One event that was not taken."""

    id = serializers.IntegerField()
    received_at = serializers.DateTimeField(help_text="the last time")
    seen = serializers.IntegerField(help_text="how often it was sent")
    batch_id = serializers.IntegerField(help_text="the last one")
    code = serializers.CharField()
    pointer = serializers.CharField(help_text="into raw")
    detail = serializers.CharField()
    event_id = serializers.CharField(allow_null=True)
    form = serializers.CharField(help_text="native or cloudevent")
    raw = serializers.CharField(help_text="the event as it was sent, at most 8 KiB")
    masked = serializers.BooleanField(help_text="something was left out: it cannot be replayed")


class RejectionsSerializer(serializers.Serializer[dict[str, Any]]):
    """The answer of `GET /api/v1/ingest/rejections`."""

    counts = serializers.DictField(child=serializers.IntegerField())
    rejections = RejectionSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)
    left_out_today = serializers.IntegerField(
        allow_null=True,
        help_text="rejected today (UTC) and not kept, because the day had no more room for it; "
        "counted for the organization as a whole, so null for a key of one project",
    )


REPLAY: dict[str, Any] = {
    "type": "object",
    "description": "Which to send again: by id, or by code and window. One condition at least.",
    "minProperties": 1,
    "properties": {
        "ids": {
            "type": "array",
            "minItems": 1,
            "maxItems": REPLAYED_MAX,
            "items": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
        },
        "code": {"enum": sorted(KINDS)},
        "start": {"type": "string", "format": "date-time", "description": "received at or after"},
        "end": {"type": "string", "format": "date-time", "description": "received before"},
    },
    "additionalProperties": False,
}


class ReplayedSerializer(serializers.Serializer[rejections.Replayed]):
    """The answer of `POST /api/v1/ingest/rejections/replay`."""

    taken = serializers.IntegerField(help_text="accepted, or stored before")
    rejected = serializers.IntegerField(help_text="still not taken; they stay")
    left = serializers.IntegerField(help_text="masked; they cannot be sent again")
    codes = serializers.DictField(child=serializers.IntegerField())


class Rejections(APIView):
    """What an organization sent and was not taken."""

    scope = "read"

    @extend_schema(
        operation_id="rejections",
        summary="Events that were not taken",
        parameters=[
            text_parameter("code", "only this code", enum=sorted(KINDS)),
            instant_parameter("start", "received at or after it"),
            instant_parameter("end", "received before it"),
            number_parameter("cursor", "next_cursor of the answer before"),
            limit_parameter(rejections.PAGE_MAX),
        ],
        responses={200: RejectionsSerializer},
    )
    def get(self, request: Request) -> Response:
        """The newest first."""
        machine = cast("Machine", request.user)
        organization_id = machine.organization.pk
        given = asked.once(request, PARAMETERS)
        limit = asked.limit(given, rejections.PAGE_MAX)
        window = replace(_window(given), own_project_id=machine.api_key.project_id)
        cursor = asked.number(given["cursor"], "cursor") if "cursor" in given else None
        rows = rejections.find(organization_id, replace(window, before=cursor), limit=limit)
        return Response({
            "counts": rejections.counts(organization_id, window),
            "rejections": [RejectionSerializer(row).data for row in rows],
            "next_cursor": str(rows[-1].id) if len(rows) == limit else None,
            "left_out_today": _left_out_today(machine),
        })  # fmt: skip


def _left_out_today(machine: Machine) -> int | None:
    """Of the whole organization: no key of one project is told what other projects sent."""
    if machine.api_key.project_id is not None:
        return None
    return rejections.today(machine.organization.pk, timezone.now()).left_out


class Replay(APIView):
    """Sending what was not taken once more."""

    scope = "ingest"

    @extend_schema(
        operation_id="replay_rejections",
        summary="Send rejected events again, with the same ids",
        request={"application/json": REPLAY},
        responses={200: ReplayedSerializer},
        examples=[
            OpenApiExample(
                "what named no project", value={"code": "unknown_project"}, request_only=True
            )
        ],
        extensions=refuses(*BODY_REFUSALS, "empty_body"),
    )
    def post(self, request: Request) -> Response:
        """At most a thousand at a time, the oldest first; safe to repeat."""
        machine = cast("Machine", request.user)
        chosen = replace(_chosen(request.data), own_project_id=machine.api_key.project_id)
        done = rejections.replay(
            machine.organization.pk,
            chosen,
            now=timezone.now(),
            api_key_id=machine.api_key.pk,
        )
        return Response(ReplayedSerializer(done).data)


def _chosen(data: object) -> Which:
    """Which to send again; at least one condition, so that nothing is replayed by mistake."""
    if not isinstance(data, dict) or not data:
        raise bad(f"Send an object with one or more of {', '.join(BODY)}.")
    for name in data:
        if name not in BODY:
            raise bad(f"{str(name)[:40]!a} is not known here; {', '.join(BODY)} are.")
    ids = data.get("ids")
    if ids is not None and not (
        isinstance(ids, list)
        and 0 < len(ids) <= REPLAYED_MAX
        and all(type(one) is int and 0 < one < 2**63 for one in ids)
    ):
        raise bad(f"ids must be 1 to {REPLAYED_MAX} ids of rejections.")
    texts = {name: data[name] for name in BODY if name != "ids" and name in data}
    if not all(type(text) is str for text in texts.values()):  # a number written so is one too
        raise bad("code, start and end are strings.")
    window = _window(texts)
    return Which(window.code, window.start, window.end, ids=ids)


def _window(given: dict[str, str]) -> Which:
    code = given.get("code")
    if code is not None and code not in KINDS:
        raise bad(f"code {code[:40]!a} is none; they are listed under /errors/.")
    return Which(code, _instant(given, "start"), _instant(given, "end"))


def _instant(given: dict[str, str], name: str) -> datetime | None:
    return asked.instant(given[name], name) if name in given else None
