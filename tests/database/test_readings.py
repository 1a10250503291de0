"""The one window: what was used in a period, in a zone, by what, whatever the clocks do."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.models import Organization
from metering import readings
from metering.readings import Query, Row, Slice
from tests import build
from tests.meter import apply_all, database, empty_meter, make_event, store_events

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]
DAY = timedelta(days=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def use(
    organization: Organization, at: str, quantity: int = 10, register: str = "input", **key: Any
) -> None:
    """Put a reading straight where the roll-up would."""
    empty = {"api_key": "", "agent": "", "region": "", "service_class": "", "attributes": ""}
    fields = {"model": "m", "input_band": 0, "thinking": False} | empty | key
    project = fields.pop("project", None) or organization.projects.get(slug="default")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO metering_ratingkey AS k (organization_id, project_id, model, api_key,"
            " agent, region, service_class, input_band, thinking, attributes)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT ON CONSTRAINT rating_key_once DO UPDATE SET model = k.model RETURNING id",
            [organization.pk, project.pk, *(fields[name] for name in (
                "model", "api_key", "agent", "region", "service_class", "input_band", "thinking",
                "attributes"))],
        )  # fmt: skip
        cursor.execute(
            "INSERT INTO metering_reading VALUES (%s, %s, %s, %s, %s)",
            [organization.pk, utc(at), cursor.fetchone()[0], register, quantity],
        )
    make_hours()


def make_hours() -> None:
    """Add the readings up by the hour, as the roll-up would."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM metering_readinghour")
        cursor.execute(
            "INSERT INTO metering_readinghour SELECT organization_id, date_trunc('hour', starts_at,"
            " 'UTC'), rating_key_id, register, sum(quantity) FROM metering_reading"
            " GROUP BY 1, 2, 3, 4"
        )


def test_usage_is_summed_by_slice_and_everything_rating_asks_about(acme: Organization) -> None:
    use(acme, "2026-11-18T00:00", 1)
    use(acme, "2026-11-18T23:45", 2)
    use(acme, "2026-11-18T23:45", 3, agent="other")  # rating does not ask about agents
    use(acme, "2026-11-18T12:00", 4, region="eu", service_class="batch")
    use(acme, "2026-11-18T12:00", 5, register="output")
    use(acme, "2026-11-19T00:00", 6)
    use(acme, "2026-11-19T00:00", 7, input_band=32_000, thinking=True)
    use(acme, "2026-11-19T00:00", 8, attributes="audio_output,media_input")
    start = utc("2026-11-18T00:00")
    found = readings.usage_in(
        acme.pk, [Slice(start, start + DAY), Slice(start + DAY, start + DAY * 2)]
    )
    assert [tuple(one) for one in found] == [
        (0, "m", "input", "", "", 0, False, (), 6),
        (0, "m", "input", "eu", "batch", 0, False, (), 4),
        (0, "m", "output", "", "", 0, False, (), 5),
        (1, "m", "input", "", "", 0, False, (), 6),
        (1, "m", "input", "", "", 0, False, ("audio_output", "media_input"), 8),
        (1, "m", "input", "", "", 32_000, True, (), 7),
    ]
    assert readings.usage_in(acme.pk, []) == []


def test_slices_may_be_many_and_lie_apart(acme: Organization) -> None:
    """Peak hours of a month: the parts between them are not counted."""
    for hour in range(24):
        use(acme, f"2026-11-18T{hour:02}:00", 1)
    start = utc("2026-11-18T00:00")
    peaks = [Slice(start + timedelta(hours=h), start + timedelta(hours=h + 2)) for h in (9, 14)]
    assert [(one.slice, one.quantity) for one in readings.usage_in(acme.pk, peaks)] == [
        (0, 2),
        (1, 2),
    ]


def test_no_organization_sees_anothers_usage(acme: Organization, globex: Organization) -> None:
    use(acme, "2026-11-18T00:00", 1)
    start = utc("2026-11-18T00:00")
    assert readings.usage_in(globex.pk, [Slice(start, start + DAY)]) == []
    assert readings.series(globex.pk, Query(start, start + DAY)) == []
    assert readings.tokens_in(globex.pk, start, start + DAY) == 0
    assert readings.event_count(globex.pk) == 0
    assert readings.dimension_values(globex.pk, start, start + DAY, "model") == []


def test_only_token_registers_are_tokens(acme: Organization) -> None:
    for register in ("input", "output", "somebodys_own", "requests", "web_search"):
        use(acme, "2026-11-18T00:00", 10, register=register)
    start = utc("2026-11-18T00:00")
    assert readings.tokens_in(acme.pk, start, start + DAY) == 30
    assert readings.event_count(acme.pk) == 10
    (row,) = readings.series(acme.pk, Query(start, start + DAY))
    assert (row.quantity, row.requests) == (30, 10)
    (row,) = readings.series(acme.pk, Query(start, start + DAY, filters={"register": ["output"]}))
    assert (row.quantity, row.requests) == (10, 10)


def test_a_project_is_looked_at_alone(acme: Organization) -> None:
    other = build.make_project(organization=acme, slug="research")
    use(acme, "2026-11-18T00:00", 1)
    use(acme, "2026-11-18T00:00", 2, project=other)
    start = utc("2026-11-18T00:00")
    slices = [Slice(start, start + DAY)]
    assert [one.quantity for one in readings.usage_in(acme.pk, slices, project_id=other.pk)] == [2]
    assert readings.tokens_in(acme.pk, start, start + DAY, project_id=other.pk) == 2
    by_project = readings.series(acme.pk, Query(start, start + DAY, group_by=("project",)))
    assert {row.group: row.quantity for row in by_project} == {("default",): 1, ("research",): 2}
    filters = {"project": ["research"]}
    (row,) = readings.series(acme.pk, Query(start, start + DAY, filters=filters))
    assert row.quantity == 2


@pytest.mark.parametrize(
    ("zone", "day", "quarter_hours"),
    [
        ("UTC", "2026-03-29", 96),
        ("Europe/Berlin", "2026-03-28", 96),
        ("Europe/Berlin", "2026-03-29", 92),
        ("Europe/Berlin", "2026-10-25", 100),
        ("America/New_York", "2026-03-08", 92),
        ("America/New_York", "2026-11-01", 100),
        ("Australia/Lord_Howe", "2026-04-05", 98),
        ("Australia/Lord_Howe", "2026-10-04", 94),
        ("Asia/Kathmandu", "2026-06-01", 96),
        ("Africa/Cairo", "2026-04-24", 92),  # that day has no midnight
        ("Atlantic/Azores", "2026-10-25", 100),  # that one has two, and begins at the first
        ("America/Havana", "2026-11-01", 100),
    ],
)
def test_a_local_day_has_as_many_quarter_hours_as_its_clocks_say(
    acme: Organization, zone: str, day: str, quarter_hours: int
) -> None:
    noon = utc(f"{day}T12:00")
    with connection.cursor() as cursor:
        use(acme, (noon - 2 * DAY).replace(tzinfo=None).isoformat(), 1)
        cursor.execute(
            "INSERT INTO metering_reading"
            " SELECT organization_id, moment, rating_key_id, register, 1 FROM metering_reading,"
            " generate_series(%s::timestamptz, %s, '15 minutes') AS moment"
            " WHERE starts_at <> moment",
            [noon - 2 * DAY, noon + 2 * DAY],
        )
    make_hours()
    query = Query(noon - 2 * DAY, noon + 2 * DAY, step="day", zone=zone)
    rows = readings.series(acme.pk, query)
    (row,) = [
        row for row in rows
        if row.starts_at and day == _local_day(row.starts_at, zone)
    ]  # fmt: skip
    assert row.quantity == quarter_hours
    assert row.starts_at
    end = readings.period_end(row.starts_at, "day", zone)
    assert (end - row.starts_at) // timedelta(minutes=15) == quarter_hours
    assert sum(each.quantity for each in rows) == 4 * 96


def _local_day(moment: datetime, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return f"{moment.astimezone(ZoneInfo(zone)):%Y-%m-%d}"


@pytest.mark.parametrize("step", readings.STEPS[:-1])
@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Australia/Lord_Howe", "2027-04-03"),
        ("Australia/Lord_Howe", "2026-10-03"),
        ("Atlantic/Azores", "2026-10-25"),
        ("America/Havana", "2026-11-01"),
        ("Africa/Cairo", "2026-04-23"),
        ("Asia/Kathmandu", "2026-06-01"),
    ],
)
def test_periods_tile_time_where_a_clock_is_set(zone: str, day: str, step: str) -> None:
    """No two overlap, none is missing, and each begins where a reader would say that it does."""
    start, end = utc(f"{day}T00:15"), utc(f"{day}T00:15") + 2 * DAY
    starts = readings.period_starts(start, end, step, zone)
    ends = [readings.period_end(each, step, zone) for each in starts]
    assert starts[0] <= start < ends[0]
    assert ends[:-1] == starts[1:]
    assert starts[-1] < end <= ends[-1]
    for each in starts[1:]:
        assert readings.period_starts(each, each + timedelta(minutes=1), step, zone) == [each]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_hours_and_quarter_hours_say_the_same(acme: Organization, zone: str) -> None:
    """Wherever a slice is cut, its whole hours and its edges are what its quarter-hours are."""
    chance = random.Random(zone)
    start = utc("2026-10-24T00:00")
    for quarter in chance.sample(range(400), 60):
        at = (start + quarter * timedelta(minutes=15)).replace(tzinfo=None)
        use(acme, at.isoformat(), chance.randrange(1, 10**6), model=f"m{chance.randrange(3)}")
    quarters = readings.series(acme.pk, Query(start, start + 5 * DAY, "quarter_hour", zone))
    for _ in range(50):
        begin, end = sorted(start + chance.randrange(30_000) * timedelta(seconds=13) for _ in "be")
        slices = [readings.Slice(begin, end)] if begin < end else []
        expected = sum(
            row.quantity for row in quarters if row.starts_at and begin <= row.starts_at < end
        )
        assert sum(used.quantity for used in readings.usage_in(acme.pk, slices)) == expected
        assert readings.tokens_in(acme.pk, begin, end) == expected


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_steps_tile_time(acme: Organization, zone: str) -> None:
    """Quarter-hours, hours, days, weeks and months of the same instants add up to the same."""
    use(acme, "2026-10-01T00:00", 1)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO metering_reading"
            " SELECT organization_id, moment, rating_key_id, register, 1 FROM metering_reading,"
            " generate_series(%s::timestamptz, %s, '15 minutes') AS moment"
            " WHERE starts_at <> moment",
            [utc("2026-10-01T00:00"), utc("2026-11-05T00:00")],
        )
    make_hours()
    start, end = utc("2026-10-02T07:15"), utc("2026-11-03T21:45")
    sums = {
        step: [row.quantity for row in readings.series(acme.pk, Query(start, end, step, zone))]
        for step in readings.STEPS
    }
    whole = (end - start) // timedelta(minutes=15)
    assert {step: sum(quantities) for step, quantities in sums.items()} == dict.fromkeys(
        readings.STEPS, whole
    )
    assert len(sums["quarter_hour"]) == whole
    assert len(sums["total"]) == 1


def test_split_by_register_each_has_its_own_row_and_requests_too(acme: Organization) -> None:
    use(acme, "2026-11-18T00:00", 7)
    use(acme, "2026-11-18T00:00", 2, register="requests")
    start = utc("2026-11-18T00:00")
    query = Query(start, start + DAY, step="total", group_by=("model", "register"))
    assert readings.series(acme.pk, query) == [
        Row(None, ("m", "input"), 7, 0),
        Row(None, ("m", "requests"), 2, 2),
    ]


def test_the_values_of_a_dimension_make_a_menu(acme: Organization) -> None:
    use(acme, "2026-11-18T00:00", agent="b")
    use(acme, "2026-11-18T00:15", agent="a")
    use(acme, "2026-11-18T00:30")
    use(acme, "2026-11-20T00:00", agent="later")
    start = utc("2026-11-18T00:00")
    assert readings.dimension_values(acme.pk, start, start + DAY, "agent") == ["a", "b"]


@pytest.mark.parametrize(
    "wrong", [{"step": "fortnight"}, {"group_by": ("x",)}, {"filters": {"x": []}}]
)
def test_a_question_nobody_can_answer_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not"):
        Query(utc("2026-11-18T00:00"), utc("2026-11-19T00:00"), **wrong)


def test_events_are_found_newest_first_by_every_mark(
    database: Database, acme: Organization, now: datetime
) -> None:
    for number, model in enumerate(["a", "b", "a"]):
        events = [
            make_event(now=now, id=f"{number}-{one}", model=model, source=f"s{one}")
            for one in range(2)
        ]
        store_events(database, acme, events)
    apply_all()
    ids = [event.id for event in readings.find_events(acme.pk)]
    assert ids == ["2-1", "2-0", "1-1", "1-0", "0-1", "0-0"]

    def found(**marks: Any) -> list[str]:
        return [event.id for event in readings.find_events(acme.pk, **marks)]

    assert found(limit=1) == ["2-1"]
    assert found(model="b") == ["1-1", "1-0"]
    assert found(event_id="0-1") == ["0-1"]
    assert found(event_id="nowhere") == []
    assert found(source="s0", limit=3) == ["2-0", "1-0", "0-0"]
    batch_id = readings.find_events(acme.pk)[0].batch_id
    assert found(batch_id=batch_id) == ["2-1", "2-0"]
    moment = utc("2026-11-18T10:07:30")
    assert found(start=moment, end=moment) == []
    assert len(found(start=moment, end=moment + timedelta(seconds=1))) == 6
    assert readings.find_events(acme.pk)[0].batch_state == "applied"


def test_the_window_reads_only_the_stretch_it_is_asked_for(acme: Organization) -> None:
    """The plan walks the primary key by organization and time; it never scans the table."""
    use(acme, "2026-11-18T00:00")
    start, end = utc("2026-11-18T00:15"), utc("2026-11-19T00:00")
    sql, parameters = readings._series_sql(acme.pk, Query(start, end), [start])
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {sql}", parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "metering_reading_pkey" in plan
    assert "metering_readinghour_pkey" in plan
    assert plan.count("starts_at >=") == 2


def test_the_sums_of_a_page_start_no_workers(db: None) -> None:
    """Starting them takes longer than adding up some ten thousand readings."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW parallel_setup_cost")
        assert cursor.fetchone() == ("10000",)
