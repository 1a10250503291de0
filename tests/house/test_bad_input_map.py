"""Each row B-01 to B-71 of RELIABILITY 6.2 is held by a test, or it is said here why it is not."""

from __future__ import annotations

import re
from pathlib import Path

from tests.bad_input.events import EVENTS, TEXTS
from tests.bad_input.requests import BODIES, ENVELOPES
from tests.web.test_bad_input_identity import ACCEPTED, FLAGGED

TESTS = Path(__file__).resolve().parents[1]

# Rows that are courses of things rather than one fault: the tests that hold them.
COURSES = {
    2: "test_keys_that_are_no_more_good_are_told_what_unknown_ones_are",
    3: "test_keys_that_are_no_more_good_are_told_what_unknown_ones_are",
    4: "test_a_key_without_the_scope_is_told_which",
    5: "test_its_events_are_kept_and_counted_after_the_replay",
    6: "test_beyond_its_events_a_key_is_told_to_wait_and_nothing_is_stored",
    7: "test_no_database",
    23: "test_what_is_not_strict_json_spoils_its_line_or_the_whole_body",
    27: "test_the_same_event_twice_in_a_batch_counts_once",
    28: "test_another_event_under_the_same_id_in_a_batch_is_a_conflict",
    29: "test_what_was_accepted_before_is_a_duplicate_and_a_success",
    30: "test_another_content_under_a_known_id_is_a_conflict_with_both_values",
    31: "test_an_id_that_was_rejected_is_free",
    62: "test_beyond_so_many_names_only_events_that_bring_another_are_refused",
    64: "test_what_takes_nothing_back_takes_no_id_either",
    65: "test_an_amendment_moves_usage_across_closed_invoices_to_another_model_and_price",
    66: "test_one_bad_cloudevent_is_rejected_alone",
    69: "test_an_idempotency_key_changes_nothing",
}
ELSEWHERE = {
    71: "shapes of HTTP/1.1 that two parsers read differently are the proxy's and the server's",
}


def test_every_row_of_the_bad_input_table_is_held_or_explained() -> None:
    in_tables = {row.number for table in (EVENTS, TEXTS, ENVELOPES, BODIES) for row in table}
    in_tables |= {number for number, *_ in (*ACCEPTED, *FLAGGED)}
    assert in_tables | COURSES.keys() | ELSEWHERE.keys() == set(range(1, 72))
    assert not in_tables & ELSEWHERE.keys()


def test_every_test_that_holds_a_row_exists() -> None:
    named = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    written = set(re.findall(r"def (test_\w+)\(", named))
    assert sorted(set(COURSES.values()) - written) == []
