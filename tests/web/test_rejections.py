"""What was not taken is kept, shown, sent again, and let go after thirty days."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey, Organization, User
from metering import readings, rejections
from metering.ingest import cloudevents, quarantine
from metering.models import IngestBatch, Rejection
from metering.rejections import Which
from metering.tasks import purge_rejections
from tests import build
from tests.meter import Door, apply_all, door, empty_meter, key, make_body, no_bell
from tests.web.test_ingest_cloudevents import BATCH, cloudevent
from tests.web.test_ingest_traces import Exporter, chat, export

__all__ = ["door", "empty_meter", "key", "no_bell"]


def body(**fields: Any) -> dict[str, Any]:
    return make_body(occurred_at=timezone.now().isoformat(), **fields)


def kept(acme: Organization, **which: Any) -> list[Rejection]:
    return rejections.find(acme.pk, Which(**which))


class Api:
    """The reading half, with a key."""

    def __init__(self, client: Client, key: str) -> None:
        self.client, self.headers = client, {"Authorization": f"Bearer {key}"}

    def get(self, **parameters: Any) -> Any:
        return self.client.get("/api/v1/ingest/rejections", parameters, headers=self.headers)

    def replay(self, chosen: Any) -> Any:
        return self.client.post("/api/v1/ingest/rejections/replay", json.dumps(chosen),
                                content_type="application/json", headers=self.headers)  # fmt: skip


@pytest.fixture
def api(client: Client, key: tuple[ApiKey, str]) -> Api:
    return Api(client, key[1])


def test_rejected_and_conflicting_events_are_kept_as_they_came(
    door: Door, acme: Organization
) -> None:
    door.post(body(id="a"))
    text = json.dumps([body(id="b"), body(id="c", usage={"input": 1}), body(id="a")])
    text = text.replace('{"input": 1}', '{"input":  -1.50}')
    reply = door.post(text.encode())
    assert reply.json["rejected"] + reply.json["conflict"] == 2
    conflict, rejected = sorted(kept(acme), key=lambda row: row.code)
    assert (rejected.code, rejected.event_id, rejected.pointer) == (
        "not_an_integer", "c", "/usage/input",
    )  # fmt: skip
    assert '{"input":  -1.50}' in rejected.raw  # to the letter
    assert (conflict.code, conflict.event_id) == ("event_conflict", "a")
    assert rejected.batch_id == conflict.batch_id == reply.json["batch_id"]
    assert not rejected.masked


def test_a_request_whose_every_event_is_rejected_leaves_a_batch(
    door: Door, acme: Organization
) -> None:
    reply = door.post([body(usage={}), body(id="b", model="a b")])
    assert reply.status == 422
    batch = IngestBatch.objects.get(organization_id=acme.pk, id=reply.json["batch_id"])
    assert (batch.submitted, batch.rejected, batch.state) == (2, 2, "applied")
    apply_all()
    assert readings.event_count(acme.pk) == 0


def test_the_same_mistake_again_is_counted_not_kept_twice(door: Door, acme: Organization) -> None:
    event = body(usage={})
    door.post(event)
    Rejection.objects.update(received_at=timezone.now() - timedelta(days=31))
    for _ in range(2):
        door.post(event)
    purge_rejections()  # thirty days from when it came last
    (row,) = kept(acme)
    assert row.seen == 3
    assert rejections.counts(acme.pk, Which()) == {"quantity_required": 3}


def test_every_form_is_kept_and_can_be_replayed(door: Door, acme: Organization) -> None:
    door.post(body(id="native", project="late"))
    lines = f"{json.dumps(body(id='line', project='late'))}\n\n".encode()
    door.post(lines, media_type="application/x-ndjson")
    data = {"model": "m", "usage": {"input": 1}, "project": "late"}
    door.post([cloudevent(id="ce", data=data)], media_type=BATCH)
    binary = {"HTTP_CE_SPECVERSION": "1.0", "HTTP_CE_TYPE": cloudevents.TYPE, "HTTP_CE_ID": "bin",
              "HTTP_CE_SOURCE": "s", "HTTP_CE_TIME": timezone.now().isoformat()}  # fmt: skip
    door.post(data, **binary)
    for encoding in ("json", "protobuf"):
        Exporter(door, encoding).send(export(chat(len(encoding), kilotoken__project="late")))
    assert {row.code for row in kept(acme)} == {"unknown_project"}
    assert len(kept(acme)) == 6
    assert rejections.replay(acme.pk, Which(code="unknown_project"), now=timezone.now()).taken == 0
    build.make_project(organization=acme, slug="late")
    done = rejections.replay(acme.pk, Which(code="unknown_project"), now=timezone.now())
    assert (done.taken, done.rejected, done.codes) == (6, 0, {"accepted": 6})
    assert kept(acme) == []
    assert {event.project for event in readings.find_events(acme.pk)} == {"late"}
    assert door.post(lines, media_type="application/x-ndjson").json["duplicate"] == 1


def test_an_atomic_request_keeps_nothing(door: Door, acme: Organization) -> None:
    door.post([body(id="a"), body(id="b", usage={})], query="mode=atomic")
    assert kept(acme) == []


def test_no_secret_and_nothing_that_was_said_is_kept(
    door: Door, acme: Organization, key: tuple[ApiKey, str]
) -> None:
    secret = key[1]
    escaped = json.dumps(body(id="e", session=secret)).replace("kt_", "kt\\u005f")
    lines = [
        json.dumps(body(id=secret)), json.dumps(body(**{secret: 1})), escaped,
        json.dumps(body(prompt="What I said")), json.dumps(body(note="long " * 200)),
        json.dumps(body(usage={"input": -1, "nested": {"messages": ["What I said"]}})),
        f'{{"id": "{secret}"', '{"id": "kt\\u005f' + secret[3:] + '"',
        '{"prompt": "' + "What I said" * 99,
    ]  # fmt: skip
    reply = door.post("\n".join(lines).encode(), media_type="application/x-ndjson")
    assert reply.json["rejected"] == len(lines)
    with connection.cursor() as cursor:
        cursor.execute("SELECT r::text FROM metering_rejection r")
        stored = "".join(row[0] for row in cursor.fetchall())
    assert len(kept(acme)) == len(lines)
    assert secret[20:] not in stored
    assert stored.count("What I said") < 30  # the start of what is no JSON, cut short
    assert "long long" not in stored
    assert all(row.masked for row in kept(acme))
    done = rejections.replay(acme.pk, Which(), now=timezone.now())
    assert (done.taken, done.left) == (0, len(lines))


@pytest.mark.parametrize("odd", [b'{"id": "\\ud800"}', b'{"id": "\\u0000"}', b"{\x00}", b"[" * 90,
                                 '{"id": "é́"}'.encode(), b'{"a":' * 40, b"x" * 20_000])  # fmt: skip
def test_whatever_came_can_be_kept(door: Door, acme: Organization, odd: bytes) -> None:
    reply = door.post(odd + b"\n" + json.dumps(body()).encode(), media_type="application/x-ndjson")
    assert reply.status == 207
    (row,) = kept(acme)
    assert len(row.raw.encode()) <= 8_192


def test_an_event_that_grew_old_while_it_waited_is_still_taken(
    door: Door, acme: Organization
) -> None:
    when = (timezone.now() - timedelta(days=30)).isoformat()
    door.post(make_body(occurred_at=when, project="late"))
    build.make_project(organization=acme, slug="late")
    later = timezone.now() + timedelta(days=20)
    assert rejections.replay(acme.pk, Which(), now=later).taken == 1


def test_what_is_thirty_days_old_is_let_go(door: Door, acme: Organization) -> None:
    door.post([body(id="old", usage={}), body(id="new", usage={})])
    Rejection.objects.filter(event_id="old").update(
        received_at=timezone.now() - timedelta(days=30, seconds=1)
    )
    purge_rejections()
    assert [row.event_id for row in kept(acme)] == ["new"]


@pytest.mark.parametrize("ceiling", ["KEPT_PER_DAY_MAX", "KEPT_BYTES_PER_DAY_MAX"])
def test_a_day_has_room_for_so_much_and_the_rest_is_told_and_counted(
    door: Door, api: Api, client: Client, alice: User, acme: Organization,
    monkeypatch: pytest.MonkeyPatch, ceiling: str,
) -> None:  # fmt: skip
    door.post([body(id="a", usage={}), body(id="b", usage={})])
    two = rejections.today(acme.pk, timezone.now())
    room = {"KEPT_PER_DAY_MAX": 3, "KEPT_BYTES_PER_DAY_MAX": two.kept_bytes * 7 // 4}
    monkeypatch.setattr(quarantine, ceiling, room[ceiling])
    rubbish = [body(id=str(number), usage={}) for number in range(5)]
    reply = door.post(rubbish)
    assert (reply.status, reply.codes) == (422, ["quantity_required"] * 5)
    batch = IngestBatch.objects.get(organization_id=acme.pk, id=reply.json["batch_id"])
    assert batch.rejected == 5
    assert len(kept(acme)) == 3
    assert api.get().json()["left_out_today"] == 4
    row, of_one_project = build.make_key(organization=acme)
    ApiKey.objects.filter(pk=row.pk).update(project=build.make_project(organization=acme, slug="x"))
    assert Api(client, of_one_project).get().json()["left_out_today"] is None
    client.force_login(alice)
    page = client.get(f"/o/{acme.slug}/rejections/").content.decode()
    assert "4 rejected events were told why and counted, and are not kept" in page
    assert rejections.full_quarantines(timezone.now()) == [(acme.pk, 4)]
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert rejections.full_quarantines(timezone.now()) == []


def test_what_is_kept_already_is_counted_on_a_full_day_too(
    door: Door, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = body(usage={})
    door.post(event)
    monkeypatch.setattr(quarantine, "KEPT_PER_DAY_MAX", 1)
    door.post(event)
    (row,) = kept(acme)
    assert row.seen == 2
    assert rejections.today(acme.pk, timezone.now()).left_out == 0


def test_one_organizations_rubbish_takes_no_room_from_another(
    door: Door, acme: Organization, globex: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "KEPT_PER_DAY_MAX", 1)
    door.post([body(id=str(number), usage={}) for number in range(3)])
    Door(build.make_key(organization=globex)[1]).post(body(usage={}))
    assert len(kept(globex)) == 1


class TestApi:
    def test_rejections_are_listed_newest_first_in_pages(self, door: Door, api: Api) -> None:
        door.post([body(id=str(number), usage={}) for number in range(5)])
        first = api.get(limit=3).json()
        assert first["counts"] == {"quantity_required": 5}
        rest = api.get(limit=3, cursor=first["next_cursor"]).json()
        assert rest["next_cursor"] is None
        found = [row["event_id"] for row in first["rejections"] + rest["rejections"]]
        assert sorted(found) == list("01234")
        assert json.loads(first["rejections"][0]["raw"])["usage"] == {}

    def test_code_and_window_choose(self, door: Door, api: Api) -> None:
        door.post([body(id="a", usage={}), body(id="b", model="a b")])
        later = (timezone.now() + timedelta(hours=1)).isoformat()
        assert len(api.get(code="quantity_required").json()["rejections"]) == 1
        assert api.get(start=later).json() == {
            "counts": {}, "rejections": [], "next_cursor": None, "left_out_today": 0,
        }  # fmt: skip
        assert len(api.get(end=later).json()["rejections"]) == 2

    @pytest.mark.parametrize("bad", [
        {"code": "nonsense"}, {"limit": "0"}, {"limit": "201"}, {"limit": "x"}, {"cursor": "-1"},
        {"start": "yesterday"}, {"end": "2026-11-18T10:00:00"}, {"colour": "red"},
        {"code": ["quantity_required", "too_deep"]}, {"start": "0001-01-01T00:00:00Z"},
    ])  # fmt: skip
    def test_bad_parameters_are_refused(self, api: Api, bad: dict[str, Any]) -> None:
        reply = api.get(**bad)
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_parameter")

    def test_replay_is_idempotent(self, door: Door, api: Api, acme: Organization) -> None:
        door.post([body(id="a", project="late"), body(id="b", usage={})])
        build.make_project(organization=acme, slug="late")
        ids = [row["id"] for row in api.get().json()["rejections"]]
        assert api.replay({"ids": ids}).json() == {
            "taken": 1, "rejected": 1, "left": 0,
            "codes": {"accepted": 1, "quantity_required": 1},
        }  # fmt: skip
        assert api.replay({"ids": ids}).json()["taken"] == 0
        assert len(readings.find_events(acme.pk)) == 1
        assert len(kept(acme)) == 1

    @pytest.mark.parametrize("bad", [
        {}, [], 7, {"ids": []}, {"ids": ["1"]}, {"ids": [True]}, {"ids": [0]}, {"ids": [2**63]},
        {"ids": list(range(1, 1002))}, {"code": 7}, {"code": "nonsense"}, {"colour": "red"},
        {"start": "now"},
    ])  # fmt: skip
    def test_a_bad_replay_is_refused(self, api: Api, bad: Any) -> None:
        reply = api.replay(bad)
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_parameter")

    def test_reading_and_replaying_have_scopes_of_their_own(
        self, client: Client, acme: Organization, empty_meter: None
    ) -> None:
        reader = Api(client, build.make_key(organization=acme, scopes=("read",))[1])
        sender = Api(client, build.make_key(organization=acme, scopes=("ingest",))[1])
        assert (reader.get().status_code, sender.get().status_code) == (200, 403)
        chosen = {"code": "unknown_project"}
        assert reader.replay(chosen).status_code == 403
        assert sender.replay(chosen).status_code == 200

    def test_a_stranger_sees_and_replays_nothing_of_others(
        self, door: Door, client: Client, globex: Organization, acme: Organization
    ) -> None:
        door.post(body(project="late"))
        build.make_project(organization=acme, slug="late")
        build.make_project(organization=globex, slug="late")
        stranger = Api(client, build.make_key(organization=globex)[1])
        assert stranger.get().json()["rejections"] == []
        (row,) = kept(acme)
        assert stranger.replay({"ids": [row.id]}).json()["taken"] == 0
        assert len(kept(acme)) == 1

    def test_a_key_of_one_project_sees_and_replays_what_came_with_keys_of_that_project(
        self, client: Client, door: Door, acme: Organization
    ) -> None:
        side = build.make_project(organization=acme, slug="side")
        row, text = build.make_key(organization=acme)
        row.project = side
        row.save(update_fields=["project"])
        door.post(body(id="of-another", project="late"))
        Door(text).post(body(id="own", project="late"))
        build.make_project(organization=acme, slug="late")
        bound = Api(client, text)
        found = bound.get().json()
        assert [one["event_id"] for one in found["rejections"]] == ["own"]
        assert found["counts"] == {"unknown_project": 1}
        assert bound.replay({"code": "unknown_project"}).json() == {
            "taken": 0, "rejected": 1, "left": 0, "codes": {"unknown_project": 1},
        }  # fmt: skip

    @pytest.mark.parametrize("by", ["person", "machine"])
    def test_whoever_replays_the_event_belongs_to_the_project_of_the_key_it_came_with(
        self, api: Api, acme: Organization, by: str
    ) -> None:
        """Else what a project used is billed to `default`, where its key may not even report."""
        side = build.make_project(organization=acme, slug="side")
        row, text = build.make_key(organization=acme)
        row.project = side
        row.save(update_fields=["project"])
        soon = (timezone.now() + timedelta(seconds=310)).isoformat()
        Door(text).post(make_body(occurred_at=soon))
        later = timezone.now() + timedelta(seconds=60)
        with time_machine.travel(later):
            if by == "person":
                assert rejections.replay(acme.pk, Which(), now=later).taken == 1
            else:
                assert api.replay({"code": "timestamp_in_future"}).json()["taken"] == 1
        (event,) = readings.find_events(acme.pk)
        assert event.project == "side"


class TestPage:
    @pytest.fixture
    def page(self, acme: Organization) -> str:
        return f"/o/{acme.slug}/rejections/"

    def test_it_shows_counts_the_sentence_and_the_event(
        self, door: Door, client: Client, alice: User, page: str
    ) -> None:
        door.post([body(id="evt-<b>", usage={"input": -7}), body(id="x", usage={})])
        client.force_login(alice)
        text = client.get(page).content.decode()
        assert "A quantity is negative" in text
        assert "input -7 is negative" in text.replace("&#x27;", "")
        assert "evt-&lt;b&gt;" in text
        assert "<b>" not in text
        assert "style=" not in text
        assert "<script" not in text.split("<main")[1]
        only = client.get(page, {"code": "quantity_required"}).content.decode()
        assert "input -7" not in only

    def test_a_developer_sends_again_and_a_viewer_may_not(
        self, door: Door, client: Client, alice: User, bob: User, acme: Organization, page: str
    ) -> None:
        door.post(body(project="late"))
        build.make_project(organization=acme, slug="late")
        client.force_login(bob)
        assert "Send again" not in client.get(page).content.decode()
        assert client.post(f"{page}replay/", {"code": "unknown_project"}).status_code == 403
        client.force_login(alice)
        assert "Send again" in client.get(page).content.decode()
        reply = client.post(f"{page}replay/", {"code": "unknown_project"}, follow=True)
        assert "Sent again and counted: 1." in reply.content.decode()
        assert "Nothing was rejected" in reply.content.decode()
        assert "nothing was sent" in client.post(f"{page}replay/", follow=True).content.decode()

    def test_an_empty_page_says_so(
        self, client: Client, alice: User, page: str, empty_meter: None
    ) -> None:
        client.force_login(alice)
        for query in ({}, {"before": "x"}, {"before": "9" * 30}):
            assert "Nothing was rejected" in client.get(page, query).content.decode()
