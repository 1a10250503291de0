"""API keys at the doors that Django REST framework keeps. Ingestion has its own, faster check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import keys
from accounts.bearer import key_in
from accounts.models import ApiKey, Organization
from accounts.problems import Problem

if TYPE_CHECKING:  # importing it at run time closes a circle through DRF's settings
    from rest_framework.views import APIView


USE_NOTED_EVERY = timedelta(minutes=1)


class Refused(Exception):
    """A refusal on its way to `config.problems.handler`, which turns it into an answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Machine:
    """Who signs an API request: the key, and through it the organization."""

    api_key: ApiKey
    is_authenticated: ClassVar[bool] = True

    @property
    def organization(self) -> Organization:
        """Whose data this request may see."""
        return self.api_key.organization


class ApiKeyAuthentication(BaseAuthentication):
    """Reads `Authorization: Bearer kt_...`."""

    def authenticate(self, request: Request) -> tuple[Machine, ApiKey]:
        """The machine behind the request, or a refusal that does not say why a key is bad."""
        text = key_in(get_authorization_header(request).decode("latin-1"))
        if isinstance(text, Problem):
            raise Refused(text)
        api_key = find(text)
        if api_key is None:
            raise Refused(Problem("invalid_api_key", "No valid API key reads like the one sent."))
        if api_key.organization.state != Organization.State.ACTIVE:
            raise Refused(Problem("organization_suspended", "The organization is suspended."))
        _note_use(api_key)
        return Machine(api_key), api_key

    def authenticate_header(self, request: Request) -> str:
        """What WWW-Authenticate says."""
        return 'Bearer realm="kilotoken"'


def find(text: str) -> ApiKey | None:
    """The live key that this text is, if any. Expiry is told by the database's clock."""
    prefix = keys.prefix_of(text)
    if prefix is None:
        return None
    live = ApiKey.objects.select_related("organization", "project").filter(
        Q(expires_at=None) | Q(expires_at__gt=Now()), prefix=prefix, revoked_at=None
    )
    api_key = live.first()
    if api_key and keys.matches(text, bytes(api_key.digest), settings.KEY_PEPPER):
        return api_key
    return None


def _note_use(api_key: ApiKey) -> None:
    """Say when a key was last used, to the minute: reading must not cost a write each time."""
    ApiKey.objects.filter(
        Q(last_used_at=None) | Q(last_used_at__lt=Now() - USE_NOTED_EVERY), pk=api_key.pk
    ).update(last_used_at=Now())


class HasScope(BasePermission):
    """Lets a key in if it has the scope that the view names in `scope`; no name, no entry."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the key has the view's scope."""
        needed = getattr(view, "scope", None)
        if isinstance(request.auth, ApiKey) and needed in request.auth.scopes:
            return True
        raise Refused(Problem("scope_missing", f"This needs an API key with the scope {needed!r}."))
