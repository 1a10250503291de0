"""Every way in which one event can be wrong, by the code it is told."""

from datetime import UTC, datetime, timedelta

import pytest

from metering.ingest.decode import parse
from metering.usage import registers
from metering.usage.event import Rejected, read
from tests.bad_input.events import EVENTS, Row
from tests.bad_input.forms import written
from tests.meter import make_body, make_event

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)
# What needs the door's database to be found out is found out there.
ALONE = [row for row in EVENTS if row.code != "unknown_project"]


@pytest.mark.parametrize("row", ALONE, ids=[f"B-{row.number}-{row.rule}" for row in ALONE])
def test_a_bad_event_is_told_what_and_where(row: Row) -> None:
    with pytest.raises(Rejected) as caught:
        read(parse(written(make_body(**row.fields))), now=NOW)
    rejected = caught.value
    assert (rejected.code, rejected.pointer) == (row.code, row.pointer)
    assert rejected.retryable == row.retryable
    assert "A1b2C3d4" not in rejected.detail + rejected.pointer


@pytest.mark.parametrize("value", [None, 1, "x", [], [make_body()], True])
def test_an_event_is_an_object(value: object) -> None:
    with pytest.raises(Rejected) as caught:
        read(value, now=NOW)
    assert caught.value.code == "not_an_object"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "x"},
        {"id": "x" * 128},
        {"id": "a b"},
        {"id": "Größe-日本"},
        {"id": 'a\\b"c'},
        {"occurred_at": "2026-11-18T10:12:30Z"},
        {"occurred_at": "2026-10-14T10:07:30Z"},
        {"occurred_at": "2026-11-18T10:07:30.123456+05:45"},
        {"occurred_at": "2026-11-18T10:07:30-00:00"},
        {"usage": {"input": 0}},
        {"usage": {"input": 10**12}},
        {"usage": {"somebodys_own": 3}},
        {"usage": {f"r{n}": 1 for n in range(16)}},
        {"agent": None, "session": None, "region": None, "project": None},
        {"model": "accounts/acme/models/llama-4@2026:fp8"},
        {"service_class": "batch", "region": "eu-central-1", "api_key": "abcdefghijkl"},
    ],
)
def test_what_is_allowed_is_kept_as_it_was_sent(fields: dict[str, object]) -> None:
    event = make_event(now=NOW, **fields)
    for name, value in fields.items():
        if name != "occurred_at":
            assert getattr(event, name) == value


def test_an_instant_is_kept_in_utc_with_its_microseconds() -> None:
    event = make_event(now=NOW, occurred_at="2026-11-18T12:07:30.000001+02:00")
    assert event.occurred_at == datetime(2026, 11, 18, 10, 7, 30, 1, tzinfo=UTC)
    assert event.occurred_at.utcoffset() == timedelta(0)


def test_a_misspelt_field_is_told_what_was_probably_meant() -> None:
    with pytest.raises(Rejected, match="Did you mean 'occurred_at'"):
        read(make_body(occured_at="x"), now=NOW)


def test_what_was_received_is_cut_short() -> None:
    with pytest.raises(Rejected) as caught:
        read(make_body(usage={"input": "9" * 4000}), now=NOW)
    assert len(caught.value.detail) < 300


def test_every_code_of_an_event_has_a_page() -> None:
    from accounts.problems import KINDS

    for code in {row.code for row in EVENTS} | {
        "not_an_object", "unknown_project", "event_conflict", "batch_refused",
    }:  # fmt: skip
        assert KINDS[code].status == 422, code


class TestRegisters:
    def test_the_five_core_registers_come_first_and_are_known(self) -> None:
        assert registers.CORE == ("input", "cache_read", "cache_write", "output", "reasoning")
        assert set(registers.CORE) <= registers.KNOWN.keys()

    @pytest.mark.parametrize(
        ("register", "token"),
        [("input", True), ("somebodys_own", True), ("requests", False), ("web_search", False)],
    )
    def test_what_is_not_known_to_be_something_else_counts_tokens(
        self, register: str, token: bool
    ) -> None:
        assert registers.is_token(register) is token

    def test_unknown_registers_have_a_label_too(self) -> None:
        assert registers.label("somebodys_own") == "Somebodys own"
