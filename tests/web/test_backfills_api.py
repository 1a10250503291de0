"""The backfills' own addresses: opened, listed, closed, reverted, by the right keys only."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey, AuditEntry, Organization
from metering import backfills
from metering.ingest import doorbell
from metering.models import Backfill
from tests import build
from tests.conftest import NOW
from tests.meter import empty_meter
from tests.web.portal_acme import at_now

__all__ = ["at_now", "empty_meter"]

ADDRESS = "/api/v1/ingest/backfills"
JULY = {
    "reason": "the collector in Frankfurt was down",
    "start": "2026-07-01T00:00:00Z",
    "end": "2026-08-01T00:00:00+02:00",
}
pytestmark = pytest.mark.usefixtures("empty_meter", "at_now")


@pytest.fixture(autouse=True)
def rung(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the roll-up was asked to look."""
    rings: list[int] = []
    monkeypatch.setattr(doorbell, "ring", lambda: rings.append(1))
    return rings


class Api:
    """The API with a key."""

    def __init__(self, key: str) -> None:
        self.client, self.headers = Client(), {"Authorization": f"Bearer {key}"}

    def get(self, path: str = "", **parameters: Any) -> Any:
        return self.client.get(f"{ADDRESS}{path}", parameters, headers=self.headers)

    def post(self, path: str = "", body: Any = None) -> Any:
        return self.client.post(f"{ADDRESS}{path}", json.dumps(body),
                                content_type="application/json", headers=self.headers)  # fmt: skip

    def open(self, **changed: Any) -> int:
        reply = self.post(body={**JULY, **changed})
        assert reply.status_code == 201, reply.content
        return int(reply.json()["id"])


@pytest.fixture
def api(acme: Organization) -> Api:
    return Api(build.make_key(organization=acme, scopes=("read", "manage"))[1])


def test_a_backfill_is_opened_for_a_stretch_of_time_and_a_reason(
    api: Api, acme: Organization
) -> None:
    reply = api.post(body=JULY)
    assert reply.status_code == 201
    made = reply.json()
    key = acme.api_keys.get()
    assert made == {
        "id": made["id"],
        "state": "open",
        "reason": JULY["reason"],
        "start": "2026-07-01T00:00:00Z",
        "end": "2026-07-31T22:00:00Z",
        "opened_at": "2026-11-18T10:07:30Z",
        "opened_by": f"kt_{key.prefix}",
        "closed_at": None,
        "reverted_at": None,
        "events": dict.fromkeys(
            (
                "submitted",
                "accepted",
                "duplicate",
                "conflict",
                "rejected",
                "voided",
                "applied",
            ),
            0,
        ),
        "usage": {},
    }
    assert api.get(f"/{made['id']}").json() == made
    entry = AuditEntry.objects.get(action="backfill.opened")
    assert entry.organization == acme
    assert (entry.subject, entry.detail["api_key"]) == (f"backfill {made['id']}", key.prefix)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": " spaced"}, "reason"),
        ({"reason": "r" * 201}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"reason": None}, "reason"),
        ({"start": 7}, "string"),
        ({"start": "2026-07-01"}, "start"),
        ({"end": "2026-07-01T00:00:00"}, "end"),
        ({"end": "2026-13-01T00:00:00Z"}, "end"),
        ({"end": JULY["start"]}, "after start"),
        ({"end": "2026-06-01T00:00:00Z"}, "after start"),
        ({"end": "2026-11-20T00:00:00Z"}, "future"),
        ({"start": "2026-11-18T10:07:30Z", "end": "2026-11-18T11:00:00Z"}, "future"),
        ({"start": "2025-11-17T00:00:00Z"}, "366 days"),
        ({"days": 3}, "'days'"),
    ],
)
def test_what_a_backfill_cannot_be_is_said(api: Api, change: dict[str, Any], says: str) -> None:
    reply = api.post(body={**JULY, **change})
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_parameter")
    assert says in reply.json()["detail"]
    assert not Backfill.objects.exists()


@pytest.mark.parametrize("body", [None, [], "x", {}, {"reason": "r"}])
def test_an_unfinished_question_opens_nothing(api: Api, body: Any) -> None:
    assert api.post(body=body).status_code == 400
    assert not Backfill.objects.exists()


def test_so_many_backfills_are_open_at_a_time_and_no_more(api: Api) -> None:
    numbers = [api.open() for _ in range(backfills.OPEN_MAX)]
    reply = api.post(body=JULY)
    assert (reply.status_code, reply.json()["code"]) == (409, "too_many_backfills")
    api.post(f"/{numbers[0]}/revert")
    api.open()


def test_a_backfill_is_closed_once_and_reverted_once_however_often_it_is_asked(
    api: Api, acme: Organization, rung: list[int]
) -> None:
    number = api.open()
    closed = [api.post(f"/{number}/close") for _ in range(2)]
    assert [reply.status_code for reply in closed] == [200, 200]
    assert closed[0].json() == closed[1].json()
    assert closed[0].json()["state"] == "closed"
    reverted = [api.post(f"/{number}/revert") for _ in range(2)]
    assert [reply.json()["state"] for reply in reverted] == ["reverted", "reverted"]
    again = api.post(f"/{number}/close")
    assert (again.status_code, again.json()["code"]) == (409, "backfill_not_open")
    assert "new ids" in again.json()["detail"]
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["backfill.opened", "backfill.closed", "backfill.reverted"]
    assert len(rung) == 2


def test_backfills_are_listed_newest_first_page_by_page(api: Api) -> None:
    numbers = [api.open() for _ in range(3)]
    api.post(f"/{numbers[1]}/close")
    page = api.get(limit=2).json()
    assert [row["id"] for row in page["backfills"]] == numbers[:0:-1]
    rest = api.get(limit=2, cursor=page["next_cursor"]).json()
    assert ([row["id"] for row in rest["backfills"]], rest["next_cursor"]) == (numbers[:1], None)
    assert [row["id"] for row in api.get(state="closed").json()["backfills"]] == [numbers[1]]


@pytest.mark.parametrize(
    "parameters",
    [{"state": "gone"}, {"limit": "0"}, {"limit": "101"}, {"cursor": "x"}, {"page": "1"}],
)
def test_a_list_is_asked_for_in_known_words(api: Api, parameters: dict[str, str]) -> None:
    reply = api.get(**parameters)
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_parameter")


def test_another_organizations_backfill_is_none(api: Api, globex: Organization) -> None:
    theirs = Api(build.make_key(organization=globex, scopes=("read", "manage"))[1])
    number = theirs.open()
    missing = api.get(f"/{number + 1}").json()
    for reply in (
        api.get(f"/{number}"), api.post(f"/{number}/close"), api.post(f"/{number}/revert"),
        api.get("/99999999999999999999"),
    ):  # fmt: skip
        assert reply.status_code == 404
        assert reply.json()["detail"] == missing["detail"]
    assert api.get().json()["backfills"] == []
    assert theirs.get(f"/{number}").json()["state"] == "open"


Ask = Callable[[Api, int], Any]
READS: list[Ask] = [lambda api, number: api.get(), lambda api, number: api.get(f"/{number}")]
CHANGES: list[Ask] = [
    lambda api, number: api.post(body=JULY),
    lambda api, number: api.post(f"/{number}/close"),
    lambda api, number: api.post(f"/{number}/revert"),
]


@pytest.mark.parametrize(
    ("scope", "asks"), [("manage", READS), ("read", CHANGES), ("ingest", READS + CHANGES)]
)
def test_reading_needs_read_and_changing_needs_manage(
    api: Api, acme: Organization, scope: str, asks: list[Ask]
) -> None:
    number = api.open()
    other = Api(build.make_key(organization=acme, scopes=(scope,))[1])
    for ask in asks:
        reply = ask(other, number)
        assert (reply.status_code, reply.json()["code"]) == (403, "scope_missing")
    assert Backfill.objects.get().state == "open"


def test_a_key_of_one_project_neither_sees_nor_changes_backfills(
    api: Api, acme: Organization
) -> None:
    number = api.open()
    row, text = build.make_key(organization=acme, scopes=("read", "manage"))
    ApiKey.objects.filter(pk=row.pk).update(project=acme.projects.get())
    for ask in READS + CHANGES:
        reply = ask(Api(text), number)
        assert (reply.status_code, reply.json()["code"]) == (403, "scope_missing")


def test_a_suspended_organization_changes_nothing(api: Api, acme: Organization) -> None:
    number = api.open()
    acme.state = Organization.State.SUSPENDED
    acme.save(update_fields=["state"])
    for ask in READS + CHANGES:
        assert ask(api, number).json()["code"] == "organization_suspended"
    assert Backfill.objects.get().state == "open"


def test_a_backfill_that_is_open_for_a_week_is_called_forgotten(
    api: Api, acme: Organization
) -> None:
    number = api.open()
    closed = api.open()
    api.post(f"/{closed}/close")
    week = backfills.OPEN_FOR
    assert backfills.forgotten(NOW + week) == 0
    assert backfills.forgotten(NOW + week + timedelta(seconds=1)) == 1
    assert [row.id for row in backfills.everywhere()] == [number, closed]


def test_the_database_knows_no_backfill_that_ends_before_it_starts(api: Api, now: datetime) -> None:
    number = api.open()
    for change, rule in (
        ("ends_at = starts_at", "backfill_runs_forward"),
        ("state = 'closed'", "backfill_state_is_known"),
        ("state = 'lost'", "backfill_state_is_known"),
        ("reason = ''", "backfill_says_why"),
    ):
        with pytest.raises(Exception, match=rule), connection.cursor() as cursor:
            cursor.execute(f"UPDATE metering_backfill SET {change} WHERE id = %s", [number])
    assert timezone.now() == now
