"""The way into the console: the same sign-in as everywhere, second factor included."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from accounts.models import User

View = Callable[..., HttpResponseBase]


@secure_admin_login
def sign_in(request: HttpRequest) -> HttpResponse:
    """Send whoever is not signed in to the sign-in page, and staff on to the console."""
    return redirect(reverse("admin:index"))


def staff_only(view: View) -> View:
    """Let staff in; others to the sign-in page or a refusal. For pages outside the admin."""

    @login_required
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not (request.user.is_active and request.user.is_staff):
            raise PermissionDenied
        response = view(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response

    return checked


def may_act(request: HttpRequest) -> bool:
    """Whether this person may change anything here. Staff may look; superusers may act."""
    user = request.user
    return isinstance(user, User) and user.is_active and user.is_staff and user.is_superuser


def actor_of(request: HttpRequest) -> User:
    """Who acts, for the audit log; whoever may not act gets a refusal."""
    if not may_act(request) or not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def may_with(request: HttpRequest, permission: str) -> bool:
    """Whether this person is staff and holds a permission, as "billing.publish_prices".

    Superusers hold every one.
    """
    user = request.user
    return isinstance(user, User) and user.is_active and user.is_staff and user.has_perm(permission)


def actor_with(request: HttpRequest, permission: str) -> User:
    """Who acts with a permission, for the audit log; whoever lacks it gets a refusal."""
    if not may_with(request, permission) or not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
