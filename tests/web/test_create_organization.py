"""The command that makes an organization one can send usage for and bill."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import ApiKey, Organization, Role, User
from billing.models import Subscription, Tariff

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> dict[str, object]:
    """Run the command; what it prints is one JSON document and nothing else."""
    out = StringIO()
    call_command("create_organization", *arguments, stdout=out)
    return json.loads(out.getvalue())


def test_an_empty_database_is_enough() -> None:
    made = create("Acme Cloud", "--zone", "Asia/Shanghai")
    organization = Organization.objects.get()
    assert made["organization"]["slug"] == organization.slug == "acme-cloud"
    assert made["organization"]["tariff"] == "standard-usd"
    assert made["project"] == "default"
    assert made["key"] is None
    assert Tariff.objects.count() == 4


def test_the_key_is_shown_once_and_may_send_and_read() -> None:
    made = create("Acme", "--with-key")
    key = ApiKey.objects.get()
    assert str(made["key"]).startswith(f"kt_{key.prefix}_")
    assert key.scopes == ["ingest", "read"]
    assert key.project is None


def test_a_named_project_is_made_and_the_key_is_bound_to_it() -> None:
    made = create("Acme", "--with-key", "--project", "Chat Bot")
    assert made["project"] == "chat-bot"
    assert ApiKey.objects.get().project.slug == "chat-bot"


def test_the_owner_is_found_by_address_or_made() -> None:
    create("Acme", "--owner-email", "Alice@acme.example")
    create("Globex", "--owner-email", "alice@acme.example")
    alice = User.objects.get()
    assert [member.role for member in alice.memberships.all()] == [Role.OWNER, Role.OWNER]
    assert not alice.has_usable_password()


def test_billing_starts_at_local_midnight_of_a_date() -> None:
    create("Acme", "--zone", "Asia/Shanghai", "--starts-at", "2026-10-01")
    assert Subscription.objects.get().starts_at == datetime(2026, 9, 30, 16, tzinfo=UTC)


def test_billing_starts_with_the_local_month_if_not_said() -> None:
    create("Acme", "--zone", "America/New_York")
    local = Subscription.objects.get().starts_at
    assert local.minute == 0
    assert local.hour in (4, 5)
    assert local.day == 1


REFUSED = [
    (["Acme", "--zone", "Mars/Crater"], "zone: 'Mars/Crater' is no IANA time zone"),
    (["Acme", "--currency", "XXL", "--tariff", "standard-usd"], "currency: 'XXL' is no ISO 4217"),
    (["Acme", "--tariff", "gold"], "There is no tariff gold. There are: deepseek-tou-usd,"),
    (["Acme", "--tariff", "standard-eur"], "choose a tariff in USD"),
    (["Acme", "--currency", "JPY"], "There is no tariff standard-jpy"),
    (["Acme", "--owner-email", "alice"], "alice is not an e-mail address"),
    (["Acme", "--starts-at", "soon"], "soon is no date or instant"),
    (["Acme", "--starts-at", "2026-10-01T00:00:00"], "has no offset"),
    ([" "], "name: Write something here"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_is_wrong_is_said_and_nothing_is_made(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        create(*arguments)
    assert not Organization.objects.exists()


def test_an_existing_organization_is_an_error_that_says_so() -> None:
    create("Acme")
    with pytest.raises(CommandError, match="There is an organization acme already"):
        create("Acme")
    assert Organization.objects.count() == 1
