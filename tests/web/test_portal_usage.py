"""The usage explorer: totals, splits, filters, steps, files; with htmx and without."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime

import pytest

from accounts.models import Organization, User
from tests import build
from tests.web.portal_acme import MTOK, at_now, metered, signed_in, text_of, use

__all__ = ["at_now", "metered"]

pytestmark = pytest.mark.usefixtures("metered")
USAGE = "/o/acme/usage/"
HTMX = {"hx-request": "true"}


def rows_of(user: User, query: str) -> list[list[str]]:
    response = signed_in(user).get(f"/o/acme/usage.csv?{query}")
    assert response.status_code == 200
    assert response.streaming
    content = b"".join(response.streaming_content).decode()
    return list(csv.reader(io.StringIO(content)))


def test_the_bare_address_shows_the_last_week_by_model(alice: User) -> None:
    page = text_of(signed_in(alice), USAGE)
    assert "2.5M tokens in 3 requests" in page
    assert "Nov 12, 2026 to Nov 18, 2026" in page
    assert "gpt-5 2,000,000 80% 3" in page
    assert "qwen-plus 500,000 20% 0" in page
    assert "Together 2,500,000 3" in page


def test_last_month_ends_at_local_midnight(alice: User) -> None:
    """22:45 UTC on 31 October is 23:45 in Berlin, and still October there."""
    page = text_of(signed_in(alice), f"{USAGE}?window=last_month")
    assert "1.75M tokens" in page


def test_usage_is_split_by_kind_of_token_and_project(acme: Organization, alice: User) -> None:
    other = build.make_project(organization=acme, slug="batch")
    build.make_reading(
        organization=acme,
        starts_at=datetime(2026, 11, 18, 9, tzinfo=UTC),
        quantity=500,
        project=other,
        register="output",
    )
    page = text_of(signed_in(alice), f"{USAGE}?by=project&then=register")
    assert "Default, Input 2,500,000 100%" in page
    assert "Batch, Output 500 <1%" in page.replace("&lt;", "<")
    assert "Also metered: requests 3." in page


def test_a_filter_narrows_the_answer(alice: User) -> None:
    page = text_of(signed_in(alice), f"{USAGE}?model=qwen-plus")
    assert "500K tokens in 0 requests" in page
    assert "Together 500,000" in page


def test_dates_are_local_days(alice: User) -> None:
    page = text_of(signed_in(alice), f"{USAGE}?window=dates&first=2026-11-17&last=2026-11-17")
    assert "500K tokens in 0 requests" in page


@pytest.mark.parametrize("step", ["quarter_hour", "hour", "day", "week", "month", "total"])
@pytest.mark.parametrize(
    "by", ["model", "project", "api_key", "agent", "register", "region", "service_class"]
)
def test_every_step_and_split_holds_every_token(alice: User, step: str, by: str) -> None:
    page = text_of(signed_in(alice), f"{USAGE}?step={step}&by={by}")
    assert "2,500,000" in page


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("window=90d&step=hour", "By hour at most 31 days can be shown, not 90."),
        ("window=dates&first=2026-11-18&last=2026-11-01", "The last day comes before the first."),
        ("step=second", "Select a valid choice"),
        ("window=dates&first=yesterday", "Enter a valid date"),
        ("by=password", "Select a valid choice"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(
    alice: User, query: str, complaint: str
) -> None:
    assert complaint in text_of(signed_in(alice), f"{USAGE}?{query}")


def test_htmx_gets_the_answer_alone_and_history_the_page(alice: User) -> None:
    client = signed_in(alice)
    part = client.get(USAGE, headers=HTMX)
    assert part.content.decode().strip().startswith('<section id="result"')
    assert "HX-Request" in part["Vary"]
    again = client.get(USAGE, headers={**HTMX, "hx-history-restore-request": "true"})
    assert "<!doctype html>" in again.content.decode()


def test_the_filters_offer_what_there_is(alice: User) -> None:
    html = signed_in(alice).get(USAGE).content.decode()
    (menu,) = re.findall(r'<select name="model".*?</select>', html, flags=re.DOTALL)
    assert re.findall(r'value="([^"]*)"', menu) == ["", "gpt-5", "qwen-plus"]


def test_nothing_metered_leads_to_a_first_event(alice: User) -> None:
    page = text_of(signed_in(alice), f"{USAGE}?window=dates&first=2020-01-01&last=2020-01-02")
    assert "No usage here" in page
    assert "/api/v1/events" in page


def test_the_file_holds_the_same_numbers(alice: User) -> None:
    assert rows_of(alice, "window=7d&step=day&by=model") == [
        ["starts_at", "model", "tokens", "requests"],
        ["2026-11-17T00:00:00+01:00", "qwen-plus", "500000", "0"],
        ["2026-11-18T00:00:00+01:00", "gpt-5", "2000000", "3"],
    ]


def test_the_file_by_register_holds_each_in_its_own_unit(alice: User) -> None:
    assert rows_of(alice, "window=7d&step=total&by=register") == [
        ["register", "quantity"],
        ["input", "2500000"],
        ["requests", "3"],
    ]


def test_the_file_names_projects_and_runs_no_formula(acme: Organization, alice: User) -> None:
    project = acme.projects.get(slug="default")
    project.name = "=cmd|' /C calc'!A0"
    project.save(update_fields=["name"])
    use(acme, datetime(2026, 11, 18, 9, tzinfo=UTC), 7, model="@SUM(A1)")
    rows = rows_of(alice, "step=total&by=model&then=project")
    assert ["'@SUM(A1)", "default", "'=cmd|' /C calc'!A0", "7", "0"] in rows
    assert ["gpt-5", "default", "'=cmd|' /C calc'!A0", str(2 * MTOK), "3"] in rows


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_sign_starts_a_formula(acme: Organization, alice: User, sign: str) -> None:
    acme.projects.update(name=f"{sign}1+1")
    rows = rows_of(alice, "step=total&by=project")
    assert {row[1] for row in rows[1:]} == {f"'{sign}1+1"}


def test_a_wrong_question_has_no_file(alice: User) -> None:
    assert signed_in(alice).get("/o/acme/usage.csv?step=second").status_code == 422


def test_what_senders_name_is_shown_and_not_run(acme: Organization, alice: User) -> None:
    use(acme, datetime(2026, 11, 18, 9, tzinfo=UTC), 7, model="</script><script>alert(1)//")
    html = signed_in(alice).get(USAGE).content.decode()
    assert "<script>alert" not in html
    assert "\\u003C/script\\u003E" in html


@pytest.mark.parametrize("step", ["day", "month", "total"])
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_ends_of_the_calendar_are_out_of_reach(alice: User, day: str, step: str) -> None:
    query = f"window=dates&first={day}&last={day}&step={step}"
    assert "Ensure this value is" in text_of(signed_in(alice), f"/o/acme/usage/?{query}")
