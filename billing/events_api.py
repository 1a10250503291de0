"""`/api/v1/usage/events`: stored events, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api_auth import Machine, Refused
from accounts.api_description import refuses
from accounts.problems import Problem
from billing import searching, trail
from billing.fates import Fate, Reason, Verdict
from billing.trail import Part, RegisterTrail, Trail
from metering import asked, readings
from metering.asked import instant_parameter, limit_parameter, number_parameter, text_parameter
from metering.readings import EventPlace, EventSearch, FoundEvent

PAGE_MAX = 100
NAMES = ("id", "source", "model", "project", "api_key", "agent", "session")
PARAMETERS = (*NAMES, "fate", "batch_id", "start", "end", "cursor", "limit")


class EventSerializer(serializers.Serializer[dict[str, Any]]):
    """One stored event and its fate."""

    place = serializers.CharField(help_text="its address: the batch, and the place in the request")
    event = serializers.DictField(help_text="the native event, rebuilt from what is stored")
    received_at = serializers.DateTimeField()
    applied_at = serializers.DateTimeField(
        allow_null=True, help_text="when its batch was added to the readings"
    )
    fate = serializers.ChoiceField(choices=list(Fate))
    reason = serializers.ChoiceField(choices=list(Reason))
    detail = serializers.CharField(help_text="the reason in a sentence")


class EventsSerializer(serializers.Serializer[dict[str, Any]]):
    """The answer of `GET /api/v1/usage/events`."""

    events = EventSerializer(many=True)
    next_cursor = serializers.CharField(allow_null=True)
    looked_back_to = serializers.DateTimeField(
        allow_null=True, help_text="where the search was cut short; the cursor goes on from there"
    )


class PartSerializer(serializers.Serializer[dict[str, Any]]):
    """A part of the sum that the register belongs to, and the line it went onto."""

    fate = serializers.ChoiceField(choices=list(Fate))
    version = serializers.CharField(help_text="the tariff version")
    component = serializers.CharField()
    bucket = serializers.CharField()
    step = serializers.IntegerField()
    unit_price = serializers.CharField()
    per = serializers.IntegerField()
    quantity = serializers.IntegerField(
        allow_null=True, help_text="of the sum; null for a key that reads one project alone"
    )
    lines = serializers.ListField(
        child=serializers.DictField(), help_text="invoice and position of each issued line"
    )


class RegisterSerializer(serializers.Serializer[dict[str, Any]]):
    """One register of the event, from its quantity to the lines."""

    register = serializers.CharField()
    quantity = serializers.IntegerField()
    reading = serializers.IntegerField(
        allow_null=True, help_text="of all requests of its kind in the quarter-hour"
    )
    fate = serializers.ChoiceField(choices=list(Fate), allow_null=True)
    amount = serializers.CharField(
        allow_null=True, help_text="what it comes to, before a line is rounded"
    )
    amount_is_exact = serializers.BooleanField(help_text="or else the average of the sum")
    parts = PartSerializer(many=True)


class TrailSerializer(EventSerializer):
    """The answer of `GET /api/v1/usage/events/{batch}-{ordinal}`."""

    quarter_hour = serializers.DateTimeField(help_text="when its reading begins")
    period_start = serializers.DateTimeField(allow_null=True, help_text="of its billing period")
    period_end = serializers.DateTimeField(allow_null=True)
    currency = serializers.CharField(allow_null=True)
    registers = RegisterSerializer(many=True)
    taken_back_by = serializers.CharField(
        allow_null=True,
        help_text="the id of the void or amendment; null for a key that does not read its project",
    )
    amends = serializers.CharField(allow_null=True, help_text="the id of the event it replaces")


class Events(APIView):
    """What an organization reported, event by event."""

    scope = "read"

    @extend_schema(
        operation_id="events",
        summary="Stored events, newest first, each with its fate",
        parameters=[
            *(text_parameter(name, f"only this {name.replace('_', ' ')}") for name in NAMES),
            text_parameter("fate", "only events that met this fate", enum=list(Fate)),
            number_parameter("batch_id", "only those of this batch"),
            instant_parameter("start", "happened at or after it"),
            instant_parameter("end", "happened before it"),
            text_parameter(
                "cursor", "next_cursor of the answer before", pattern="^[0-9]{1,18}-[0-9]{1,18}$"
            ),
            limit_parameter(PAGE_MAX),
        ],
        responses={200: EventsSerializer},
    )
    def get(self, request: Request) -> Response:
        """A page of them; a search looks at so many events at most, and says how far it came."""
        machine = cast("Machine", request.user)
        given = asked.once(request, PARAMETERS)
        search = _search(given, machine)
        page = searching.event_page(
            machine.organization, search, _fate(given.get("fate")), timezone.now(),
            limit=asked.limit(given, PAGE_MAX),
        )  # fmt: skip
        return Response({
            "events": [_event(event, verdict) for event, verdict in page.events],
            "next_cursor": str(page.next) if page.next else None,
            "looked_back_to": page.looked_back_to,
        })  # fmt: skip


class OneEvent(APIView):
    """One event, followed to its invoice line."""

    scope = "read"

    @extend_schema(
        operation_id="event",
        summary="One event: its reading, its rated lines, its invoice lines, its corrections",
        responses={200: TrailSerializer},
        extensions=refuses("not_found"),
    )
    def get(self, request: Request, batch_id: int, ordinal: int) -> Response:
        """As far as it has come."""
        machine = cast("Machine", request.user)
        place = EventPlace.named(f"{batch_id}-{ordinal}")
        event = place and readings.event_at(
            machine.organization.pk, place, project_id=machine.api_key.project_id
        )
        if event is None:
            raise Refused(Problem("not_found", "No stored event has this place."))
        followed = trail.follow(machine.organization, event, timezone.now())
        return Response(_trail(followed, machine))


def _search(given: dict[str, str], machine: Machine) -> EventSearch:
    if any("\0" in value for value in given.values()):
        raise asked.bad("A parameter holds a NUL character.")
    return EventSearch(
        event_id=given.get("id"),
        source=given.get("source"),
        model=given.get("model"),
        project_id=_project_id(given.get("project"), machine),
        batch_id=asked.number(given["batch_id"], "batch_id") if "batch_id" in given else None,
        api_key=given.get("api_key"),
        agent=given.get("agent"),
        session=given.get("session"),
        start=_instant(given, "start"),
        end=_instant(given, "end"),
        before=_cursor(given.get("cursor")),
    )


def _project_id(slug: str | None, machine: Machine) -> int | None:
    """The project that is asked for; a key made for one project reads that one alone."""
    own = machine.api_key.project
    if own is not None:
        if slug not in (None, own.slug):
            raise asked.bad(f"This key reads the project {own.slug!r} alone.")
        return own.pk
    if slug is None:
        return None
    found = machine.organization.projects.filter(slug=slug).values_list("pk", flat=True).first()
    if found is None:
        raise asked.bad(f"project {slug[:40]!a} is none of this organization.")
    return found


def _fate(text: str | None) -> Fate | None:
    if text is not None and text not in list(Fate):
        raise asked.bad(f"fate {text[:40]!a} is none; they are {', '.join(Fate)}.")
    return None if text is None else Fate(text)


def _instant(given: dict[str, str], name: str) -> datetime | None:
    return asked.instant(given[name], name) if name in given else None


def _cursor(text: str | None) -> EventPlace | None:
    if text is None:
        return None
    place = EventPlace.named(text)
    if place is None:
        raise asked.bad(f"cursor {text[:40]!a} is no next_cursor of an answer.")
    return place


def _event(event: FoundEvent, verdict: Verdict) -> dict[str, Any]:
    return {
        "place": str(event.place),
        "event": event.fields(),
        "received_at": event.received_at,
        "applied_at": event.applied_at,
        "fate": verdict.fate,
        "reason": verdict.reason,
        "detail": verdict.sentence,
    }


def _trail(followed: Trail, machine: Machine) -> dict[str, Any]:
    is_of_project = machine.api_key.project_id is not None
    corrections = followed.corrections
    taken = corrections and corrections.taken_back
    # A void is of the project of what it took back; an amendment may have moved it.
    hides_taker = taken and taken.is_amendment and not _may_read(machine, taken.by_place)
    may_read_amended = corrections and _may_read(machine, corrections.amends_place)
    return {
        **_event(followed.event, followed.verdict),
        "quarter_hour": followed.event.quarter_hour,
        "period_start": followed.period and followed.period.start,
        "period_end": followed.period and followed.period.end,
        "currency": followed.currency or None,
        "registers": [_register(one, is_of_project) for one in followed.registers],
        "taken_back_by": taken.by if taken and not hides_taker else None,
        "amends": corrections.amends if corrections and may_read_amended else None,
    }


def _may_read(machine: Machine, place: tuple[int, int] | None) -> bool:
    """Whether the key reads the project of the event at a place."""
    own = machine.api_key.project_id
    if own is None or place is None:
        return True
    found = readings.event_at(machine.organization.pk, EventPlace(*place), project_id=own)
    return found is not None


def _register(one: RegisterTrail, is_of_project: bool) -> dict[str, Any]:
    return {
        "register": one.register,
        "quantity": one.quantity,
        "reading": one.in_reading,
        "fate": one.fate,
        "amount": None if one.amount is None else f"{one.amount:f}",
        "amount_is_exact": one.is_exact,
        "parts": [_part(part, is_of_project) for part in one.parts],
    }


def _part(part: Part, is_of_project: bool) -> dict[str, Any]:
    """A part of a sum over all projects, which a key of one project is not told."""
    key = part.key
    return {
        "fate": part.fate,
        "version": key.version,
        "component": key.component,
        "bucket": key.bucket,
        "step": key.step,
        "unit_price": f"{key.unit_price:f}",
        "per": key.per,
        "quantity": None if is_of_project else part.quantity,
        "lines": [*_places_of(part)],
    }


def _places_of(part: Part) -> Iterator[dict[str, Any]]:
    for line in part.lines:
        yield {"invoice": line.invoice.number, "position": line.position}
