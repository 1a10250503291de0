"""Refusals and failures as answers: the same problem document at every door."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework import exceptions
from rest_framework.response import Response

from accounts.api_auth import Refused
from accounts.problems import Problem

logger = logging.getLogger(__name__)

# DRF's own exceptions, by status, in our words.
_CODES = {400: "malformed_json", 403: "scope_missing", 404: "not_found", 405: "method_not_allowed",
          415: "unsupported_media_type", 429: "rate_limited"}  # fmt: skip


def answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A problem as a plain Django response."""
    request_id = _new_request_id()
    response = HttpResponse(
        problem.body(instance=request.path, request_id=request_id), status=problem.status
    )
    for name, value in [*problem.headers(), ("X-Request-Id", request_id)]:
        response[name] = value
    return response


def _new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def named(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Middleware: every answer of the API has a name, also where nothing was refused."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path.startswith("/api/"):
            response.setdefault("X-Request-Id", _new_request_id())
        return response

    return middleware


def handler(error: Exception, context: dict[str, Any]) -> Response | HttpResponse | None:
    """DRF's exception handler: every refusal of the API becomes a problem document."""
    request = context["request"]
    problem = _problem(error)
    if problem is None:
        return None
    response = answer(request, problem)
    if isinstance(error, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


def _problem(error: Exception) -> Problem | None:
    match error:
        case Refused():
            return error.problem
        case exceptions.ValidationError():
            return Problem(
                "invalid_request",
                "Some fields are not valid.",
                {"errors": error.get_full_details()},
            )
        case exceptions.APIException():
            code = _CODES.get(error.status_code, "internal_error")
            return Problem(code, str(error.detail))
        case Http404():
            return Problem("not_found", "There is nothing at this address for this key.")
        case PermissionDenied():
            return Problem("scope_missing", "This key may not do that.")
        case OperationalError() | InterfaceError():
            logger.error("the database did not answer", exc_info=error)
            return Problem("temporarily_unavailable", "The database does not answer.")
    return None


def no_nul(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Middleware: an address with a NUL names nothing, and PostgreSQL would fail on it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "\0" not in request.path and "%00" not in request.META.get("QUERY_STRING", ""):
            return get_response(request)
        if request.path.startswith("/api/"):
            return answer(request, Problem("invalid_parameter", "The address holds a NUL."))
        return render(request, "404.html", status=HTTPStatus.NOT_FOUND)

    return middleware


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: a problem document under /api/, a page elsewhere."""
    if request.path.startswith("/api/"):
        return answer(request, Problem("not_found", f"There is nothing at {request.path}."))
    return render(request, "404.html", status=HTTPStatus.NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    """500: a problem document under /api/, a page elsewhere; never a traceback."""
    if request.path.startswith("/api/"):
        return answer(request, Problem("internal_error", "The request failed; we logged why."))
    return render(request, "500.html", status=HTTPStatus.INTERNAL_SERVER_ERROR)
