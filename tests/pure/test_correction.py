"""What a void and an amendment must look like, and what a backfill takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing import catalog
from metering.ingest import cloudevents, decode
from metering.usage import correction
from metering.usage.correction import Correction, Span
from metering.usage.event import Rejected, UsageEvent
from tests.meter import make_body
from tests.web.test_ingest_cloudevents import cloudevent

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)
KEY = "kt_abcdefghijkl_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v"
VOID = {"id": "v-1", "source": "gw", "voids": "evt-7", "reason": "sent twice"}
JULY = Span(datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 8, 1, tzinfo=UTC))


def read(body: object, **more: Any) -> Any:
    return correction.read(body, now=NOW, **more)


def refused(body: object, **more: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(body, **more)
    assert caught.value.detail.endswith((".", "?"))
    return caught.value


def test_a_void_names_an_event_of_its_own_source() -> None:
    assert read(VOID) == Correction("v-1", "gw", "evt-7", "sent twice", None)
    assert read({**VOID, "reason": None}).reason is None
    assert read({name: VOID[name] for name in ("id", "source", "voids")}).reason is None


def test_an_amendment_is_a_whole_event_and_names_the_one_it_replaces() -> None:
    body = make_body(id="evt-8", amends="evt-7", reason="wrong model", model="b")
    found = read(body)
    assert (found.id, found.target, found.reason) == ("evt-8", "evt-7", "wrong model")
    assert found.event == read(make_body(id="evt-8", model="b"))


def test_an_amendment_may_be_older_than_an_event_may() -> None:
    old = (NOW - timedelta(days=300)).isoformat()
    assert refused(make_body(occurred_at=old)).code == "timestamp_too_old"
    assert read(make_body(occurred_at=old, amends="evt-0")).event.occurred_at < NOW


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"voids": ""}, "id_required", "/voids"),
        ({"voids": None}, "id_required", "/voids"),
        ({"voids": 7}, "id_not_string", "/voids"),
        ({"voids": " evt-7"}, "id_invalid", "/voids"),
        ({"voids": "e" * 129}, "id_invalid", "/voids"),
        ({"voids": KEY}, "content_not_allowed", "/voids"),
        ({"id": ""}, "id_required", "/id"),
        ({"source": 1}, "source_invalid", "/source"),
        ({"usage": {"input": 1}}, "unknown_field", "/usage"),
        ({"occurred_at": NOW.isoformat()}, "unknown_field", "/occurred_at"),
        ({"amends": "evt-7"}, "unknown_field", "/amends"),
        ({"prompt": "hello"}, "content_not_allowed", "/prompt"),
        ({"organization": 1}, "field_not_allowed", "/organization"),
        ({"void": "x"}, "unknown_field", "/void"),
        ({"reason": 1}, "wrong_type", "/reason"),
        ({"reason": ["a"]}, "wrong_type", "/reason"),
        ({"reason": "r" * 201}, "too_long", "/reason"),
        ({"reason": "a\nb"}, "invalid_character", "/reason"),
        ({"reason": "a\u202eb"}, "invalid_character", "/reason"),
        ({"reason": KEY}, "content_not_allowed", "/reason"),
    ],
)
def test_a_wrong_void_is_refused_by_name(change: dict[str, Any], code: str, pointer: str) -> None:
    rejected = refused({**VOID, **change})
    assert (rejected.code, rejected.pointer) == (code, pointer)
    assert KEY not in rejected.detail


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"amends": ""}, "id_required", "/amends"),
        ({"amends": {}}, "id_not_string", "/amends"),
        ({"usage": {"input": -1}}, "negative_quantity", "/usage/input"),
        ({"model": ...}, "model_required", "/model"),
        ({"voids": "evt-7"}, "unknown_field", "/occurred_at"),
        ({"occurred_at": "2026-11-18T11:00:00Z"}, "timestamp_in_future", "/occurred_at"),
        ({"reason": 1}, "wrong_type", "/reason"),
    ],
)
def test_a_wrong_amendment_is_refused_as_the_event_would_be(
    change: dict[str, Any], code: str, pointer: str
) -> None:
    rejected = refused(make_body(**{"amends": "evt-0", **change}))
    assert (rejected.code, rejected.pointer) == (code, pointer)


def test_a_reason_belongs_to_a_correction() -> None:
    assert refused(make_body(reason="why")).code == "unknown_field"


def test_a_backfill_takes_what_happened_in_its_time_and_nothing_else() -> None:
    def at(moment: str) -> str:
        body = make_body(occurred_at=moment)
        found = decode.decode(json.dumps(body).encode(), lines=False, now=NOW, backfill=JULY)
        (event,) = found.events
        return event.code if isinstance(event, Rejected) else "taken"

    assert at("2026-07-01T00:00:00Z") == "taken"
    assert at("2026-07-31T23:59:59.999999Z") == "taken"
    assert at("2026-08-01T00:00:00Z") == "outside_backfill"
    assert at("2026-06-30T23:59:59.999999Z") == "outside_backfill"
    assert at("2026-11-18T11:00:00Z") == "timestamp_in_future"


def test_a_backfill_takes_no_corrections() -> None:
    assert refused(VOID, backfill=JULY).code == "not_in_backfill"
    rejected = refused(make_body(amends="evt-0"), backfill=JULY)
    assert (rejected.code, rejected.pointer) == ("not_in_backfill", "/amends")


@pytest.mark.parametrize("lines", [False, True])
def test_corrections_come_mixed_with_events(lines: bool) -> None:
    sent = [make_body(), VOID, make_body(id="evt-8", amends="evt-7"), {**VOID, "voids": 1}]
    text = "\n".join(map(json.dumps, sent)) if lines else json.dumps(sent)
    found = decode.decode(text.encode(), lines=lines, now=NOW).events
    assert [type(one) for one in found] == [UsageEvent, Correction, Correction, Rejected]


def test_a_cloudevent_may_carry_a_correction() -> None:
    void = cloudevent(data={"voids": "evt-7"})
    found = cloudevents.read(void, now=NOW)
    assert isinstance(found, Correction)
    assert (found.target, found.event) == ("evt-7", None)
    wrong = cloudevent(data={"voids": "evt-7", "usage": {"input": 1}})
    with pytest.raises(Rejected) as caught:
        cloudevents.read(wrong, now=NOW)
    assert caught.value.pointer == "/data/usage"


def test_usage_is_corrected_as_long_as_prices_are() -> None:
    assert correction.CORRECTION_AGE_MAX == catalog.CORRECTION_AGE_MAX
    assert correction.too_old(NOW - timedelta(days=367), NOW)
    assert not correction.too_old(NOW - timedelta(days=366), NOW)
