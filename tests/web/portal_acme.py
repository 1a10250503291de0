"""Acme as its portal shows it: one month billed, one month open, at a fixed moment."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization, User
from billing import invoicing
from billing.models import Invoice, Subscription
from tests import build
from tests.conftest import NOW

OCTOBER = datetime(2026, 9, 30, 22, tzinfo=UTC)  # midnight in Berlin
NOVEMBER = datetime(2026, 10, 31, 23, tzinfo=UTC)
DECEMBER = datetime(2026, 11, 30, 23, tzinfo=UTC)
MTOK = 1_000_000


@pytest.fixture
def at_now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The edge reads the clock; here it stands still."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    return NOW


@pytest.fixture
def metered(acme: Organization, at_now: datetime) -> Subscription:
    """A dollar a million, in Berlin: 1.75 dollars of October, 2.50 of November so far."""
    acme.zone = "Europe/Berlin"
    acme.save(update_fields=["zone"])
    subscription = build.make_subscription(organization=acme, starts_at=OCTOBER)
    use(acme, datetime(2026, 10, 5, 10, tzinfo=UTC), MTOK)
    use(acme, datetime(2026, 10, 5, 10, 15, tzinfo=UTC), MTOK // 2)
    use(acme, datetime(2026, 10, 31, 22, 45, tzinfo=UTC), MTOK // 4, register="output")
    use(acme, datetime(2026, 11, 17, 9, tzinfo=UTC), MTOK // 2, model="qwen-plus")
    use(acme, datetime(2026, 11, 18, 9, tzinfo=UTC), 2 * MTOK)
    use(acme, datetime(2026, 11, 18, 9, tzinfo=UTC), 3, register="requests")
    return subscription


@pytest.fixture
def invoice(metered: Subscription) -> Invoice:
    """October's."""
    (issued,) = invoicing.close_period(metered.pk, NOVEMBER)
    return issued


def use(
    organization: Organization,
    at: datetime,
    quantity: int,
    *,
    model: str = "gpt-5",
    register: str = "input",
) -> None:
    build.make_reading(
        organization=organization, starts_at=at, quantity=quantity, model=model, register=register
    )


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(client: Client, path: str, *, status: int = 200, **headers: str) -> str:
    """What a reader sees: the page without its tags, blanks made one."""
    response = client.get(path, headers=headers)
    assert response.status_code == status, response.status_code
    return words_in(response.content.decode())


def words_in(html: str) -> str:
    html = re.sub(r"<(script|style|title)\b.*?</\1>", " ", html, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", html).replace("&#x27;", "'").replace("&amp;", "&")
    return " ".join(text.split())
