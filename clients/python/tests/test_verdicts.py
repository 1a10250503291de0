from __future__ import annotations

import json
from typing import Any

import pytest

from kilotoken.posting import Answer, _events_url
from kilotoken.verdicts import (
    Held,
    Later,
    Plain,
    Split,
    Taken,
    pause_s,
    refusals,
    takes_gzip,
    verdict,
)

NOW_S = 1_794_996_450.0  # 2026-11-18T10:07:30Z


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    return Answer(status, headers, b"" if body is None else json.dumps(body).encode())


def counted(**counts: Any) -> dict[str, Any]:
    none = dict.fromkeys(("submitted", "accepted", "duplicate", "conflict", "rejected"), 0)
    return {**none, "events": [], **counts}


BAD = {"index": 1, "id": "b", "status": "rejected", "code": "time_invalid", "retryable": False}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(verdict(answer(status), 1, now_s=NOW_S), Later)


@pytest.mark.parametrize(
    ("asked", "after_s"),
    [("7", 7.0), ("Wed, 18 Nov 2026 10:07:40 GMT", 10.0), ("999999", 3600.0), ("soon", 0.0),
     ("Wed, 18 Nov 2026 10:00:00 GMT", 0.0), ("", 0.0)],
)  # fmt: skip
def test_retry_after_is_honoured_within_reason(asked: str, after_s: float) -> None:
    said = verdict(Answer(503, {"retry-after": asked}), 1, now_s=NOW_S)
    assert isinstance(said, Later)
    assert said.after_s == after_s


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"code": "invalid_api_key"}),
        (403, {"code": "scope_missing"}),
        (404, None),
        (302, None),
        (400, {"code": "invalid_parameter"}),
        (400, "<html>a proxy's own page</html>"),
        (200, {"ok": True}),
        (202, counted(submitted=2)),  # does not add up
        (202, counted(submitted=3, accepted=3)),  # not what was sent
        (207, counted(submitted=2, accepted=1, rejected=1)),  # does not say which
        (207, counted(submitted=2, accepted=1, rejected=1, events=[{**BAD, "index": 2}])),
        (202, counted(submitted=2, accepted="2")),
    ],
)
def test_what_sending_again_cannot_help_holds_the_spool(status: int, body: Any) -> None:
    assert isinstance(verdict(answer(status, body), 2, now_s=NOW_S), Held)


def test_outcomes_are_read_event_by_event() -> None:
    body = counted(submitted=2, duplicate=1, rejected=1, events=[BAD])
    said = verdict(answer(207, body), 2, now_s=NOW_S)
    assert said == Taken(accepted=0, duplicate=1, errors={1: BAD})
    assert refusals(Taken(0, 0, {0: {**BAD, "retryable": True}, 1: BAD})) == [0]


def test_an_event_that_spoils_a_batch_is_looked_for_only_on_our_servers_word() -> None:
    said = verdict(answer(400, {"code": "duplicate_key", "detail": "x"}), 2, now_s=NOW_S)
    assert said == Split("duplicate_key", "x", certain=True)
    assert verdict(answer(413), 2, now_s=NOW_S) == Split("body_too_large", "", certain=False)


def test_a_refused_encoding_means_plain() -> None:
    assert verdict(answer(415, {"code": "unsupported_encoding"}), 1, now_s=NOW_S) == Plain()
    said = verdict(answer(415, {"code": "unsupported_media_type"}), 1, now_s=NOW_S)
    assert isinstance(said, Held)


def test_a_server_says_that_it_takes_gzip() -> None:
    assert takes_gzip(answer(202, **{"accept-encoding": "br, gzip;q=1"}))
    assert not takes_gzip(answer(202))


def test_pauses_grow_and_are_spread_over_their_whole_length() -> None:
    assert [pause_s(n, 0, 1.0, first_s=1, most_s=60) for n in (0, 1, 2, 9)] == [1, 2, 4, 60]
    assert pause_s(5, 7.0, 0.0, first_s=1, most_s=60) == 7.0


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("https://m.example", "/api/v1/events"),
        ("https://m.example/", "/api/v1/events"),
        ("https://m.example/api/v1/events", "/api/v1/events"),
        ("https://m.example/behind/", "/behind/api/v1/events"),
    ],
)
def test_an_address_may_be_given_with_or_without_its_path(given: str, path: str) -> None:
    assert _events_url(given).path == path


def test_what_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no address"):
        _events_url("meter.example.com")
