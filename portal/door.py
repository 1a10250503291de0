"""The one door into an organization's pages: who is asking, whose pages, and may they.

Nobody signed in: the sign-in page. Not a member: there is nothing here. A member whose role lacks
the action: a page that says so. Behind the door nothing checks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import Concatenate, ParamSpec, cast
from zoneinfo import ZoneInfo

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from accounts.models import Member, Organization, Role, User
from accounts.permissions import Action, may

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Entry:
    """A member who came through the door."""

    organization: Organization
    member: Member
    user: User

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.organization.zone)

    def may(self, action: Action) -> bool:
        return may(self.member.role, action)


View = Callable[Concatenate[HttpRequest, Entry, P], HttpResponseBase]
Page = Callable[Concatenate[HttpRequest, str, P], HttpResponseBase]


def enter(request: HttpRequest, slug: str) -> Entry:
    """The signed-in person's place in this organization. Http404: they have none."""
    assert isinstance(request.user, User)
    memberships = request.user.memberships.select_related("organization")
    member = memberships.filter(organization__slug=slug).first()
    if member is None:
        raise Http404
    return Entry(member.organization, member, request.user)


def member_page(action: Action) -> Callable[[View[P]], Page[P]]:
    """Make a view of (request, entry, ...) a page under /o/<slug>/ for those who may."""

    def decorate(view: View[P]) -> Page[P]:
        @wraps(view)
        def page(
            request: HttpRequest, slug: str, *args: P.args, **kwargs: P.kwargs
        ) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if "\0" in request.path:  # no text column can hold it, so nothing is called so
                raise Http404
            entry = enter(request, slug)
            request.entry = entry  # type: ignore[attr-defined]
            answer = (
                view(request, entry, *args, **kwargs)
                if entry.may(action)
                else refused(request, entry, action)
            )
            answer.headers.setdefault("Cache-Control", "private, no-store")
            return answer

        return cast("Page[P]", page)  # names of the arguments aside, that is what it is

    return decorate


def refused(request: HttpRequest, entry: Entry, action: Action) -> HttpResponse:
    """Say what the role lacks and whom to ask."""
    roles = [role.label for role in Role if may(role, action)]
    context = {"action": action.replace("_", " "), "roles": roles, "role": entry.member.role}
    return render(request, "portal/refused.html", context, status=HTTPStatus.FORBIDDEN)
