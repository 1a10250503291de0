"""The plain Django way behind HTTP: a DRF view that knows its sender."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import keys
from accounts.models import ApiKey
from bench import plain_django
from bench.batches import Event


class Bearer(BaseAuthentication):
    """Looks a key up for every request."""

    def authenticate(self, request: Request) -> tuple[Any, ApiKey]:
        text = request.headers.get("Authorization", "").removeprefix("Bearer ")
        row = ApiKey.objects.filter(prefix=keys.prefix_of(text), revoked_at=None).first()
        if row is None or not keys.matches(text, bytes(row.digest), settings.KEY_PEPPER):
            raise AuthenticationFailed
        return None, row


class Events(APIView):
    """Takes a batch, all or nothing."""

    authentication_classes = [Bearer]
    permission_classes = []
    throttle_classes = []
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]

    def post(self, request: Request) -> Response:
        sender, events = cast("ApiKey", request.auth), cast("list[Event]", request.data)
        plain_django.take([events], sender.organization_id)
        return Response({"accepted": len(events)}, status=202)


def healthz(_: HttpRequest) -> HttpResponse:
    """It is there."""
    return HttpResponse()


urlpatterns = [path("api/v1/events", Events.as_view()), path("healthz", healthz)]
