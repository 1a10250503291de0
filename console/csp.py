"""The content security policy of the console's pages."""

from __future__ import annotations

from collections.abc import Callable

from csp.decorators import csp_update
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

PREFIX = "/console/"


def middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """Relax the policy under /console/ as far as its theme needs, and nowhere else."""
    relaxed = csp_update(settings.CONSOLE_CSP)(get_response)

    def choose(request: HttpRequest) -> HttpResponseBase:
        answer = relaxed if request.path_info.startswith(PREFIX) else get_response
        return answer(request)

    return choose
