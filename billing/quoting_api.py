"""`POST /api/v1/quote` and `/simulate`: what usage would cost, and why. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.api_auth import ApiKeyAuthentication, Refused
from accounts.api_body import BoundedJson
from accounts.api_description import BODY, refuses
from accounts.api_session import MaySeeMoney, MemberAuthentication, organization_of
from accounts.problems import Problem
from billing import api_description as described
from billing import quoting
from billing.quoting import Quoted
from billing.rating import statement, strict_json
from billing.rating.document import TariffInvalid
from billing.read_only import read_only


class StrictJson(BoundedJson):
    """A body read as tariffs are."""

    def read(self, body: bytes) -> object:
        """The value, or a refusal of the whole request."""
        try:
            return strict_json.read(body)
        except strict_json.NotStrict as wrong:
            raise Refused(Problem(wrong.code, f"The body is not taken: {wrong}.")) from None


class LineSerializer(serializers.Serializer[dict[str, Any]]):
    """So many units at one price, and why."""

    version = serializers.CharField(help_text="the tariff version, code@number")
    component = serializers.CharField()
    model = serializers.CharField()
    register = serializers.CharField()
    bucket = serializers.CharField(help_text="of the time of use; empty without one")
    step = serializers.IntegerField(help_text="of a price in steps, from 0")
    quantity = serializers.IntegerField()
    unit_price = serializers.CharField(help_text="a decimal")
    per = serializers.IntegerField(help_text="how many units the price is for")
    amount = serializers.CharField(help_text="a decimal, exact")
    trace = serializers.DictField(help_text="which rule made the line, with its numbers")
    why = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="the same in sentences"
    )


class StepSerializer(serializers.Serializer[dict[str, Any]]):
    """What one of the sixteen steps of rating added."""

    number = serializers.IntegerField()
    does = serializers.CharField()
    lines = serializers.IntegerField()
    amount = serializers.CharField(help_text="a decimal; the steps together are the total")


class StatementSerializer(serializers.Serializer[dict[str, Any]]):
    """A bill that nobody is sent."""

    currency = serializers.CharField()
    # `from` is a keyword of Python, so the field is declared in get_fields.
    to = serializers.CharField(help_text="exclusive; an instant in UTC")
    lines = LineSerializer(many=True)
    steps = StepSerializer(many=True)
    exact = serializers.CharField(help_text="the sum of the lines before any rounding")
    net = serializers.CharField(help_text="the sum of the lines, each rounded once")
    tax = serializers.CharField()
    total = serializers.CharField()
    events = serializers.IntegerField(required=False)
    duplicates = serializers.IntegerField(required=False)
    conflicts = serializers.IntegerField(required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """With `from`, in the order of the answer."""
        start = serializers.CharField(help_text="an instant in UTC")
        fields = super().get_fields()
        return {"currency": fields.pop("currency"), "from": start, **fields}


_ORGANIZATION = OpenApiParameter(
    "organization", str, OpenApiParameter.QUERY, description="its slug; for sessions of the portal"
)
_REFUSED = refuses(*BODY, "invalid_request", "not_found")


class _Priced(APIView):
    """What both have in common: who may ask, how it is read, how it is answered."""

    scope = "read"
    authentication_classes = (MemberAuthentication, ApiKeyAuthentication)
    permission_classes = (MaySeeMoney,)
    parser_classes = (StrictJson,)

    def answer(self, ask: Callable[[], Quoted]) -> HttpResponse:
        """The statement, or a refusal that points at the field that is wrong."""
        try:
            with read_only():
                quoted = ask()
        except TariffInvalid as refused:
            raise _refused(refused.pointer, refused.detail) from None
        except ValueError as wrong:
            raise _refused("", f"{wrong}") from None
        document = statement.statement(quoted.bill, quoted.period, quoted.counted, explain=True)
        return HttpResponse(statement.written(document), content_type="application/json")


class Quote(_Priced):
    """What one request costs."""

    @extend_schema(
        operation_id="quote",
        summary="What one request costs, and why",
        parameters=[_ORGANIZATION],
        request={"application/json": described.QUOTE},
        responses={200: StatementSerializer},
        examples=[
            OpenApiExample("under a document", value=described.QUOTE_EXAMPLE, request_only=True)
        ],
        extensions=_REFUSED,
    )
    def post(self, request: Request) -> HttpResponse:
        """By itself: before allowances and charges, at the first step of prices by volume."""
        organization, body = organization_of(request), request.data
        return self.answer(lambda: quoting.quote(organization, body, timezone.now()))


class Simulate(_Priced):
    """What a period's usage would cost."""

    @extend_schema(
        operation_id="simulate",
        summary="What a period would cost under a tariff, and why",
        parameters=[_ORGANIZATION],
        request={"application/json": described.SIMULATION},
        responses={200: StatementSerializer},
        examples=[
            OpenApiExample(
                "under a document", value=described.SIMULATION_EXAMPLE, request_only=True
            )
        ],
        extensions=_REFUSED,
    )
    def post(self, request: Request) -> HttpResponse:
        """As its invoice would say: allowances, steps, charges, rounding and tax."""
        organization, body = organization_of(request), request.data
        return self.answer(lambda: quoting.simulate(organization, body))


def _refused(pointer: str, detail: str) -> Refused:
    error = {"pointer": pointer, "detail": detail}
    where = f"{pointer} {detail}" if pointer else f"{detail[:1].upper()}{detail[1:]}"
    return Refused(Problem("invalid_request", f"{where}.", {"errors": [error]}))
