"""Backfills on the portal and in the console: who sees them, and who may close and revert them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import AuditEntry, Organization, Role, User
from metering import backfills
from metering.models import Backfill
from tests import build
from tests.conftest import NOW
from tests.meter import empty_meter, no_bell
from tests.web.portal_acme import at_now, signed_in, text_of, words_in

__all__ = ["at_now", "empty_meter", "no_bell"]

FORM = {"first": "2026-07-01", "last": "2026-07-31", "reason": "the collector was down"}
pytestmark = pytest.mark.usefixtures("empty_meter", "at_now")


def test_days_are_those_of_the_organization(acme: Organization, alice: User) -> None:
    acme.zone = "Europe/Berlin"
    acme.save(update_fields=["zone"])
    made = signed_in(alice).post("/o/acme/backfills/new/", FORM, follow=True)
    backfill = Backfill.objects.get()
    assert backfill.starts_at == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert backfill.ends_at == datetime(2026, 7, 31, 22, tzinfo=UTC)
    assert backfill.opened_by == alice.email
    said = words_in(made.content.decode())
    assert f"POST /api/v1/events?backfill={backfill.id}" in said
    assert AuditEntry.objects.get(action="backfill.opened").actor == alice


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"last": "2026-06-30"}, "before the first"),
        ({"last": "2026-12-24"}, "future"),
        ({"first": "2020-01-01"}, "366 days"),
        ({"reason": ""}, "required"),
        ({"first": ""}, "required"),
    ],
)
def test_a_form_that_cannot_be_says_why(
    acme: Organization, alice: User, change: dict[str, str], says: str
) -> None:
    answer = signed_in(alice).post("/o/acme/backfills/new/", {**FORM, **change})
    assert answer.status_code == 422
    assert says in words_in(answer.content.decode())
    assert not Backfill.objects.exists()


def test_a_backfill_is_closed_and_reverted_on_its_page(acme: Organization, alice: User) -> None:
    client = signed_in(alice)
    client.post("/o/acme/backfills/new/", FORM)
    number = Backfill.objects.get().id
    page = f"/o/acme/backfills/{number}/"
    closed = client.post(f"{page}close/", follow=True)
    assert "is closed" in words_in(closed.content.decode())
    again = client.post(f"{page}close/", follow=True)
    assert "was closed before" in words_in(again.content.decode())
    reverted = client.post(f"{page}revert/", follow=True)
    assert "Nothing in it counts, for good" in words_in(reverted.content.decode())
    refused = client.post(f"{page}close/", follow=True)
    assert "new ids" in words_in(refused.content.decode())
    assert "Revert it" not in text_of(client, page)
    actors = AuditEntry.objects.filter(action__startswith="backfill.").values_list("actor")
    assert list(actors) == [(alice.pk,)] * 3


@pytest.mark.parametrize("role", [Role.BILLING, Role.VIEWER])
def test_who_may_not_correct_usage_sees_it_only(
    acme: Organization, alice: User, charlie: User, role: str
) -> None:
    made = backfills.open_backfill(
        acme, reason="r", start=NOW - timedelta(days=90), end=NOW, now=NOW, actor=alice
    )
    build.make_member(organization=acme, user=charlie, role=role)
    client = signed_in(charlie)
    shown = text_of(client, f"/o/acme/backfills/{made.id}/")
    assert "Close it" not in shown
    assert "Revert it" not in shown
    assert "Open a backfill" not in text_of(client, "/o/acme/backfills/")
    for path in ("new/", f"{made.id}/close/", f"{made.id}/revert/"):
        assert client.post(f"/o/acme/backfills/{path}", FORM).status_code == 403
    assert Backfill.objects.get().state == "open"


def test_a_stranger_finds_no_backfill(
    acme: Organization, globex: Organization, alice: User
) -> None:
    theirs = backfills.open_backfill(
        globex, reason="secret", start=NOW - timedelta(days=90), end=NOW, now=NOW
    )
    client = signed_in(alice)
    for path in ("", "close/", "revert/"):
        ask = client.post if path else client.get
        assert ask(f"/o/acme/backfills/{theirs.id}/{path}").status_code == 404
    assert "secret" not in text_of(client, "/o/acme/backfills/")
    assert Backfill.objects.get().state == "open"


def test_the_console_shows_open_ones_and_calls_forgotten_ones_out(
    acme: Organization, globex: Organization, alice: User, django_user_model: type[User]
) -> None:
    staff = build.make_user(email="operator@kilotoken.example")
    staff.is_staff = staff.is_superuser = True
    staff.save()
    long_ago = NOW - timedelta(days=8)
    span = {"start": NOW - timedelta(days=90), "end": NOW - timedelta(days=60)}
    old = backfills.open_backfill(acme, reason="the old one", now=long_ago, **span)
    new = backfills.open_backfill(globex, reason="the new one", now=NOW, **span)
    client = signed_in(staff)
    shown = text_of(client, "/console/backfills/")
    assert "1 backfill has been open for more than 7 days" in shown
    assert shown.index("the old one") < shown.index("the new one")
    assert "open for over a week" in text_of(client, "/console/")
    for backfill, owner in ((old, acme), (new, globex)):
        backfills.revert(owner, backfill.id, now=NOW)
    assert "has been open" not in text_of(client, "/console/backfills/")
