"""From bytes to events: strict where it must be, the same on the fast way and the careful one."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.ingest import decode
from metering.ingest.decode import Refusal, Sent
from metering.ingest.plain import NotPlain
from metering.usage.event import Rejected, UsageEvent
from tests.meter import make_body

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)
KEY = "kt_abcdefghijkl_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v"
FOREIGN_KEY = "sk-" + "0123456789abcdef" * 2
GOOD = json.dumps(make_body())


def read(body: str | bytes, *, lines: bool = False) -> Sent:
    return decode.decode(body if isinstance(body, bytes) else body.encode(), lines=lines, now=NOW)


def refusal(body: str | bytes, *, lines: bool = False) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(body, lines=lines)
    return caught.value


def fast(body: str, *, lines: bool = False) -> list[Any] | None:
    """What the fast way says; None where it leaves the body to the careful one."""
    try:
        return list(decode._fast(body.encode(), lines=lines, now=NOW))
    except (NotPlain, msgspec.MsgspecError):
        return None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b" \r\n\t", "empty_body"),
        (b"\xef\xbb\xbf{}", "not_utf8"),
        (b'{"id": "\xff"}', "not_utf8"),
        ('{"id": "a"}'.encode("utf-16"), "not_utf8"),
        ("{", "malformed_json"),
        ('{"id": "a",}', "malformed_json"),
        ("{'id': 'a'}", "malformed_json"),
        (f"{GOOD} x", "malformed_json"),
        (f"[{GOOD}", "malformed_json"),
        (f"[{GOOD},]", "malformed_json"),
        ('{"id": "a\nb"}', "malformed_json"),
        ('{"usage": {"input": 01}}', "malformed_json"),
        ('{"usage": {"input": +1}}', "malformed_json"),
        ('{"usage": {"input": NaN}}', "malformed_json"),
        ('{"usage": {"input": -Infinity}}', "malformed_json"),
        ('{"id": "a", "id": "b"}', "duplicate_key"),
        ('{"usage": {"input": 1, "input": 1}}', "duplicate_key"),
        ('{"usage": {"input": 1, "inp\\u0075t": 2}}', "duplicate_key"),
        ("[" * 17 + "]" * 17, "too_deep"),
        ('{"a":' * 17 + "1" + "}" * 17, "too_deep"),
        ("[" * 100_000, "too_deep"),
        ("[" * 5_000 + "]" * 5_000, "too_deep"),
        ("null", "wrong_shape"),
        ("12", "wrong_shape"),
        ('"text"', "wrong_shape"),
        ("true", "wrong_shape"),
        ("[]", "empty_batch"),
        (" [ ] ", "empty_batch"),
        ("[" + ",".join(["{}"] * 1001) + "]", "too_many_events"),
    ],
)
def test_a_body_that_is_not_strict_json_is_refused_whole(body: str | bytes, code: str) -> None:
    problem = refusal(body).problem
    assert problem.code == code
    assert problem.detail.endswith(".")


def test_a_malformed_body_is_told_line_and_column() -> None:
    assert "line 3, column 1" in refusal('[\n{"id": "a"},\n}]').problem.detail


def test_the_place_of_a_bad_byte_is_told() -> None:
    assert "byte 8" in refusal(b'{"id": "\xff"}').problem.detail


def test_a_secret_used_twice_as_a_key_is_not_repeated() -> None:
    assert "A1b2C3" not in refusal(f'{{"{KEY}": 1, "{KEY}": 2}}').problem.detail


def test_an_integer_of_five_thousand_digits_is_a_quantity_that_is_too_large() -> None:
    body = json.dumps(make_body(usage={"input": 0})).replace(": 0}", ": " + "9" * 5000 + "}")
    (event,) = read(body).events
    assert isinstance(event, Rejected)
    assert event.code == "quantity_too_large"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{", "malformed_json"),
        (f"{GOOD},{GOOD}", "malformed_json"),
        (f"{GOOD} {GOOD}", "malformed_json"),
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ("[" * 17 + "]" * 17, "too_deep"),
        (f"[{GOOD}]", "not_an_object"),
        ("null", "not_an_object"),
    ],
)
def test_a_line_that_cannot_be_read_spoils_that_line_alone(line: str, code: str) -> None:
    first, bad, last = read(f"{GOOD}\r\n\n{line}\n{GOOD}\n", lines=True).events
    assert isinstance(first, UsageEvent)
    assert isinstance(last, UsageEvent)
    assert isinstance(bad, Rejected)
    assert (bad.code, bad.pointer) == (code, "/1")
    assert bad.detail.startswith("Line 3: ")


def test_two_half_lines_are_not_one_event() -> None:
    head, tail = GOOD.split(', "source"')
    events = read(f'{GOOD}\n{head}\n"source"{tail}', lines=True).events
    assert [type(event) for event in events] == [UsageEvent, Rejected, Rejected]


@pytest.mark.parametrize(("count", "ok"), [(1, True), (1000, True), (1001, False)])
@pytest.mark.parametrize("lines", [False, True])
def test_a_thousand_events_are_the_most(count: int, ok: bool, lines: bool) -> None:
    body = ("\n" if lines else ",").join([GOOD] * count)
    if ok:
        assert len(read(body if lines else f"[{body}]", lines=lines).events) == count
    else:
        problem = refusal(body if lines else f"[{body}]", lines=lines).problem
        assert (problem.code, problem.extra) == (
            "too_many_events",
            {"limit": 1000, "received": 1001},
        )


def test_one_object_is_pointed_at_without_an_index() -> None:
    (event,) = read(json.dumps(make_body(usage={"input": -1}))).events
    assert isinstance(event, Rejected)
    assert event.pointer == "/usage/input"


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        f"[{GOOD}]",
        f" [ {GOOD} , {GOOD} ] ",
        json.dumps([make_body()], separators=(",", ":")),
        json.dumps([make_body(agent=None, project="default")], indent=2),
        json.dumps([make_body(usage={"somebodys_own": 1, "input": 2})]),
        json.dumps([make_body(id=":", session="a:b-c")], separators=(" ,", "\t: ")),
        json.dumps([make_body(occurred_at="2026-11-18T11:07:30.5+01:00")]),
    ],
)
def test_ordinary_bodies_go_the_fast_way(body: str) -> None:
    careful = decode._careful(body, NOW)
    assert fast(body) == careful == list(read(body).events)


@pytest.mark.parametrize(
    "body",
    [
        '[{"id":"a","id":"a"}]',
        GOOD.replace('"input": 1200', '"input": 1, "input": 1200'),
        GOOD.replace('"input": 1200', '"input" : 1, "input":1200'),
        GOOD.replace('"input": 1200', '"input": -0'),
        GOOD.replace('"input": 1200', '"input":\n-0'),
        GOOD.replace('"id"', '"id": "evt-0", "id"'),
        GOOD.replace('"input": 1200', '"input": 1200, "output": -0'),
        GOOD.replace('"input": 1200', '"input" :1200, "input"\t: 1200'),
        GOOD.replace('"source"', '"source": "a:b", "source"'),
        GOOD.replace('"id"', '"i\\u0064"'),
    ],
)
def test_what_msgspec_would_let_through_is_not_believed(body: str) -> None:
    assert fast(body) is None


NAMES = st.text(st.characters(codec="utf-8"), max_size=4) | st.sampled_from(
    [
        "a",
        "m/1",
        ":",
        '":',
        "\\",
        " ",
        "x ",
        "kt_",
        KEY,
        FOREIGN_KEY,
        "sk-1",
        "é",
        "e\u0301",
        "\x7f",
        "=1",
    ]
)
QUANTITIES = st.integers(-2, 3) | st.sampled_from([10**12, 10**12 + 1, 2**70, 1.0, True, None, "1"])
TIMES = st.sampled_from([
    "2026-11-18T10:07:30Z", "2026-11-18T10:07:30.5+01:00", "2026-11-18T10:07:30",
    "2026-02-30T10:07:30Z", "2026-11-18T10:12:31Z", "2026-W47-3T10:07:30Z", "",
])  # fmt: skip
BODIES = st.fixed_dictionaries(
    {
        "id": NAMES | st.just("evt"),
        "source": NAMES | st.just("gateway"),
        "occurred_at": TIMES,
        "model": NAMES | st.just("model"),
        "usage": st.dictionaries(
            st.sampled_from(["input", "output", "own", "requests", "No", ""]),
            QUANTITIES,
            max_size=3,
        ),
    },
    optional={
        name: NAMES | st.none() for name in ("project", "agent", "session", "region", "api_key")
    }
    | {"prompt": NAMES},
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(BODIES, min_size=1, max_size=4),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    st.booleans(),
    st.booleans(),
)
def test_what_the_fast_way_takes_the_careful_way_takes_alike(
    bodies: list[dict[str, Any]], separators: tuple[str, str], ascii_only: bool, lines: bool
) -> None:
    texts = [json.dumps(body, separators=separators, ensure_ascii=ascii_only) for body in bodies]
    body = "\n".join(texts) if lines else f"[{','.join(texts)}]"
    found = fast(body, lines=lines)
    if found is not None:
        careful = decode._careful_lines(body, NOW) if lines else decode._careful(body, NOW)
        assert found == careful
        assert all(isinstance(event, UsageEvent) for event in careful)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0-1e.\\u ab\n', max_size=60))
def test_no_bytes_at_all_break_the_decoder(body: bytes | str) -> None:
    for lines in (False, True):
        with suppress(Refusal):
            read(body, lines=lines)


@pytest.mark.parametrize("blank", ["\u00a0", "\x1f", "\u2028", "\x0b \x1c"])
def test_a_line_of_what_is_no_blank_in_json_is_no_empty_line(blank: str) -> None:
    """Else a body of such lines were a success that holds no event."""
    (event,) = read(f"{blank}\n", lines=True).events
    assert isinstance(event, Rejected)
    assert event.code == "malformed_json"
