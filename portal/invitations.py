"""The page an invitation leads to. Public: whoever holds the secret may read what it offers."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import memberships
from accounts.models import User
from accounts.refusals import Refusal


@never_cache
@require_http_methods(["GET", "POST"])
def answer(request: HttpRequest, secret: str) -> HttpResponse:
    """Show what is offered; take it when a signed-in person says so."""
    invitation = memberships.find_open(secret, now=timezone.now())
    if invitation is None:
        return render(request, "portal/invitation_gone.html", status=404)
    if request.method == "GET":
        return render(request, "portal/invitation.html", {"invitation": invitation})
    if not isinstance(request.user, User):
        return redirect_to_login(request.get_full_path())
    try:
        member = memberships.accept(secret=secret, user=request.user, now=timezone.now())
    except Refusal as refusal:
        context = {"invitation": invitation, "refusal": refusal.sentence}
        return render(request, "portal/invitation.html", context, status=422)
    messages.success(request, f"Welcome to {member.organization.name}.")
    return redirect("portal:overview", member.organization.slug)
