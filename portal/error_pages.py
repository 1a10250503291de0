"""What each refusal of the API means and what to do: the pages that problem documents link to."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.problems import KINDS


@require_GET
def show(request: HttpRequest, code: str) -> HttpResponse:
    """One kind of refusal."""
    if code not in KINDS:
        raise Http404
    return render(request, "portal/error.html", {"code": code, "kind": KINDS[code]})


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """All of them."""
    kinds = sorted(KINDS.items(), key=lambda item: (item[1].status, item[0]))
    return render(request, "portal/errors.html", {"kinds": kinds})
