"""Every way in which one event can be wrong, by the code it is told."""

from datetime import UTC, datetime, timedelta

import pytest

from metering.usage import registers
from metering.usage.event import OddNumber, Rejected, read
from tests.meter import make_body, make_event

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)
KEY = "kt_abcdefghijkl_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v"

# field and value, code, where
REJECTIONS = [
    ({"id": ...}, "id_required", "/id"),
    ({"id": ""}, "id_required", "/id"),
    ({"id": None}, "id_required", "/id"),
    ({"id": " "}, "id_invalid", "/id"),
    ({"id": 123}, "id_not_string", "/id"),
    ({"id": True}, "id_not_string", "/id"),
    ({"id": ["a"]}, "id_not_string", "/id"),
    ({"id": OddNumber("1.5")}, "id_not_string", "/id"),
    ({"id": "x" * 129}, "id_invalid", "/id"),
    ({"id": " a"}, "id_invalid", "/id"),
    ({"id": "a "}, "id_invalid", "/id"),
    ({"id": "a\u00a0"}, "id_invalid", "/id"),
    ({"id": "a\nb"}, "id_invalid", "/id"),
    ({"id": "a\x00b"}, "id_invalid", "/id"),
    ({"id": "a\x7fb"}, "id_invalid", "/id"),
    ({"id": "a\u202eb"}, "id_invalid", "/id"),
    ({"id": "a\u200bb"}, "id_invalid", "/id"),
    ({"id": "a\ud800b"}, "id_invalid", "/id"),
    ({"id": "e\u0301"}, "id_invalid", "/id"),  # not NFC
    ({"id": f"call {KEY}"}, "content_not_allowed", "/id"),
    ({"source": ...}, "source_invalid", "/source"),
    ({"source": 7}, "source_invalid", "/source"),
    ({"source": "a\tb"}, "source_invalid", "/source"),
    ({"occurred_at": ...}, "time_required", "/occurred_at"),
    ({"occurred_at": None}, "time_required", "/occurred_at"),
    ({"occurred_at": ""}, "time_required", "/occurred_at"),
    ({"occurred_at": 1763460450}, "time_format", "/occurred_at"),
    ({"occurred_at": OddNumber("1.7e9")}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-11-18"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-11-18T10:07:30"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-11-18 10:07:30Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-11-18t10:07:30z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-W47-3T10:07:30Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "20261118T100730Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-11-18T10:07Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-11-18T10:07:30.1234567Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-11-18T10:07:30,5Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": " 2026-11-18T10:07:30Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "\u0662026-11-18T10:07:30Z"}, "time_format", "/occurred_at"),
    ({"occurred_at": "2026-02-29T10:07:30Z"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "2026-11-31T10:07:30Z"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "2026-13-01T10:07:30Z"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "2026-11-18T24:00:00Z"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "2026-11-18T10:07:60Z"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "2026-11-18T10:07:30+25:00"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "0000-01-01T00:00:00Z"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "9999-12-31T23:59:59Z"}, "time_invalid", "/occurred_at"),
    ({"occurred_at": "2026-11-18T10:12:31Z"}, "timestamp_in_future", "/occurred_at"),
    ({"occurred_at": "2026-11-18T12:12:31+02:00"}, "timestamp_in_future", "/occurred_at"),
    ({"occurred_at": "2026-10-14T10:07:29Z"}, "timestamp_too_old", "/occurred_at"),
    ({"occurred_at": "1970-01-01T00:00:00Z"}, "timestamp_too_old", "/occurred_at"),
    ({"model": ...}, "model_required", "/model"),
    ({"model": None}, "model_required", "/model"),
    ({"model": ""}, "invalid_character", "/model"),
    ({"model": 4}, "wrong_type", "/model"),
    ({"model": "a b"}, "invalid_character", "/model"),
    ({"model": "a\u202eb"}, "invalid_character", "/model"),
    ({"model": "<b>"}, "invalid_character", "/model"),
    ({"model": "=cmd()"}, "invalid_character", "/model"),
    ({"model": "x" * 129}, "too_long", "/model"),
    ({"project": "a/b"}, "invalid_character", "/project"),
    ({"agent": {"a": 1}}, "wrong_type", "/agent"),
    ({"agent": "x" * 500}, "too_long", "/agent"),
    ({"session": "a\x00"}, "invalid_character", "/session"),
    ({"session": "a\n"}, "invalid_character", "/session"),
    ({"region": "eu west"}, "invalid_character", "/region"),
    ({"service_class": "Batch!"}, "invalid_character", "/service_class"),
    ({"api_key": KEY}, "content_not_allowed", "/api_key"),
    ({"usage": ...}, "quantity_required", "/usage"),
    ({"usage": None}, "quantity_required", "/usage"),
    ({"usage": {}}, "quantity_required", "/usage"),
    ({"usage": []}, "wrong_type", "/usage"),
    ({"usage": 12}, "wrong_type", "/usage"),
    ({"usage": {f"r{n}": 1 for n in range(17)}}, "too_many_registers", "/usage"),
    ({"usage": {"requests": 1}}, "field_not_allowed", "/usage/requests"),
    ({"usage": {"Input": 1}}, "register_invalid", "/usage/Input"),
    ({"usage": {"a" * 41: 1}}, "register_invalid", f"/usage/{'a' * 41}"),
    ({"usage": {"a/b": 1}}, "register_invalid", "/usage/a~1b"),
    ({"usage": {"": 1}}, "register_invalid", "/usage/"),
    ({"usage": {KEY: 1}}, "content_not_allowed", "/usage"),
    ({"usage": {"input": "12"}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": " 12 "}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": "1_0"}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": "١٢"}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": "0x10"}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": "1e3"}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": OddNumber("12.0")}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": OddNumber("12.5")}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": OddNumber("1e3")}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": OddNumber("-0")}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": OddNumber("-0.0")}}, "not_an_integer", "/usage/input"),
    ({"usage": {"input": -1}}, "negative_quantity", "/usage/input"),
    ({"usage": {"input": OddNumber("-" + "9" * 40)}}, "negative_quantity", "/usage/input"),
    ({"usage": {"input": 10**12 + 1}}, "quantity_too_large", "/usage/input"),
    ({"usage": {"input": 2**63}}, "quantity_too_large", "/usage/input"),
    ({"usage": {"input": OddNumber("9" * 400)}}, "quantity_too_large", "/usage/input"),
    ({"usage": {"input": OddNumber("9" * 5000)}}, "quantity_too_large", "/usage/input"),
    ({"usage": {"input": OddNumber("1e400")}}, "not_finite", "/usage/input"),
    ({"usage": {"input": OddNumber("1e1000000000000")}}, "not_finite", "/usage/input"),
    ({"usage": {"input": "NaN"}}, "not_finite", "/usage/input"),
    ({"usage": {"input": "-Infinity"}}, "not_finite", "/usage/input"),
    ({"usage": {"input": True}}, "wrong_type", "/usage/input"),
    ({"usage": {"input": None}}, "wrong_type", "/usage/input"),
    ({"usage": {"input": []}}, "wrong_type", "/usage/input"),
    ({"usage": {"input": {}}}, "wrong_type", "/usage/input"),
    ({"modell": "x"}, "unknown_field", "/modell"),
    ({"tokens": 12}, "unknown_field", "/tokens"),
    ({"a/b~c": 12}, "unknown_field", "/a~1b~0c"),
    ({"organization": 1}, "field_not_allowed", "/organization"),
    ({"price": 1}, "field_not_allowed", "/price"),
    ({"received_at": "x"}, "field_not_allowed", "/received_at"),
    ({"prompt": "Tell me"}, "content_not_allowed", "/prompt"),
    ({"messages": []}, "content_not_allowed", "/messages"),
]


@pytest.mark.parametrize(("fields", "code", "pointer"), REJECTIONS)
def test_a_bad_event_is_told_what_and_where(
    fields: dict[str, object], code: str, pointer: str
) -> None:
    with pytest.raises(Rejected) as caught:
        read(make_body(**fields), now=NOW)
    rejected = caught.value
    assert (rejected.code, rejected.pointer) == (code, pointer)
    assert rejected.detail.endswith((".", "?"))
    assert rejected.detail.isascii()
    assert len(rejected.detail) < 420
    assert "A1b2C3d4" not in rejected.detail + rejected.pointer
    assert rejected.retryable == (code == "timestamp_in_future")


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

    for code in {code for _, code, _ in REJECTIONS} | {
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
