"""What if, as people use it: both pages in a real Chromium, with and without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.utils import timezone

from accounts import people
from accounts.models import Organization, User
from billing import comparing, tasks
from billing.comparisons import Comparison
from billing.models import Subscription
from tests import build
from tests.journey.test_portal_in_a_browser import (
    browser,
    complaints,
    enter,
    page,
    pytestmark,
    subscription,
    sync_api,
)

__all__ = ["browser", "complaints", "page", "pytestmark", "subscription"]

PAINTED = """(canvas) => canvas.getContext("2d")
    .getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte !== 0)"""
FITS = "document.documentElement.scrollWidth === document.documentElement.clientWidth"


@pytest.fixture
def operator(db: None) -> User:
    return people.create_verified("root@cloud.example", "correct horse battery", staff=True)


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background is worked off by the test itself."""
    monkeypatch.setattr(tasks.work_on_comparison, "delay", lambda *_: None)


@pytest.fixture
def other(subscription: Subscription) -> None:
    tariff = build.make_tariff(code="other", document=build.flat_document(price="0.40"))
    tariff.offered = True
    tariff.save(update_fields=["offered"])


def work_off() -> None:
    run = Comparison.objects.get()
    comparing.work(run.pk, run.turn, is_time_up=lambda: False, now=timezone.now())


def ask(page: sync_api.Page, url: str, subscription: Subscription) -> None:
    page.goto(f"{url}/console/what-if/")
    page.get_by_label(re.compile("The other tariff")).select_option(label="other@1")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/console/what-if/*/")


def test_an_operator_asks_watches_and_reads_the_answer(
    page: sync_api.Page,
    live_server: object,
    subscription: Subscription,
    other: None,
    operator: User,
    complaints: list[str],
) -> None:
    ask(page, enter(page, live_server, operator), subscription)
    page.get_by_text("Comparing: 0 of 1 organization").wait_for()
    work_off()
    page.get_by_role("heading", name="Where both cost the same").wait_for()
    for canvas in page.locator("canvas.chart").all():
        assert canvas.evaluate(PAINTED)
    page.get_by_role("link", name="Acme").first.click()
    page.get_by_text("Why", exact=True).first.click()
    assert page.get_by_text("Under the other tariff").first.is_visible()
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function(FITS)  # a chart follows the width a frame later
        page.go_back()
        page.wait_for_function(FITS)  # a chart follows the width a frame later
        page.go_forward()
    assert complaints == []


def test_without_scripts_the_answer_stands_in_tables(
    browser: sync_api.Browser,
    live_server: object,
    subscription: Subscription,
    other: None,
    operator: User,
) -> None:
    plain = browser.new_context(java_script_enabled=False).new_page()
    ask(plain, enter(plain, live_server, operator), subscription)
    work_off()
    plain.get_by_role("link", name="Show what there is by now").click()
    assert "1 organization, 1 compared" in plain.locator("#progress").inner_text()
    plain.locator("summary", has_text="The chart as a table").first.click()
    assert plain.get_by_role("row", name=re.compile("^4\N{MULTIPLICATION SIGN}")).is_visible()


@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_a_member_compares_past_periods(
    page: sync_api.Page,
    live_server: object,
    subscription: Subscription,
    other: None,
    acme: Organization,
    alice: User,
    complaints: list[str],
    width: int,
) -> None:
    url = enter(page, live_server, alice)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{url}/o/acme/tariff/")
    page.get_by_role("link", name="Would another tariff have been cheaper?").click()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Yes: Other would have been $1.80 cheaper").wait_for()
    canvas: Any = page.locator("canvas[data-drawn=yes]")
    assert canvas.evaluate(PAINTED)
    page.wait_for_function(FITS)
    assert complaints == []
