"""Small requests that are read together are answered as if each had been read by itself."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.utils import timezone

from accounts.models import Organization
from metering import news, rejections
from metering.ingest import decode, gather, together
from metering.ingest import door as the_door
from metering.ingest.decode import Refusal
from metering.ingest.door import Admitted
from metering.ingest.request import Request
from metering.ingest.units import Unit, arrived
from metering.models import IngestBatch, Rejection
from metering.readings import find_events
from metering.rejections import Which
from metering.usage.event import Rejected
from tests import build
from tests.meter import empty_meter, make_body

__all__ = ["empty_meter"]


def admitted(key: str) -> Admitted:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    found = the_door.admit(Request("POST", "/api/v1/events", "", headers))
    assert isinstance(found, Admitted)
    return found


@pytest.fixture
def acme_key(empty_meter: None, acme: Organization) -> Admitted:
    return admitted(build.make_key(organization=acme)[1])


@pytest.fixture
def globex_key(empty_meter: None, globex: Organization) -> Admitted:
    return admitted(build.make_key(organization=globex)[1])


def unit(who: Admitted, *bodies: dict[str, Any], text: str | None = None) -> Unit:
    body = (text or json.dumps(bodies[0] if len(bodies) == 1 else bodies)).encode()
    found = arrived(who, body)
    assert found is not None
    return Unit(who.caller, None, arrived=found)


def body(event_id: str, **fields: Any) -> dict[str, Any]:
    return make_body(id=event_id, occurred_at=timezone.now().isoformat(), **fields)


def told(unit: Unit) -> list[str]:
    if unit.taken is None:
        assert isinstance(unit.error, Refusal), unit.error
        return [unit.error.problem.code]
    return [one.code if isinstance(one, Rejected) else one.status for one in unit.taken.verdicts]


def committed(*units: Unit) -> list[list[str]]:
    """What each was told; each exactly once."""
    delivered: list[Unit] = []
    gather.commit(units, delivered.extend)
    assert sorted(map(id, delivered)) == sorted(map(id, units))
    return [told(unit) for unit in units]


def test_plain_requests_are_stored_as_they_were_sent(
    acme_key: Admitted, globex_key: Admitted, acme: Organization
) -> None:
    first = body("a", agent="coder", usage={"input": 3, "own": 4})
    units = [
        unit(acme_key, first),
        unit(globex_key, body("a")),
        unit(acme_key, body("b", session="s:1"), body("c", source="gateway-2")),
    ]
    assert committed(*units) == [["accepted"], ["accepted"], ["accepted", "accepted"]]
    assert IngestBatch.objects.count() == 2
    assert all(one.sent is None for one in units)  # nobody looked at an event by itself
    (event,) = find_events(acme.pk, event_id="a")
    assert (event.agent, dict(event.usage)) == ("coder", {"input": 3, "own": 4})
    (event,) = find_events(acme.pk, event_id="c")
    assert event.source == "gateway-2"


@pytest.mark.parametrize(
    ("odd", "verdict"),
    [
        ({"id": "é"}, "accepted"),
        ({"occurred_at": "2020-01-01T00:00:00Z"}, "timestamp_too_old"),
        ({"model": "bad model"}, "invalid_character"),
        ({"project": "nowhere"}, "unknown_project"),
        ({"agent": "sk-" + "0123456789abcdef" * 2}, "content_not_allowed"),
    ],
)
def test_what_is_odd_spoils_no_neighbour(
    acme_key: Admitted, globex_key: Admitted, odd: dict[str, Any], verdict: str
) -> None:
    units = [
        unit(acme_key, body("before")),
        unit(acme_key, body("odd") | odd),
        unit(acme_key, body("after")),
        unit(globex_key, body("else")),
    ]
    assert committed(*units) == [["accepted"], [verdict], ["accepted"], ["accepted"]]


def test_a_key_that_stands_twice_is_not_made_up_for_by_a_neighbour(acme_key: Admitted) -> None:
    """Colons are counted over all bodies; a name with a colon stands in what is decoded too."""
    twice = json.dumps(body("twice")).replace('"input": ', '"input": 1, "input": ', 1)
    units = [unit(acme_key, body("a:b")), unit(acme_key, text=twice)]
    assert committed(*units) == [["accepted"], ["duplicate_key"]]


def test_replays_and_conflicts_are_told_to_their_own_senders(
    acme_key: Admitted, acme: Organization
) -> None:
    known = body("known")
    assert committed(unit(acme_key, known)) == [["accepted"]]
    units = [
        unit(acme_key, body("new")),
        unit(acme_key, known),
        unit(acme_key, body("other"), known | {"model": "another"}),
    ]
    assert committed(*units) == [["accepted"], ["duplicate"], ["accepted", "conflict"]]
    assert rejections.counts(acme.pk, Which()) == {"event_conflict": 1}
    kept = Rejection.objects.get(organization_id=acme.pk)
    assert (kept.pointer, json.loads(kept.raw)["model"]) == ("", "another")


def test_each_request_is_counted_once_against_its_keys_limit(
    empty_meter: None, acme: Organization
) -> None:
    row, text = build.make_key(organization=acme)
    row.events_per_s_max = 100
    row.save(update_fields=["events_per_s_max"])
    who = admitted(text)
    bucket = who.allowance._buckets["events"]
    who.count(bucket.rate.burst - 3)
    units = [unit(who, body(name), body(name + "2")) for name in "abc"]
    assert committed(*units) == [["accepted"] * 2, ["rate_limited"], ["rate_limited"]]
    bucket.level = bucket.rate.burst * 1_000_000_000
    later = [unit(who, body("a")), unit(who, body("d", model="not plain"))]
    assert committed(*later) == [["conflict"], ["invalid_character"]]
    assert bucket.rate.burst - bucket.remaining() <= 2


def test_what_cannot_be_stored_together_is_tried_alone(
    acme_key: Admitted, globex_key: Admitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = news.store

    def store(own: Any, organization_id: int, api_key_id: int, found: news.News, **more: Any):  # type: ignore[no-untyped-def]
        if {"6261", "626164"}.intersection(found.ids) and len(found.ids) > 1:
            raise psycopg.DataError("no")
        return whole(own, organization_id, api_key_id, found, **more)

    monkeypatch.setattr(together.news, "store", store)
    units = [unit(acme_key, body("a")), unit(acme_key, body("ba")), unit(globex_key, body("c"))]
    assert committed(*units) == [["accepted"]] * 3
    assert IngestBatch.objects.count() == 3


def test_an_event_that_grows_old_while_it_waits_is_judged_when_it_is_read(
    acme_key: Admitted,
) -> None:
    now = acme_key.caller.now()
    limit = now - timedelta(days=35)
    sent = unit(acme_key, body("edge") | {"occurred_at": limit.isoformat()})
    assert sent.arrived
    with pytest.raises(decode.NotPlain):
        decode.plain_of(sent.arrived.wires, sent.arrived.body, now + timedelta(seconds=1))
    decode.plain_of(sent.arrived.wires, sent.arrived.body, now)


def test_whose_names_find_no_room_is_refused_alone(
    acme_key: Admitted, globex_key: Admitted, settings: Any
) -> None:
    settings.INGEST_NAMES_MAX = 1
    units = [
        unit(acme_key, body("a", agent="one")),
        unit(acme_key, body("b", agent="two")),
        unit(globex_key, body("c", agent="one")),
    ]
    verdicts = committed(*units)
    assert sorted(verdicts[:2]) == [["accepted"], ["too_many_names"]]
    assert verdicts[2] == ["accepted"]
