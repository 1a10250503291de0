"""The cast: alice owns Acme, bob views it, charlie owns Globex and is a stranger to Acme."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.conf import settings as django_settings

from accounts.models import Organization, Role, User
from tests import build

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)  # a Wednesday, between quarter-hours


@pytest.fixture
def now() -> datetime:
    """A fixed moment, passed in by the edge as everywhere."""
    return NOW


@pytest.fixture
def alice(db: None) -> User:
    return build.make_user(email="alice@acme.example")


@pytest.fixture
def bob(db: None) -> User:
    return build.make_user(email="bob@acme.example")


@pytest.fixture
def charlie(db: None) -> User:
    return build.make_user(email="charlie@globex.example")


@pytest.fixture
def acme(alice: User, bob: User) -> Organization:
    acme = build.make_organization(name="Acme", slug="acme", owner=alice)
    build.make_member(organization=acme, user=bob, role=Role.VIEWER)
    return acme


@pytest.fixture
def globex(charlie: User) -> Organization:
    return build.make_organization(name="Globex", slug="globex", owner=charlie)


@pytest.fixture(autouse=True, scope="session")
def _fast_passwords() -> None:
    """Argon2 is slow on purpose; the tests are not about that."""
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
