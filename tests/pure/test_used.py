"""How statements on readings begin: slices of time as whole hours and the edges around them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from metering.used import EDGES, HOURS, TABLES, Slice, used_in

MIDNIGHT = datetime(2026, 11, 18, tzinfo=UTC)
QUARTER, HOUR, DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("slices", "tables"),
    [
        ([Slice(MIDNIGHT, MIDNIGHT + DAY)], {HOURS}),
        ([Slice(MIDNIGHT, MIDNIGHT + QUARTER)], {EDGES}),
        ([Slice(MIDNIGHT + QUARTER, MIDNIGHT + DAY)], {HOURS, EDGES}),
        ([Slice(MIDNIGHT, MIDNIGHT)], {HOURS}),
    ],
)
def test_a_table_that_no_slice_needs_is_not_in_the_statement(
    slices: list[Slice], tables: set[str]
) -> None:
    sql, parameters = used_in(slices)
    assert {table for table in TABLES if f"JOIN {table} " in sql} == tables
    assert {name.rpartition("_")[0] for name in parameters} == tables


def test_a_slice_is_its_whole_hours_and_the_edges_around_them() -> None:
    start, end = MIDNIGHT + 3 * QUARTER, MIDNIGHT + 3 * HOUR + QUARTER
    _, parameters = used_in([Slice(MIDNIGHT, MIDNIGHT + HOUR), Slice(start, end)])
    assert parameters == {
        f"{HOURS}_numbers": [0, 1],
        f"{HOURS}_starts": [MIDNIGHT, MIDNIGHT + HOUR],
        f"{HOURS}_ends": [MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR],
        f"{EDGES}_numbers": [1, 1],
        f"{EDGES}_starts": [start, MIDNIGHT + 3 * HOUR],
        f"{EDGES}_ends": [MIDNIGHT + HOUR, end],
    }
