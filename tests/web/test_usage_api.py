"""`GET /api/v1/usage`: local days in the organization's zone, for those who may read them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from accounts.models import Organization
from metering import api, readings
from tests import build
from tests.database.test_readings import use

URL = "/api/v1/usage"


@pytest.fixture
def berlin(acme: Organization) -> Organization:
    acme.zone = "Europe/Berlin"
    acme.save(update_fields=["zone"])
    return acme


def ask(organization: Organization, scopes: tuple[str, ...] = ("read",), **parameters: Any) -> Any:
    _, text = build.make_key(organization=organization, scopes=scopes)
    return Client().get(URL, parameters, headers={"authorization": f"Bearer {text}"})


def test_days_are_those_of_the_organization(berlin: Organization) -> None:
    """The day on which the clocks go forward has 23 hours, and midnight is not midnight UTC."""
    for at, quantity in [
        ("2026-03-28T22:45", 1),  # still the 28th
        ("2026-03-28T23:00", 2),  # the 29th begins
        ("2026-03-29T21:45", 4),  # its last quarter-hour, 23 hours later
        ("2026-03-29T22:00", 8),  # the 30th, by summer time
    ]:
        use(berlin, at, quantity)
    use(berlin, "2026-03-28T23:00", 3, register="requests")
    answer = ask(berlin, start="2026-03-28", end="2026-03-31").json()
    assert (answer["zone"], answer["step"]) == ("Europe/Berlin", "day")
    assert answer["start"] == "2026-03-27T23:00:00Z"
    assert answer["end"] == "2026-03-30T22:00:00Z"
    assert answer["totals"] == {"tokens": 15, "requests": 3}
    assert [(point["period"], point["quantity"]) for point in answer["series"]] == [
        ("2026-03-28", 1),
        ("2026-03-29", 6),
        ("2026-03-30", 8),
    ]
    short = answer["series"][1]
    assert (short["starts_at"], short["ends_at"]) == (
        "2026-03-28T23:00:00Z",
        "2026-03-29T22:00:00Z",
    )
    assert answer["freshness"]["pending_events"] == 0


def test_another_zone_may_be_asked_for(berlin: Organization) -> None:
    use(berlin, "2026-03-28T23:00", 2)
    answer = ask(berlin, start="2026-03-28", end="2026-03-29", zone="UTC").json()
    assert answer["totals"]["tokens"] == 2
    assert ask(berlin, start="2026-03-28", end="2026-03-29").json()["totals"]["tokens"] == 0


@pytest.mark.parametrize(
    ("step", "period", "starts_at", "ends_at"),
    [
        ("quarter_hour", "2026-10-25T02:30+01:00", "2026-10-25T01:30:00Z", "2026-10-25T01:45:00Z"),
        ("hour", "2026-10-25T02:00+01:00", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"),
        ("day", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ("week", "2026-W43", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"),
        ("month", "2026-10", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
        ("total", "total", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    ],
)
def test_every_period_has_a_local_name_and_utc_bounds(
    berlin: Organization, step: str, period: str, starts_at: str, ends_at: str
) -> None:
    """In the hour that Berlin has twice."""
    use(berlin, "2026-10-25T01:30", 5)
    answer = ask(berlin, start="2026-10-25", end="2026-10-26", step=step).json()
    (point,) = answer["series"]
    assert (point["period"], point["starts_at"], point["ends_at"]) == (period, starts_at, ends_at)


def test_groups_and_filters(berlin: Organization) -> None:
    for model, agent, quantity in [("a", "x", 1), ("a", "y", 2), ("b", "x", 4)]:
        use(berlin, "2026-11-18T10:00", quantity, model=model, agent=agent)
    window = {"start": "2026-11-18", "end": "2026-11-19", "step": "total"}
    answer = ask(berlin, **window, group_by="model,register").json()
    assert [(point["group"], point["quantity"]) for point in answer["series"]] == [
        ({"model": "a", "register": "input"}, 3),
        ({"model": "b", "register": "input"}, 4),
    ]
    assert ask(berlin, **window, agent="x").json()["totals"]["tokens"] == 5
    assert ask(berlin, **window, agent="x,y", model="a").json()["totals"]["tokens"] == 3
    assert ask(berlin, **window, project="nowhere").json()["totals"]["tokens"] == 0


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"start": "2026-11-18"},
        {"end": "2026-11-18"},
        {"start": "2026-11-18", "end": "2026-11-18"},
        {"start": "2026-11-19", "end": "2026-11-18"},
        {"start": "yesterday"},
        {"start": "2026-11-18T10:00:00"},
        {"start": "2026-02-30"},
        {"start": "0001-01-01"},
        {"start": "1763460450"},
        {"start": "2026-11-1\u0668"},
        {"step": "fortnight"},
        {"zone": "Europe/Bonn"},
        {"zone": "../../etc/passwd"},
        {"zone": ""},
        {"group_by": "price"},
        {"group_by": "model,model"},
        {"model": "a\0b"},
        {"colour": "red"},
        {"model": ["a", "b"]},
        {"start": "2016-01-01"},
        {"start": "2026-01-01", "step": "quarter_hour"},
    ],
)
def test_what_cannot_be_answered_is_told_why(
    berlin: Organization, parameters: dict[str, Any]
) -> None:
    if len(parameters) == 1 and "end" not in parameters:
        good = {"start": "2026-11-01", "end": "2026-11-20"}
        parameters = parameters if parameters == {"start": "2026-11-18"} else good | parameters
    response = ask(berlin, **parameters)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "invalid_parameter"
    assert len(response.json()["detail"]) < 300


def test_only_a_key_that_may_read_reads_and_only_its_own(
    berlin: Organization, globex: Organization
) -> None:
    use(berlin, "2026-11-18T10:00", 5)
    window = {"start": "2026-11-18", "end": "2026-11-19"}
    assert ask(berlin, ("ingest",), **window).json()["code"] == "scope_missing"
    assert Client().get(URL, window).json()["code"] == "missing_credentials"
    assert ask(globex, **window).json()["totals"] == {"tokens": 0, "requests": 0}
    assert ask(globex, **window, project="default").json()["series"] == []


def test_reading_writes_nothing(berlin: Organization) -> None:
    response = Client().post(URL, {})
    assert response.status_code in (401, 405)


def test_the_database_is_asked_a_bounded_number_of_times(
    berlin: Organization, django_assert_max_num_queries: Any
) -> None:
    _, text = build.make_key(organization=berlin, scopes=("read",))
    with django_assert_max_num_queries(6, connection=connection):
        Client().get(
            URL,
            {"start": "2026-11-01", "end": "2026-11-20", "group_by": "project,model"},
            headers={"authorization": f"Bearer {text}"},
        )


def test_a_key_of_one_project_reads_that_project_alone(berlin: Organization) -> None:
    side = build.make_project(organization=berlin, slug="side")
    use(berlin, "2026-11-18T00:00", 5)
    use(berlin, "2026-11-18T00:00", 7, project=side)
    row, text = build.make_key(organization=berlin, scopes=("read",))
    row.project = side
    row.save(update_fields=["project"])

    def look(**parameters: str) -> Any:
        asked = {"start": "2026-11-18", "end": "2026-11-19", **parameters}
        return Client().get(URL, asked, headers={"authorization": f"Bearer {text}"})

    assert look().json()["totals"]["tokens"] == 7
    assert look(project="side").json()["totals"]["tokens"] == 7
    groups = [point["group"] for point in look(group_by="project").json()["series"]]
    assert groups == [{"project": "side"}]
    for others in ("default", "side,default", "nowhere"):
        answer = look(project=others)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("zone", ["localtime", "Factory"])
def test_a_zone_that_depends_on_the_machine_is_none(berlin: Organization, zone: str) -> None:
    answer = ask(berlin, start="2026-11-18", end="2026-11-19", zone=zone)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_an_answer_that_is_too_long_is_not_read_to_its_end(
    berlin: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour in range(6):
        use(berlin, f"2026-11-18T0{hour}:00", 1)
    monkeypatch.setattr(api, "ROWS_MAX", 3)
    fetched = []
    whole = readings._rows

    def rows(*asked: Any) -> Any:
        fetched.append(whole(*asked))
        return fetched[-1]

    monkeypatch.setattr(readings, "_rows", rows)
    answer = ask(berlin, start="2026-11-18", end="2026-11-19", step="hour")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert [len(each) for each in fetched] == [4]
