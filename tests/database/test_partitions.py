"""Every event has a partition of its own week, made before it is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from accounts.models import Organization
from console import health
from metering import partitions, readings, segments
from metering.segments import Columns
from metering.tasks import make_event_partitions
from tests.meter import database, empty_meter, make_event, store_events

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]
FAR = datetime(2031, 5, 14, 12, tzinfo=UTC)  # a Wednesday in a year nobody made partitions for


@pytest.mark.parametrize(
    ("now", "first"),
    [
        (datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 16, tzinfo=UTC)),
        (datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC), datetime(2026, 11, 16, tzinfo=UTC)),
        (datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        (datetime(2023, 12, 31, 12, tzinfo=UTC), datetime(2023, 12, 25, tzinfo=UTC)),
    ],
)
def test_weeks_begin_on_monday_in_utc_and_follow_each_other(now: datetime, first: datetime) -> None:
    weeks = partitions.weeks(now)
    assert weeks[0] == first
    assert [one - weeks[0] for one in weeks] == [timedelta(weeks=n) for n in range(4)]


def test_missing_weeks_are_made_and_existing_ones_left(db: None) -> None:
    with transaction.atomic():
        made = partitions.ensure(connection, FAR)
        assert made == [f"metering_segment_2031_w{week}" for week in (20, 21, 22, 23)]
        assert partitions.ensure(connection, FAR) == []
        assert len(partitions.ensure(connection, FAR + timedelta(weeks=1))) == 1


def test_a_partition_has_the_guards_and_the_index_of_the_whole(db: None) -> None:
    with connection.cursor() as cursor:
        partitions.ensure(connection, FAR)
        of_this = "WHERE {}relid = %s::regclass AND"
        for question in (
            f"SELECT tgname FROM pg_trigger {of_this.format('tg')} tgtype & 1 = 1 ORDER BY 1",
            f"SELECT count(*) FROM pg_index {of_this.format('ind')} true",
            f"SELECT conname FROM pg_constraint {of_this.format('con')} contype = 'c' ORDER BY 1",
        ):
            found = []
            for table in ("metering_segment", "metering_segment_2031_w20"):
                cursor.execute(question, [table])
                found.append(cursor.fetchall())
            assert found[0] == found[1] != []


def test_events_received_now_do_not_overflow(
    database: Database, acme: Organization, now: datetime
) -> None:
    make_event_partitions()
    store_events(database, acme, [make_event(now=now)])
    assert readings.freshness().overflow_events == 0


def test_the_console_lists_the_partitions_that_events_lie_in(db: None) -> None:
    make_event_partitions()
    shown = {partition.name for partition in health.partitions()}
    weeks = {f"{start:%G_w%V}" for start in partitions.weeks(datetime.now(UTC))}
    assert weeks < shown
    assert "overflow" in shown


def test_what_overflowed_is_counted_and_keeps_its_week_from_being_made(
    database: Database, acme: Organization
) -> None:
    segments.write(database, acme.pk, 1, FAR, Columns([0], [FAR.isoformat()], [1], [None], [{}]))
    assert readings.freshness().overflow_events == 1
    try:
        with transaction.atomic():
            made = partitions.ensure(connection, FAR)
            assert made == [f"metering_segment_2031_w{week}" for week in (21, 22, 23)]
            transaction.set_rollback(True)
    finally:
        database.execute("TRUNCATE metering_segment")
