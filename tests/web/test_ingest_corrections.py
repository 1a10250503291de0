"""Corrections and backfills over HTTP: every form, mixed with events, and what each is told."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import ApiKey, Organization
from metering import backfills, rejections
from metering.ingest.cloudevents import BATCH, STRUCTURED
from metering.models import Backfill, IngestBatch
from metering.rejections import Which
from tests import build
from tests.meter import Door, apply_all, door, empty_meter, key, make_body, no_bell, readings_of
from tests.web.test_ingest_cloudevents import cloudevent

__all__ = ["door", "empty_meter", "key", "no_bell"]


@pytest.fixture
def box(door: Door, acme: Organization) -> int:
    """An open backfill for the month that ended a hundred days ago."""
    now = timezone.now()
    return backfills.open_backfill(
        acme, reason="r", start=now - timedelta(days=130), end=now - timedelta(days=100), now=now
    ).id


def body(**fields: Any) -> dict[str, Any]:
    return make_body(**{"occurred_at": timezone.now().isoformat(), **fields})


def old(**fields: Any) -> dict[str, Any]:
    return body(occurred_at=(timezone.now() - timedelta(days=110)).isoformat(), **fields)


def void(target: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"void-{target}", "source": "gateway-1", "voids": target, **fields}


def requests_of(acme: Organization) -> int:
    apply_all()
    return sum(row[-1] for row in readings_of(acme) if row[-2] == "requests")


@pytest.mark.parametrize("form", ["array", "lines", "cloudevents"])
def test_corrections_and_events_come_in_one_batch_in_every_form(
    door: Door, acme: Organization, form: str
) -> None:
    sent = [body(id="a"), void("a"), body(id="b"), body(id="c", amends="b"), void("nowhere")]
    if form == "array":
        reply = door.post(sent)
    elif form == "lines":
        text = "\n".join(map(json.dumps, sent))
        reply = door.post(text.encode(), media_type="application/x-ndjson")
    else:
        reply = door.post([_as_cloudevent(one) for one in sent], media_type=BATCH)
    assert reply.status == 207
    assert reply.codes == ["accepted"] * 4 + ["nothing_to_void"]
    refused = reply.json["events"][4]
    inside = "/data/voids" if form == "cloudevents" else "/voids"
    assert (refused["pointer"], refused["id"]) == (f"/4{inside}", "void-nowhere")
    assert refused["retryable"] is True
    assert (reply.json["accepted"], reply.json["rejected"]) == (4, 1)
    assert requests_of(acme) == 1


def _as_cloudevent(one: dict[str, Any]) -> dict[str, Any]:
    envelope = {name: one[name] for name in ("id", "source")}
    data = {n: v for n, v in one.items() if n not in ("id", "source", "occurred_at")}
    return cloudevent(data=data, **envelope)


def test_a_single_void_is_an_object(door: Door, acme: Organization) -> None:
    door.post(body(id="a"))
    assert door.post(void("a", reason="sent twice")).status == 202
    again = door.post(void("a", reason="sent twice"))
    assert (again.status, again.codes) == (202, ["duplicate"])
    other = door.post(void("a", id="another"))
    assert (other.status, other.codes) == (202, ["duplicate"])
    assert "nothing more is to be done" in other.json["events"][0]["detail"]
    late = door.post(body(id="a", occurred_at=make_body()["occurred_at"]))
    assert late.codes == ["event_conflict"]
    assert requests_of(acme) == 0


def test_a_structured_cloudevent_voids(door: Door, acme: Organization) -> None:
    door.post(cloudevent(id="a"), media_type=STRUCTURED)
    reply = door.post(cloudevent(id="v", data={"voids": "a"}), media_type=STRUCTURED)
    assert reply.codes == ["accepted"]
    assert requests_of(acme) == 0


def test_nothing_of_an_atomic_batch_is_stored_where_a_correction_fails(
    door: Door, acme: Organization
) -> None:
    reply = door.post([body(id="a"), void("a"), void("nowhere")], query="mode=atomic")
    assert (reply.status, reply.codes) == (422, ["batch_refused"] * 2 + ["nothing_to_void"])
    assert requests_of(acme) == 0
    assert not IngestBatch.objects.exists()


def test_a_refused_correction_is_kept_and_can_be_replayed(door: Door, acme: Organization) -> None:
    door.post(void("a"))
    (row,) = rejections.find(acme.pk, Which())
    assert (row.code, row.event_id, row.pointer) == ("nothing_to_void", "void-a", "/voids")
    door.post(body(id="a"))
    done = rejections.replay(acme.pk, Which(code="nothing_to_void"), now=timezone.now())
    assert (done.taken, done.codes) == (1, {"accepted": 1})
    assert requests_of(acme) == 0


def test_a_key_of_one_project_cannot_tell_anothers_event_from_none(
    door: Door, acme: Organization
) -> None:
    row, text = build.make_key(organization=acme)
    other = build.make_project(organization=acme, slug="other")
    ApiKey.objects.filter(pk=row.pk).update(project=other)
    door.post([body(id="theirs")])
    bound = Door(text)
    bound.post([body(id="own")])
    reply = bound.post([void("theirs"), void("nowher"), void("own")])
    assert reply.codes == ["nothing_to_void", "nothing_to_void", "accepted"]
    first, second, _ = reply.json["events"]
    assert first["detail"].replace("theirs", "nowher") == second["detail"]


def test_what_is_too_old_goes_into_a_backfill(door: Door, acme: Organization, box: int) -> None:
    refused = door.post([old(id="a")])
    assert refused.codes == ["timestamp_too_old"]
    assert "backfill" in refused.json["events"][0]["detail"]
    event = old(id="a")
    reply = door.post([event, event, body(id="b"), void("a")], query=f"backfill={box}")
    assert reply.codes == ["accepted", "duplicate", "outside_backfill", "not_in_backfill"]
    assert requests_of(acme) == 0
    (counts,) = backfills.counts([backfills.get(acme.pk, box)]).values()
    assert (counts.submitted, counts.accepted, counts.duplicate, counts.rejected) == (4, 1, 1, 2)
    assert backfills.usage(acme.pk, box) == {"input": 1200, "output": 80}
    backfills.close(acme, box, now=timezone.now())
    assert requests_of(acme) == 1


def test_lines_and_cloudevents_go_into_a_backfill_too(
    door: Door, acme: Organization, box: int
) -> None:
    query = f"backfill={box}&mode=partial"
    lines = "\n".join(json.dumps(old(id=name)) for name in "ab")
    assert door.post(lines.encode(), query=query, media_type="application/x-ndjson").status == 202
    event = cloudevent(id="c", time=old()["occurred_at"])
    assert door.post([event], query=query, media_type=BATCH).codes == ["accepted"]
    assert door.post(event | {"id": "d"}, query=query, media_type=STRUCTURED).codes == ["accepted"]
    backfills.close(acme, box, now=timezone.now())
    assert requests_of(acme) == 4


def test_a_request_of_which_nothing_is_taken_is_counted_too(
    door: Door, acme: Organization, box: int
) -> None:
    assert door.post([body(id="b")], query=f"backfill={box}").status == 422
    (counts,) = backfills.counts([backfills.get(acme.pk, box)]).values()
    assert (counts.submitted, counts.rejected) == (1, 1)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("backfill=x", 400, "invalid_parameter"),
        ("backfill=", 400, "invalid_parameter"),
        ("backfill=-1", 400, "invalid_parameter"),
        ("backfill=1&backfill=1", 400, "invalid_parameter"),
        ("backfill=9999999999999999999", 400, "invalid_parameter"),
        ("backfill=999999999999999999", 404, "unknown_backfill"),
    ],
)
def test_a_backfill_that_cannot_be_is_refused_whole(
    door: Door, query: str, status: int, code: str
) -> None:
    reply = door.post([old()], query=query)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert not IngestBatch.objects.exists()


def test_another_organizations_backfill_is_unknown(
    door: Door, globex: Organization, box: int
) -> None:
    theirs = Door(build.make_key(organization=globex)[1])
    reply = theirs.post([old()], query=f"backfill={box}")
    assert (reply.status, reply.json["code"]) == (404, "unknown_backfill")


@pytest.mark.parametrize("step", [backfills.close, backfills.revert])
def test_a_backfill_that_is_not_open_takes_nothing(
    door: Door, acme: Organization, box: int, step: Any
) -> None:
    step(acme, box, now=timezone.now())
    reply = door.post([old()], query=f"backfill={box}")
    assert (reply.status, reply.json["code"]) == (409, "backfill_not_open")
    assert not IngestBatch.objects.exists()


def test_an_event_of_a_reverted_backfill_is_refused_by_name(
    door: Door, acme: Organization, box: int
) -> None:
    sent = old(id="a")
    door.post([sent], query=f"backfill={box}")
    backfills.revert(acme, box, now=timezone.now())
    now = timezone.now()
    span = {"start": now - timedelta(days=130), "end": now - timedelta(days=100)}
    second = backfills.open_backfill(acme, reason="again", now=now, **span).id
    reply = door.post([sent, old(id="new")], query=f"backfill={second}")
    assert reply.codes == ["event_reverted", "accepted"]
    assert (reply.json["events"][0]["pointer"], reply.json["events"][0]["id"]) == ("/0", "a")
    (row,) = rejections.find(acme.pk, Which())
    assert row.code == "event_reverted"


@pytest.mark.parametrize("step", [None, backfills.close, backfills.revert])
def test_what_was_rejected_in_a_backfill_is_replayed_into_it_or_not_at_all(
    door: Door, acme: Organization, step: Any
) -> None:
    """Young enough to be taken as an ordinary event: then it would count at once."""
    now = timezone.now()
    span = {"start": now - timedelta(days=20), "end": now - timedelta(days=10)}
    number = backfills.open_backfill(acme, reason="r", now=now, **span).id
    sent = body(id="a", project="later", occurred_at=(now - timedelta(days=15)).isoformat())
    assert door.post([sent], query=f"backfill={number}").codes == ["unknown_project"]
    build.make_project(organization=acme, slug="later")
    if step:
        step(acme, number, now=now)
    done = rejections.replay(acme.pk, Which(), now=now)
    assert done.codes == ({"backfill_not_open": 1} if step else {"accepted": 1})
    assert requests_of(acme) == 0
    assert len(rejections.find(acme.pk, Which())) == (1 if step else 0)
    if not step:
        backfills.close(acme, number, now=now)
        assert requests_of(acme) == 1


def test_senders_and_the_one_who_closes_race_and_nothing_is_lost_or_left_over(
    door: Door, acme: Organization, box: int
) -> None:
    """Every event is either in the closed backfill, or its sender was told that it is not."""
    taken: list[int] = []
    refused: list[str] = []
    gate = threading.Barrier(5)

    def report(sender: int) -> None:
        gate.wait()
        for number in range(12):
            reply = door.post([old(id=f"{sender}-{number}")], query=f"backfill={box}")
            if reply.status == 202:
                taken.append(1)
            else:
                refused.append(reply.json["code"])

    threads = [threading.Thread(target=report, args=[sender]) for sender in range(4)]
    for thread in threads:
        thread.start()
    gate.wait()
    backfills.close(acme, box, now=timezone.now())
    for thread in threads:
        thread.join()
    assert len(taken) + len(refused) == 48
    assert set(refused) <= {"backfill_not_open"}
    assert requests_of(acme) == len(taken)
    assert not IngestBatch.objects.filter(state=IngestBatch.State.HELD).exists()
    assert Backfill.objects.get().state == "closed"
    connection.close()
