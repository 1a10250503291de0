"""Limits per key at the door, and what becomes of the usage of a suspended organization."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey, AuditEntry, Organization, User
from accounts.refusals import Refusal
from metering import names, readings, rejections
from metering.ingest import door as the_door
from metering.ingest.limits import NS
from metering.rejections import Which
from tests import build
from tests.conftest import NOW
from tests.meter import Door, Reply, apply_all, empty_meter, make_body, no_bell
from tests.web.portal_acme import signed_in, text_of, words_in
from tests.web.test_ingest_traces import Exporter, chat, export

__all__ = ["empty_meter", "no_bell"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seconds that the door's buckets go by; they stand until a test moves them."""
    moment = [0]
    monkeypatch.setattr(the_door.time, "monotonic_ns", lambda: moment[0] * NS)
    return moment


@pytest.fixture
def limited(empty_meter: None, acme: Organization, clock: list[int]) -> Door:
    """A key that may send 100 events a second, and hence 1,000 at once."""
    key, text = build.make_key(organization=acme)
    api_keys.limit(api_key=key, events_per_s_max=100, bytes_per_s_max=None, actor=None)
    return Door(text)


def events(count: int, prefix: str = "e") -> list[dict[str, Any]]:
    return [
        make_body(id=f"{prefix}-{number}", occurred_at=timezone.now().isoformat())
        for number in range(count)
    ]


def refused(reply: Reply) -> dict[str, Any]:
    assert (reply.status, reply.json["code"]) == (429, "rate_limited")
    assert reply.headers["Retry-After"] == str(reply.json["retry_after_s"])
    return dict(reply.json)


def test_beyond_its_events_a_key_is_told_to_wait_and_nothing_is_stored(
    limited: Door, acme: Organization, clock: list[int]
) -> None:
    assert limited.post(events(950, "a")).status == 202
    said = refused(limited.post(events(60, "b")))
    assert (said["limit"], said["remaining"], said["retry_after_s"]) == (100, 50, 1)
    apply_all()
    assert readings.event_count(acme.pk) == 950
    assert limited.post(events(50, "c")).status == 202
    clock[0] += 1
    assert limited.post(events(60, "b")).status == 202
    apply_all()
    assert readings.event_count(acme.pk) == 1060


def test_every_answer_to_a_good_key_says_what_is_left(limited: Door) -> None:
    reply = limited.post(events(10))
    assert (
        reply.headers["RateLimit"]
        == '"events";r=990;t=1, "bytes";r='
        + str(200_000_000 - len(json.dumps(events(10))))
        + ";t=1"
    )
    assert reply.headers["RateLimit-Policy"].startswith('"events";q=1000;w=10;qu="events", ')
    assert reply.headers["Accept-Encoding"] == "gzip, zstd"
    assert "RateLimit" in limited.post(b"{").headers
    assert "RateLimit" not in Door("kt_nobody").post(events(1)).headers


def test_another_key_of_the_same_organization_has_a_limit_of_its_own(
    limited: Door, acme: Organization
) -> None:
    limited.post(events(1000, "a"))
    refused(limited.post(events(1, "b")))
    assert Door(build.make_key(organization=acme)[1]).post(events(1, "b")).status == 202


def test_bytes_are_counted_before_the_body_is_read(
    empty_meter: None, acme: Organization, clock: list[int]
) -> None:
    class Unread:
        def read(self, size: int) -> bytes:
            raise AssertionError("nobody asked for it")

    key, text = build.make_key(organization=acme)
    api_keys.limit(api_key=key, events_per_s_max=None, bytes_per_s_max=1_000, actor=None)
    door = Door(text)
    door.post(b" " * 5_242_880)
    said = refused(door.post(b"", CONTENT_LENGTH="2500", **{"wsgi.input": Unread()}))
    assert (said["unit"], said["limit"], said["retry_after_s"]) == ("bytes_per_s", 1_000, 3)
    chunked: dict[str, Any] = {"CONTENT_LENGTH": "", "wsgi.input": io.BytesIO(b" " * 2500)}
    refused(door.post(b"", **chunked))
    clock[0] += 3
    chunked["wsgi.input"].seek(0)
    assert door.post(b"", **chunked).json["code"] == "empty_body"  # white space


def test_a_limit_of_zero_in_the_settings_is_no_limit(
    empty_meter: None, acme: Organization, clock: list[int], settings: Any
) -> None:
    settings.INGEST_EVENTS_PER_S = settings.INGEST_BYTES_PER_S = 0
    reply = Door(build.make_key(organization=acme)[1]).post(events(1000))
    assert reply.status == 202
    assert "RateLimit" not in reply.headers


def test_an_exporter_is_told_in_its_own_words(
    empty_meter: None, acme: Organization, clock: list[int]
) -> None:
    key, text = build.make_key(organization=acme)
    api_keys.limit(api_key=key, events_per_s_max=1, bytes_per_s_max=None, actor=None)
    Door(text).post(events(1000))
    reply = Exporter(Door(text), "protobuf").send(export(chat()))
    assert (reply.status, reply.headers["Retry-After"]) == (429, "1")


class TestSuspended:
    """What a suspended organization sends is not counted, and not lost."""

    @pytest.fixture
    def door(self, empty_meter: None, acme: Organization) -> Door:
        door = Door(build.make_key(organization=acme)[1])
        self.move(acme, "suspended")
        return door

    @staticmethod
    def move(acme: Organization, state: str) -> None:
        Organization.objects.filter(pk=acme.pk).update(state=state)
        the_door.callers.forget()

    def test_its_events_are_kept_and_counted_after_the_replay(
        self, door: Door, acme: Organization
    ) -> None:
        sent = [*events(3), make_body(id="bad", usage={"input": -1}, occurred_at=NOW.isoformat())]
        reply = door.post(sent)
        assert (reply.status, reply.json["code"]) == (403, "organization_suspended")
        assert "4 events were kept" in reply.json["detail"]
        assert rejections.counts(acme.pk, Which()) == {
            "organization_suspended": 3, "negative_quantity": 1,
        }  # fmt: skip
        assert readings.find_events(acme.pk) == []
        which = Which(code="organization_suspended")
        with pytest.raises(Refusal, match="Replay once it is active again"):
            rejections.replay(acme.pk, which, now=timezone.now())
        self.move(acme, "active")
        assert rejections.replay(acme.pk, which, now=timezone.now()).taken == 3
        apply_all()
        assert readings.event_count(acme.pk) == 3
        assert door.post(sent[:3]).json["duplicate"] == 3

    def test_all_or_nothing_keeps_all(self, door: Door, acme: Organization) -> None:
        assert door.post(events(2), query="mode=atomic").status == 403
        assert rejections.counts(acme.pk, Which()) == {"organization_suspended": 2}

    def test_spans_are_kept_too(self, door: Door, acme: Organization) -> None:
        reply = Exporter(door, "json").send(export(chat()))
        assert reply.status == 403
        assert rejections.counts(acme.pk, Which()) == {"organization_suspended": 1}

    @pytest.mark.parametrize(
        ("body", "media_type"), [(b"{", "application/json"), (b"<x/>", "text/xml"), (b"", "")]
    )
    def test_what_cannot_be_read_is_refused_for_the_suspension_all_the_same(
        self, door: Door, acme: Organization, body: bytes, media_type: str
    ) -> None:
        reply = door.post(body, media_type=media_type)
        assert (reply.status, reply.json["code"]) == (403, "organization_suspended")
        assert "Nothing in this request could be kept" in reply.json["detail"]
        assert rejections.counts(acme.pk, Which()) == {}

    def test_the_page_of_rejections_says_when_it_can_be_sent_again(
        self, door: Door, acme: Organization, alice: User
    ) -> None:
        door.post(events(1))
        client: Client = signed_in(alice)
        data = {"code": "organization_suspended"}
        page = client.post("/o/acme/rejections/replay/", data, follow=True)
        assert "Replay once it is active again" in words_in(page.content.decode())
        assert rejections.counts(acme.pk, Which()) == {"organization_suspended": 1}


class TestSetting:
    """Who may say how much a key may send."""

    FORM = {"events_per_s_max": "500", "bytes_per_s_max": ""}

    @pytest.fixture
    def key(self, acme: Organization) -> ApiKey:
        return build.make_key(organization=acme)[0]

    def test_an_owner_limits_a_key_on_its_page(self, key: ApiKey, alice: User) -> None:
        client = signed_in(alice)
        assert "20,000 events/s" in text_of(client, "/o/acme/keys/")
        page = client.post(f"/o/acme/keys/{key.prefix}/limits/", self.FORM, follow=True)
        assert "test has other limits from now on." in words_in(page.content.decode())
        assert "500 events/s" in text_of(client, "/o/acme/keys/")
        key.refresh_from_db()
        assert (key.events_per_s_max, key.bytes_per_s_max) == (500, None)
        entry = AuditEntry.objects.get(action="api_key.limited")
        assert (entry.actor, entry.subject) == (alice, key.prefix)
        assert entry.detail["events_per_s_max"] == {"before": None, "after": 500}
        again = client.post(f"/o/acme/keys/{key.prefix}/limits/", self.FORM, follow=True)
        assert "has these limits already" in words_in(again.content.decode())
        assert AuditEntry.objects.filter(action="api_key.limited").count() == 1

    @pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
    def test_others_see_the_limits_and_may_not_change_them(
        self, key: ApiKey, acme: Organization, bob: User, role: str
    ) -> None:
        acme.members.filter(user=bob).update(role=role)
        client = signed_in(bob)
        page = client.get("/o/acme/keys/").content.decode()
        assert "events/s" in words_in(page)
        assert "/limits/" not in page
        assert client.post(f"/o/acme/keys/{key.prefix}/limits/", self.FORM).status_code == 403
        key.refresh_from_db()
        assert key.events_per_s_max is None

    @pytest.mark.parametrize("value", ["0", "-1", "20001", "1.5", "many"])
    def test_a_member_asks_for_no_more_than_every_key_has(
        self, key: ApiKey, alice: User, value: str
    ) -> None:
        form = {**self.FORM, "events_per_s_max": value}
        assert signed_in(alice).post(f"/o/acme/keys/{key.prefix}/limits/", form).status_code == 422
        key.refresh_from_db()
        assert key.events_per_s_max is None

    def test_what_staff_granted_a_member_may_keep(self, key: ApiKey, alice: User) -> None:
        api_keys.cap(api_key=key, events_per_s_cap=90_000, bytes_per_s_cap=None, actor=None)
        form = {"events_per_s_max": "90000", "bytes_per_s_max": "1000000"}
        assert signed_in(alice).post(f"/o/acme/keys/{key.prefix}/limits/", form).status_code == 302
        key.refresh_from_db()
        assert (key.events_per_s_max, key.bytes_per_s_max) == (90_000, 1_000_000)

    @pytest.mark.parametrize("value", ["", "101"])
    def test_an_owner_neither_clears_nor_raises_what_staff_set(
        self, key: ApiKey, alice: User, value: str
    ) -> None:
        api_keys.cap(api_key=key, events_per_s_cap=100, bytes_per_s_cap=None, actor=None)
        client = signed_in(alice)
        assert "The operator allows 100 at most." in text_of(client, "/o/acme/keys/")
        form = {**self.FORM, "events_per_s_max": value}
        assert client.post(f"/o/acme/keys/{key.prefix}/limits/", form).status_code == 422
        with pytest.raises(Refusal, match="The operator allows this key 100"):
            api_keys.limit(
                api_key=key,
                events_per_s_max=int(value) if value else None,
                bytes_per_s_max=None,
                actor=alice,
            )
        key.refresh_from_db()
        assert (key.events_per_s_max, key.events_per_s_cap) == (100, 100)

    def test_an_owner_asks_for_less_than_staff_allow_and_again_for_all_of_it(
        self, key: ApiKey, alice: User
    ) -> None:
        api_keys.cap(api_key=key, events_per_s_cap=100, bytes_per_s_cap=None, actor=None)
        for value in (40, 100):
            api_keys.limit(api_key=key, events_per_s_max=value, bytes_per_s_max=None, actor=alice)
            key.refresh_from_db()
            assert (key.events_per_s_max, key.events_per_s_cap) == (value, 100)

    @pytest.mark.parametrize(
        ("asked", "cap", "holds"),
        [(None, 100, 100), (40, 100, 40), (400, 100, 100), (40, None, 40), (None, None, None)],
    )
    def test_a_cap_holds_at_once_unless_less_was_asked_for(
        self, key: ApiKey, asked: int | None, cap: int | None, holds: int | None
    ) -> None:
        api_keys.limit(api_key=key, events_per_s_max=asked, bytes_per_s_max=None, actor=None)
        api_keys.cap(api_key=key, events_per_s_cap=cap, bytes_per_s_cap=None, actor=None)
        key.refresh_from_db()
        assert (key.events_per_s_max, key.events_per_s_cap) == (holds, cap)

    def test_a_cap_that_is_taken_back_leaves_what_the_settings_say(self, key: ApiKey) -> None:
        for cap in (100, None):
            api_keys.cap(api_key=key, events_per_s_cap=cap, bytes_per_s_cap=None, actor=None)
        key.refresh_from_db()
        assert (key.events_per_s_max, key.events_per_s_cap) == (None, None)

    @pytest.mark.parametrize("limit", [None, 101])
    def test_the_database_holds_a_limit_within_its_cap(
        self, key: ApiKey, limit: int | None
    ) -> None:
        for unit in ("events", "bytes"):
            fields = {f"{unit}_per_s_max": limit, f"{unit}_per_s_cap": 100}
            with pytest.raises(IntegrityError, match="limit_within_cap"), transaction.atomic():
                ApiKey.objects.filter(pk=key.pk).update(**fields)

    def test_a_revoked_key_has_nothing_to_limit(self, key: ApiKey) -> None:
        api_keys.revoke(api_key=key, actor=None, now=NOW)
        with pytest.raises(Refusal, match="revoked"):
            api_keys.limit(api_key=key, events_per_s_max=1, bytes_per_s_max=1, actor=None)

    @pytest.mark.parametrize("column", ["events_per_s_max", "bytes_per_s_max"])
    def test_the_database_knows_that_a_limit_is_positive(self, key: ApiKey, column: str) -> None:
        with pytest.raises(IntegrityError, match="limit_is_positive"), transaction.atomic():
            ApiKey.objects.filter(pk=key.pk).update(**{column: 0})


def named(known: list[dict[str, Any]], *agents: str) -> list[dict[str, Any]]:
    return [event | {"agent": agent} for event, agent in zip(known, agents, strict=True)]


@pytest.mark.parametrize("mode", ["partial", "atomic"])
def test_beyond_so_many_names_only_events_that_bring_another_are_refused(
    limited: Door, acme: Organization, settings: Any, mode: str
) -> None:
    """B-62."""
    settings.INGEST_NAMES_MAX = 3
    assert limited.post(named(events(3), "run-0", "run-1", "run-2")).status == 202
    for remembered in (True, False):
        if not remembered:
            names.forget()  # another process knows nothing
        source = f"more-{remembered}"
        sent = named(events(3, source), "run-1", "run-3", "run-2")
        reply = limited.post(sent, query=f"mode={mode}")
        assert reply.status == (207 if mode == "partial" else 422)
        first, bad, last = reply.json["events"]
        assert (bad["code"], bad["pointer"]) == ("too_many_names", "/1/agent")
        assert bad["retryable"]
        assert "has 3 different combinations of project, model" in bad["detail"]
        assert "differ most in agent (3 values); here agent is 'run-3'" in bad["detail"]
        assert len(bad["detail"]) < 450
        expected = ("accepted", None) if mode == "partial" else ("rejected", "batch_refused")
        assert [(one["status"], one.get("code")) for one in (first, last)] == [expected] * 2
    apply_all()
    assert readings.event_count(acme.pk) == (7 if mode == "partial" else 3)


def test_as_many_new_names_are_taken_as_there_is_room_for(limited: Door, settings: Any) -> None:
    settings.INGEST_NAMES_MAX = 3
    sent = named(events(5), *"dbeca")
    reply = limited.post(sent)
    assert (reply.status, reply.json["accepted"], reply.json["rejected"]) == (207, 3, 2)
    stored = [one["index"] for one in reply.json["events"] if one["status"] == "accepted"]
    again = limited.post(sent)
    assert (again.json["duplicate"], again.json["rejected"]) == (3, 2)
    assert [one["index"] for one in again.json["events"] if one["status"] == "duplicate"] == stored


def test_what_found_no_room_is_kept_and_replayed_once_there_is_some(
    limited: Door, acme: Organization, settings: Any
) -> None:
    settings.INGEST_NAMES_MAX = 1
    reply = limited.post(named(events(3), "a", "b", "a"))
    assert (reply.json["accepted"], reply.json["rejected"]) == (2, 1)
    which = Which(code="too_many_names")
    assert rejections.counts(acme.pk, which) == {"too_many_names": 1}
    settings.INGEST_NAMES_MAX = 2
    names.forget()  # or two seconds later
    replayed = rejections.replay(acme.pk, which, now=timezone.now())
    assert replayed.taken == 1
    apply_all()
    assert readings.event_count(acme.pk) == 3


def test_who_is_full_is_not_counted_again_for_a_moment(
    limited: Door, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.INGEST_NAMES_MAX = 1
    assert limited.post(named(events(2), "a", "b")).status == 207
    monkeypatch.setattr(names, "ATTRIBUTIONS", "this is no statement")
    assert limited.post(named(events(2, "more"), "a", "b")).status == 207
    monkeypatch.setattr(names, "FULL_BELIEVED_S", -1.0)
    assert limited.post(named(events(2, "then"), "a", "b")).status == 500


def test_there_is_a_limit_to_sources_too(limited: Door, settings: Any) -> None:
    settings.INGEST_NAMES_MAX = 1
    first, second, third = events(3)
    assert limited.post(first).status == 202
    reply = limited.post([first, second | {"source": "another"}, third])
    assert (reply.json["accepted"], reply.json["duplicate"]) == (1, 1)
    (bad,) = [one for one in reply.json["events"] if one["status"] == "rejected"]
    assert (bad["code"], bad["pointer"]) == ("too_many_names", "/1/source")
    assert "has 1 different sources" in bad["detail"]
    void = {"id": "v", "source": "a third", "voids": "nothing"}
    assert limited.post([void]).json["events"][0]["code"] == "too_many_names"
