"""The ingestion door over WSGI: who may send, what is answered; no failure loses or lies."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import ApiKey, Organization, Project
from metering import readings, rejections
from metering.ingest import callers, decode, doorbell, pool
from metering.ingest import door as the_door
from metering.rejections import Which
from tests import build
from tests.meter import Door, Reply, apply_all, connect, door, empty_meter, key, make_body, no_bell

__all__ = ["door", "empty_meter", "key", "no_bell"]


def body(**fields: Any) -> dict[str, Any]:
    """An event of just now: the door asks the database what time it is."""
    return make_body(occurred_at=timezone.now().isoformat(), **fields)


def problem(reply: Reply, status: int, code: str) -> dict[str, Any]:
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["X-Request-Id"] == reply.json["request_id"]
    assert reply.json["status"] == status
    return dict(reply.json)


def test_an_accepted_event_is_found_priced_by_its_key_and_summed(
    door: Door, acme: Organization
) -> None:
    reply = door.post(body())
    assert reply.status == 202
    assert reply.json == {
        "request_id": reply.headers["X-Request-Id"],
        "batch_id": reply.json["batch_id"],
        "submitted": 1,
        "accepted": 1,
        "duplicate": 0,
        "conflict": 0,
        "rejected": 0,
        "events": [{"index": 0, "id": "evt-1", "status": "accepted"}],
    }
    (event,) = readings.find_events(acme.pk)
    assert event.batch_id == reply.json["batch_id"]
    apply_all()
    assert readings.event_count(acme.pk) == 1


@pytest.mark.parametrize(
    "media_type",
    ["application/x-ndjson", "application/ndjson", "application/x-ndjson; charset=UTF-8"],
)
def test_ndjson_is_taken_too(door: Door, media_type: str) -> None:
    lines = "\n".join(json.dumps(body(id=str(number))) for number in range(3))
    reply = door.post(lines.encode(), media_type=media_type)
    assert (reply.status, reply.json["accepted"]) == (202, 3)


def test_each_event_gets_its_own_verdict(door: Door) -> None:
    once = body(id="old")
    door.post(once)
    reply = door.post([
        body(id="new"),
        once,
        {**once, "usage": {"input": 1}},
        body(id="bad", usage={"input": -1}),
        body(id="lost", project="nowhere"),
    ])  # fmt: skip
    assert reply.status == 207
    counts = {name: reply.json[name] for name in ("submitted", "accepted", "duplicate", "conflict")}
    assert counts == {"submitted": 5, "accepted": 1, "duplicate": 1, "conflict": 1}
    assert reply.json["rejected"] == 2
    assert reply.codes == [
        "accepted", "duplicate", "event_conflict", "negative_quantity", "unknown_project",
    ]  # fmt: skip
    assert [event["index"] for event in reply.json["events"]] == [0, 1, 2, 3, 4]
    assert reply.json["events"][3]["pointer"] == "/3/usage/input"
    again = door.post([body(id="other"), {**once, "usage": {"input": 1}}], query="only=errors")
    assert again.codes == ["event_conflict"]


def test_nothing_accepted_is_422_and_a_replay_is_a_success(door: Door) -> None:
    assert door.post(body(usage={})).status == 422
    once = [body(id=str(number)) for number in range(5)]
    assert door.post(once).status == 202
    replay = door.post(once)
    assert (replay.status, replay.json["duplicate"]) == (202, 5)


def test_a_rejected_event_may_come_back_mended(door: Door) -> None:
    assert door.post(body(usage={"input": -1})).status == 422
    assert door.post(body(usage={"input": 1})).json["accepted"] == 1


def test_atomic_takes_all_or_nothing(door: Door, acme: Organization) -> None:
    mixed = [body(id="a"), body(id="b", usage={})]
    reply = door.post(mixed, query="mode=atomic")
    assert (reply.status, reply.codes) == (422, ["batch_refused", "quantity_required"])
    door.post(body(id="c"))
    reply = door.post([body(id="a"), body(id="c", usage={"input": 7})], query="mode=atomic")
    assert (reply.status, reply.codes) == (422, ["batch_refused", "event_conflict"])
    assert [event.id for event in readings.find_events(acme.pk)] == ["c"]
    assert door.post([body(id="a")], query="mode=atomic&only=all").status == 202


def test_atomic_takes_lines_only_where_a_cut_would_show(door: Door, acme: Organization) -> None:
    """A chunked body that breaks off reaches us as if it had ended there."""
    lines = b"".join(json.dumps(body(id=name)).encode() + b"\n" for name in "ab")
    cut = {"media_type": "application/x-ndjson", "CONTENT_LENGTH": ""}
    problem(door.post(lines, query="mode=atomic", **cut), 400, "invalid_parameter")
    assert readings.find_events(acme.pk) == []
    assert door.post(lines, **cut).status == 202
    whole = door.post(lines, query="mode=atomic", media_type="application/x-ndjson")
    assert (whole.status, whole.json["duplicate"]) == (202, 2)


def test_a_key_in_the_wrong_place_is_not_echoed(door: Door) -> None:
    for query in (f"mode={door.key}", f"{door.key}=1"):
        reply = door.post(body(), query=query)
        assert door.key[17:30] not in json.dumps(problem(reply, 400, "invalid_parameter"))
    reply = door.call({"REQUEST_METHOD": "GET", "PATH_INFO": f"/{door.key}"})
    assert door.key[17:30] not in json.dumps(problem(reply, 404, "not_found"))


class TestWhoMaySend:
    @pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer ", "kt_x_y"])
    def test_without_a_key_nothing_is_taken(self, header: str) -> None:
        reply = Door("").post(body(), HTTP_AUTHORIZATION=header)
        problem(reply, 401, "missing_credentials")
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")

    def test_unknown_wrong_revoked_and_expired_keys_are_told_the_same(
        self, key: tuple[ApiKey, str], acme: Organization
    ) -> None:
        row, text = key
        revoked, revoked_text = build.make_key(organization=acme)
        revoked.revoked_at = timezone.now()
        revoked.save(update_fields=["revoked_at"])
        expired, expired_text = build.make_key(organization=acme)
        ApiKey.objects.filter(pk=expired.pk).update(
            created_at=timezone.now() - timedelta(days=2),
            expires_at=timezone.now() - timedelta(days=1),
        )
        wrong = text[:-1] + ("a" if text[-1] != "a" else "b")
        unknown = f"kt_zzzzzzzzzzzz_{'a' * 43}"
        told = set()
        for each in (wrong, unknown, revoked_text, expired_text, "nonsense", "kt_ü", text + "x"):
            document = problem(Door(each).post(body()), 401, "invalid_api_key")
            del document["request_id"]
            told.add(json.dumps(document))
            assert row.prefix not in json.dumps(document)
        assert len(told) == 1

    def test_a_key_needs_the_scope_and_its_organization_must_be_active(
        self, acme: Organization, empty_meter: None
    ) -> None:
        _, reader = build.make_key(organization=acme, scopes=("read",))
        problem(Door(reader).post(body()), 403, "scope_missing")
        _, sender = build.make_key(organization=acme)
        Organization.objects.filter(pk=acme.pk).update(state="suspended")
        problem(Door(sender).post(body()), 403, "organization_suspended")

    def test_a_revoked_key_is_refused_within_two_seconds(
        self, key: tuple[ApiKey, str], door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moment = [time.monotonic()]
        monkeypatch.setattr(callers.time, "monotonic", lambda: moment[0])
        assert door.post(body(id="a")).status == 202
        ApiKey.objects.filter(pk=key[0].pk).update(revoked_at=timezone.now())
        moment[0] += 2.01
        problem(door.post(body(id="b")), 401, "invalid_api_key")

    def test_who_is_looked_up_is_known_from_then_on(
        self, key: tuple[ApiKey, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else every request of the last moments of a belief is sent to the threads for nothing."""
        moment = [time.monotonic()]
        monkeypatch.setattr(callers.time, "monotonic", lambda: moment[0])
        for later_s in (0, 1.95, 2.05):
            moment[0] += later_s
            assert not the_door.callers.remembers(key[1])
            assert the_door.callers.find(key[1], renew=True)
            assert the_door.callers.remembers(key[1])

    def test_use_is_noted_at_most_once_a_minute(self, key: tuple[ApiKey, str], door: Door) -> None:
        row = key[0]
        door.post(body(id="a"))
        row.refresh_from_db()
        first = row.last_used_at
        assert first
        the_door.callers.forget()
        door.post(body(id="b"))
        row.refresh_from_db()
        assert row.last_used_at == first

    def test_a_project_that_is_not_ours_reads_like_one_that_never_was(
        self, door: Door, acme: Organization, globex: Organization
    ) -> None:
        build.make_project(organization=globex, slug="secret")
        build.make_project(organization=acme, slug="old")
        Project.objects.filter(slug="old").update(archived_at=timezone.now())
        told = set()
        for slug in ("secret", "old", "never-was"):
            reply = door.post([body(project=slug)])
            assert reply.codes == ["unknown_project"]
            told.add(reply.json["events"][0]["detail"].replace(slug, ""))
        assert len(told) == 1

    def test_a_new_project_is_known_at_once(self, door: Door, acme: Organization) -> None:
        assert door.post(body(project="fresh")).codes == ["unknown_project"]
        build.make_project(organization=acme, slug="fresh")
        assert door.post(body(project="fresh")).json["accepted"] == 1

    def test_a_key_of_one_project_reports_for_no_other(
        self, acme: Organization, empty_meter: None
    ) -> None:
        build.make_project(organization=acme, slug="research")
        row, text = build.make_key(organization=acme)
        ApiKey.objects.filter(pk=row.pk).update(
            project=Project.objects.get(organization=acme, slug="research")
        )
        door = Door(text)
        assert door.post(body(id="a")).status == 202
        assert door.post(body(id="b", project="research")).status == 202
        assert door.post(body(id="c", project="default")).codes == ["unknown_project"]
        assert {event.project for event in readings.find_events(acme.pk)} == {"research"}

    def test_a_conflict_with_another_projects_event_tells_nothing_of_it(
        self, door: Door, acme: Organization
    ) -> None:
        side = build.make_project(organization=acme, slug="side")
        row, text = build.make_key(organization=acme)
        ApiKey.objects.filter(pk=row.pk).update(project=side)
        door.post(body(id="a", model="of-research", usage={"input": 4711}, session="secret-run"))
        reply = Door(text).post(body(id="a", model="m", usage={"input": 1}))
        assert reply.codes == ["event_conflict"]
        detail = reply.json["events"][0]["detail"]
        assert "with other content: project. The first one stands." in detail
        (kept,) = rejections.find(acme.pk, Which())
        for secret in ("4711", "of-research", "secret-run"):
            assert secret not in detail + kept.detail

    def test_two_organizations_never_collide(self, door: Door, globex: Organization) -> None:
        _, other = build.make_key(organization=globex)
        event = body()
        assert door.post(event).json["accepted"] == 1
        assert Door(other).post(event).json["accepted"] == 1


class TestEnvelope:
    """Refused before any event is looked at; none of these reaches the events' tables."""

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
    def test_only_post_is_taken(self, method: str) -> None:
        reply = Door("").post(b"", REQUEST_METHOD=method)
        problem(reply, 405, "method_not_allowed")
        assert reply.headers["Allow"] == "POST"

    @pytest.mark.parametrize("path", ["/api/v1/events/", "/api/v1/event", "/", "//api/v1/events"])
    def test_there_is_nothing_at_other_addresses(self, path: str) -> None:
        problem(Door("").post(b"{}", PATH_INFO=path), 404, "not_found")

    def test_healthz_asks_nobody(self) -> None:
        reply = Door("").post(b"", REQUEST_METHOD="GET", PATH_INFO="/healthz")
        assert (reply.status, reply.json) == (200, {"status": "alive"})
        problem(Door("").post(b"", PATH_INFO="/healthz"), 405, "method_not_allowed")

    @pytest.mark.parametrize(
        "media_type",
        [
            "",
            "text/plain",
            "application/xml",
            "application/json; charset=latin-1",
            "multipart/json",
        ],
    )
    def test_other_media_types_are_refused(self, door: Door, media_type: str) -> None:
        problem(door.post(body(), media_type=media_type), 415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/json; charset=utf-8",
            'Application/JSON; Charset="UTF-8"',
            "application/json;",
        ],
    )
    def test_parameters_of_the_media_type_are_accepted(self, door: Door, media_type: str) -> None:
        assert door.post(body(), media_type=media_type).status == 202

    @pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip, identity", "x"])
    def test_other_encodings_are_refused_and_those_we_take_are_named(
        self, door: Door, encoding: str
    ) -> None:
        reply = door.post(body(), HTTP_CONTENT_ENCODING=encoding)
        problem(reply, 415, "unsupported_encoding")
        assert reply.headers["Accept-Encoding"] == "gzip, zstd"

    @pytest.mark.parametrize(
        "query",
        ["mode=partial&mode=atomic", "colour=red", "mode=maybe", "only=", "mode"],
    )
    def test_unknown_repeated_and_wrong_parameters_are_refused(
        self, door: Door, query: str
    ) -> None:
        problem(door.post(body(), query=query), 400, "invalid_parameter")

    def test_a_body_that_says_it_is_too_large_is_refused_unread(self, door: Door) -> None:
        class Unread:
            def read(self, size: int) -> bytes:
                raise AssertionError("nobody asked for it")

        reply = door.post(
            b"", CONTENT_LENGTH=str(decode.BODY_BYTES_MAX + 1), **{"wsgi.input": Unread()}
        )
        document = problem(reply, 413, "body_too_large")
        assert (document["limit"], document["received"]) == (5_242_880, 5_242_881)

    def test_a_body_in_chunks_is_read_no_further_than_the_limit(self, door: Door) -> None:
        class Endless:
            served = 0

            def read(self, size: int) -> bytes:
                self.served += size
                return b" " * size

        stream = Endless()
        reply = door.post(b"", CONTENT_LENGTH="", **{"wsgi.input": stream})
        problem(reply, 413, "body_too_large")
        assert stream.served <= decode.BODY_BYTES_MAX + 1

    def test_a_body_in_chunks_is_taken(self, door: Door) -> None:
        data = io.BytesIO(json.dumps(body()).encode())
        assert door.post(b"", CONTENT_LENGTH="", **{"wsgi.input": data}).status == 202

    def test_a_sender_that_goes_away_half_way_leaves_nothing(
        self, door: Door, acme: Organization
    ) -> None:
        data = json.dumps([body()]).encode()
        reply = door.post(data, CONTENT_LENGTH=str(len(data) + 1))
        problem(reply, 408, "request_timeout")
        assert readings.find_events(acme.pk) == []

    @pytest.mark.parametrize("length", ["-1", "1e3", "ten", "1" * 30])
    def test_a_length_that_is_no_number_is_refused(self, door: Door, length: str) -> None:
        assert door.post(body(), CONTENT_LENGTH=length).status in (400, 413)

    @pytest.mark.parametrize(
        ("data", "status", "code"),
        [
            (b"", 400, "empty_body"),
            (b"\xff\xfe{}", 400, "not_utf8"),
            (b"{", 400, "malformed_json"),
            (b'{"a":1,"a":1}', 400, "duplicate_key"),
            (b"[" * 50 + b"]" * 50, 400, "too_deep"),
            (b"12", 400, "wrong_shape"),
            (b"[]", 422, "empty_batch"),
            (b"[" + b",".join([b"{}"] * 1001) + b"]", 413, "too_many_events"),
        ],
    )
    def test_a_bad_body_is_refused_whole(
        self, door: Door, data: bytes, status: int, code: str
    ) -> None:
        problem(door.post(data), status, code)

    def test_the_key_is_checked_before_the_body(self, empty_meter: None) -> None:
        problem(Door("nonsense").post(b"{", media_type="text/plain"), 401, "invalid_api_key")

    def test_a_whole_key_in_a_body_is_neither_kept_nor_repeated(
        self, door: Door, key: tuple[ApiKey, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        reply = door.post([body(id=key[1]), body(session=key[1]), {key[1]: 1}])
        assert key[1].encode() not in reply.body
        assert reply.codes[0] == "content_not_allowed"
        assert key[1] not in caplog.text


class TestOutages:
    """A database that cannot be had is a 503; nothing is stored, nothing is lost."""

    @pytest.fixture(autouse=True)
    def _quiet(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        with caplog.at_level(logging.CRITICAL):
            yield

    def unavailable(self, reply: Reply) -> None:
        problem(reply, 503, "temporarily_unavailable")
        assert int(reply.headers["Retry-After"]) > 0

    def test_no_database(self, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        pool.close()
        monkeypatch.setattr(pool, "WAIT_S", 0.2)
        monkeypatch.setattr(pool, "conninfo", lambda: "host=/nowhere dbname=x")
        self.unavailable(door.post(body()))
        pool.close()
        monkeypatch.undo()
        assert door.post(body()).status == 202

    def test_no_free_connection(self, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool, "WAIT_S", 0.2)
        monkeypatch.setattr(pool, "SIZE_MAX", 1)
        pool.close()
        with pool.pool().connection():
            self.unavailable(door.post(body()))
        assert door.post(body()).status == 202

    def test_a_locked_table(
        self, door: Door, acme: Organization, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            pool, "OPTIONS", pool.OPTIONS.replace("lock_timeout=5s", "lock_timeout=50ms")
        )
        pool.close()
        with connect() as own, own.transaction():
            own.execute("LOCK TABLE metering_segment IN ACCESS EXCLUSIVE MODE")
            self.unavailable(door.post(body()))
        assert readings.find_events(acme.pk) == []
        assert door.post(body()).status == 202

    def test_a_key_whose_row_is_locked_is_no_reason_to_refuse(
        self, door: Door, key: tuple[ApiKey, str]
    ) -> None:
        with connect() as own, own.transaction():
            own.execute("SELECT FROM accounts_apikey FOR UPDATE")
            assert door.post(body()).status == 202

    def test_connections_that_the_server_closed_are_not_used(self, door: Door) -> None:
        """As after a restart: the first sender must not pay for it."""
        assert door.post(body(id="a")).status == 202
        with connect() as own:
            own.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'ingest' AND pid <> pg_backend_pid()"
                " AND datname = current_database()"
            )
        the_door.callers.forget()
        assert door.post(body(id="b")).status == 202

    def test_an_error_of_our_own_is_a_500_without_a_trace_of_it(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise psycopg.ProgrammingError("SELECT secret_column")

        monkeypatch.setattr("metering.news.store", broken)
        reply = door.post(body())
        problem(reply, 500, "internal_error")
        assert b"secret_column" not in reply.body


class TestDoorbell:
    def test_a_broker_that_is_down_neither_fails_nor_slows_a_request(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bell is rung by a thread of its own: here it hangs for ever, and nobody waits."""
        called, never = threading.Event(), threading.Event()

        def hang(*_: object) -> None:
            called.set()
            never.wait(5)
            raise OSError("no broker")

        monkeypatch.undo()  # the real bell
        monkeypatch.setattr(doorbell, "_send", hang)
        monkeypatch.setattr(doorbell, "_owner", 0)
        assert door.post(body(id="a")).status == 202
        assert called.wait(5)
        assert door.post(body(id="b")).status == 202
        never.set()


def test_the_door_opens_without_django_being_set_up() -> None:
    """Granian imports it by itself; Django's models are never loaded for it."""
    script = (
        "import sys; from metering.ingest.app import application;"
        "assert 'rest_framework' not in sys.modules;"
        "from django.apps import apps; assert not apps.ready"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_thousand_events_in_one_request(door: Door, acme: Organization) -> None:
    events = [body(id=str(number)) for number in range(1000)]
    reply = door.post(events, query="only=errors")
    assert (reply.status, reply.json["accepted"], reply.json["events"]) == (202, 1000, [])
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM metering_event WHERE organization_id = %s", [acme.pk])
        assert cursor.fetchone() == (1000,)
