"""A signed-in member at the doors of the API that pages of the portal use too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rest_framework.authentication import SessionAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.api_auth import HasScope, Machine, Refused
from accounts.models import ApiKey, Member, Organization, User
from accounts.permissions import Action, may
from accounts.problems import Problem

if TYPE_CHECKING:  # importing it at run time closes a circle through DRF's settings
    from rest_framework.views import APIView


@dataclass(frozen=True, slots=True)
class Person:
    """A member who asks with the session of the portal, for the organization named."""

    member: Member
    is_authenticated: ClassVar[bool] = True

    @property
    def organization(self) -> Organization:
        """Whose data this request may see."""
        return self.member.organization


class MemberAuthentication(SessionAuthentication):
    """Takes the portal's session, with `?organization=<slug>`; a request with a key is not its."""

    def authenticate(self, request: Request) -> tuple[Person, Member] | None:
        """The member behind the session. None leaves the request to the next kind of sign-in."""
        user = request._request.user  # DRF's own would authenticate again
        if get_authorization_header(request) or not isinstance(user, User):
            return None
        self.enforce_csrf(request)
        slug = request.query_params.get("organization", "")
        memberships = user.memberships.select_related("organization")
        member = memberships.filter(organization__slug=slug).first() if "\0" not in slug else None
        if member is None or not user.is_active:
            raise Refused(Problem("not_found", "You are in no organization of that name."))
        if member.organization.state != Organization.State.ACTIVE:
            raise Refused(Problem("organization_suspended", "The organization is suspended."))
        return Person(member), member


class MaySeeMoney(BasePermission):
    """Lets in a key with the view's scope, and a member whose role sees what things cost."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the key or the member may ask."""
        if isinstance(request.auth, ApiKey):
            return HasScope().has_permission(request, view)
        if isinstance(request.auth, Member) and may(request.auth.role, Action.SEE_MONEY):
            return True
        raise Refused(Problem("scope_missing", "Your role does not see what things cost."))


def organization_of(request: Request) -> Organization:
    """The organization of a request that `MaySeeMoney` let in."""
    asking: object = request.user
    assert isinstance(asking, Machine | Person)
    return asking.organization
