"""The cast: alice owns Acme, bob views it, charlie owns Globex and is a stranger to Acme."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection

from accounts.models import Organization, Role, User
from tests import build

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)  # a Wednesday, between quarter-hours


@pytest.fixture
def now() -> datetime:
    """A fixed moment, passed in by the edge as everywhere."""
    return NOW


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Let the runner empty the tables after a test with several connections: facts refuse that.

    `test_audit.py` enables the triggers again for itself.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('ALTER TABLE %s DISABLE TRIGGER %I', tgrelid::regclass, tgname)"
            " FROM pg_trigger WHERE tgtype & 32 > 0 AND NOT tgisinternal"
        )
        for (disable,) in cursor.fetchall():
            cursor.execute(disable)


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
