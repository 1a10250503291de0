"""Rows for tests: plain functions, keyword only, every value visible to the reader."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings

from accounts import keys, people
from accounts.models import ApiKey, Member, Organization, Project, Role, User


def make_user(*, email: str, password: str = "correct horse battery") -> User:
    """A person whose address is verified, as after sign-up."""
    return people.create_verified(email, password)


def make_organization(
    *,
    name: str,
    slug: str,
    owner: User | None = None,
    currency: str = "USD",
    zone: str = "UTC",
) -> Organization:
    organization = Organization.objects.create(name=name, slug=slug, currency=currency, zone=zone)
    make_project(organization=organization)
    if owner:
        make_member(organization=organization, user=owner, role=Role.OWNER)
    return organization


def make_member(*, organization: Organization, user: User, role: str) -> Member:
    return Member.objects.create(organization=organization, user=user, role=role)


def make_project(*, organization: Organization, slug: str = "default") -> Project:
    return Project.objects.create(organization=organization, slug=slug, name=slug.title())


def make_key(
    *,
    organization: Organization,
    scopes: tuple[str, ...] = ("ingest", "read"),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """The row and the key's text."""
    new = keys.make(settings.KEY_PEPPER)
    row = ApiKey.objects.create(
        organization=organization,
        name="test",
        prefix=new.prefix,
        digest=new.digest,
        scopes=list(scopes),
        expires_at=expires_at,
    )
    return row, new.text
