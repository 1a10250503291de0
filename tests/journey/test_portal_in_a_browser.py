"""The portal as people use it: a real Chromium, the policy of the portal on, no error allowed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.test.client import Client
from django.utils import timezone

from accounts.models import ApiKey, Organization, User
from billing import invoicing
from billing.models import Subscription
from metering.models import Rejection
from tests import build
from tests.web.portal_acme import MTOK, use

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
PASSWORD = "correct horse battery"


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[sync_api.Browser]:
    # Playwright's own loop runs in this thread; Django would take that for asynchronous code.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
        # Under a running loop Django keeps connections apart: these are not the test's own.
        connections.close_all()


@pytest.fixture
def complaints() -> list[str]:
    """Whatever the console said of errors, policy violations included."""
    return []


@pytest.fixture
def page(browser: sync_api.Browser, complaints: list[str]) -> sync_api.Page:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """Acme with a billed month behind it and usage of yesterday."""
    now = timezone.now()
    this_month = datetime(now.year, now.month, 1, tzinfo=UTC)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    subscription = build.make_subscription(organization=acme, starts_at=last_month)
    use(acme, last_month + timedelta(days=3, hours=9), 3 * MTOK, model="gpt-5")
    invoicing.close_period(subscription.pk, this_month + timedelta(hours=1))
    quarter = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    use(acme, quarter, 2 * MTOK, model="gpt-5")
    use(acme, quarter, MTOK, model="qwen-plus", register="output")
    return subscription


def enter(page: sync_api.Page, live_server: object, user: User) -> str:
    """Come in with a session, as signing in would leave one; the address of the server."""
    client = Client()
    client.force_login(user)
    url = str(live_server)
    cookie = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": url}])
    return url


def test_a_person_signs_in_by_hand(
    page: sync_api.Page,
    live_server: object,
    acme: Organization,
    alice: User,
    complaints: list[str],
) -> None:
    page.goto(f"{live_server}/o/acme/")
    page.get_by_label(re.compile("mail", re.IGNORECASE)).fill(alice.email)
    page.locator('input[type="password"]').fill(PASSWORD)
    page.locator('input[type="password"]').press("Enter")
    page.wait_for_url("**/o/acme/")
    assert page.get_by_role("heading", name="Acme", exact=True).is_visible()
    assert complaints == []


def test_the_overviews_chart_is_drawn(
    page: sync_api.Page,
    live_server: object,
    subscription: Subscription,
    alice: User,
    complaints: list[str],
) -> None:
    url = enter(page, live_server, alice)
    page.goto(f"{url}/o/acme/")
    page.wait_for_selector("canvas[data-drawn=yes]")
    painted = page.evaluate(
        """() => {
            const canvas = document.querySelector("canvas[data-chart]");
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return pixels.data.some((byte) => byte !== 0);
        }"""
    )
    assert painted
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("canvas[data-drawn=yes]")
    assert complaints == []


def test_the_explorer_answers_in_place_and_keeps_its_address(
    page: sync_api.Page,
    live_server: object,
    subscription: Subscription,
    alice: User,
    complaints: list[str],
) -> None:
    url = enter(page, live_server, alice)
    page.goto(f"{url}/o/acme/usage/")
    result = page.locator("#result")
    assert "3M tokens" in result.inner_text()
    assert not page.get_by_label("From").is_visible()
    page.get_by_label("Model", exact=True).select_option("qwen-plus")
    page.wait_for_selector("#result h2:has-text('1M tokens')")
    page.wait_for_selector("#result canvas[data-drawn=yes]")
    assert "model=qwen-plus" in page.url
    page.get_by_label("Split by").select_option("register")
    page.wait_for_selector("#result th:has-text('Output')")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert "output,1000000" in download.value.path().read_text()
    page.go_back()
    page.wait_for_selector("#result h2:has-text('1M tokens')")
    assert page.get_by_role("navigation", name="Sections").is_visible()
    page.get_by_label("Window").select_option("dates")
    page.get_by_label("From").wait_for(state="visible")
    assert complaints == []


def test_a_key_is_made_copied_and_revoked(
    page: sync_api.Page,
    live_server: object,
    acme: Organization,
    alice: User,
    complaints: list[str],
) -> None:
    url = enter(page, live_server, alice)
    page.goto(f"{url}/o/acme/keys/")
    page.get_by_label("Name").fill("gateway eu-1")
    page.get_by_role("button", name="Create key").click()
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#secret").inner_text()
    assert copied.startswith(f"kt_{ApiKey.objects.get().prefix}_")
    page.get_by_role("link", name="I have stored it").click()
    page.get_by_text("Revoke gateway eu-1").first.click()
    page.get_by_role("button", name="Revoke gateway eu-1").click()
    page.get_by_text("is revoked and refused from now on").wait_for()
    assert ApiKey.objects.get().revoked_at is not None
    assert complaints == []


def test_an_invoice_is_opened_down_to_its_quarter_hours(
    page: sync_api.Page,
    live_server: object,
    subscription: Subscription,
    alice: User,
    complaints: list[str],
) -> None:
    url = enter(page, live_server, alice)
    page.goto(f"{url}/o/acme/")
    page.get_by_role("navigation").get_by_role("link", name="Invoices").click()
    page.get_by_role("table").get_by_role("link").first.click()
    page.get_by_role("link", name="Input").click()
    assert page.get_by_text("The days sum to this line's quantity").is_visible()
    page.locator("details.day summary").first.click()
    assert "3,000,000" in page.locator(".quarters li").first.inner_text()
    assert complaints == []


def test_the_calculator_answers_while_one_types(
    page: sync_api.Page,
    live_server: object,
    subscription: Subscription,
    alice: User,
    complaints: list[str],
) -> None:
    url = enter(page, live_server, alice)
    page.goto(f"{url}/o/acme/tariff/")
    page.get_by_role("combobox", name="Model").fill("gpt-5")
    page.wait_for_selector("#cost .figure:has-text('$0.0025')")
    page.get_by_label("Output").fill("1500")
    page.wait_for_selector("#cost .figure:has-text('$0.0035')")
    assert complaints == []


def make_rejection(organization: Organization) -> None:
    """An event that was not taken, with a long text."""
    raw = '{"id": "evt-1", "source": "' + "gateway" * 40 + '", "usage": {}}'
    Rejection.objects.create(
        organization_id=organization.pk, id=1, digest=bytes(16), received_at=timezone.now(), seen=3,
        batch_id=1, api_key_id=1, form="native", code="quantity_required", pointer="/usage",
        detail="usage is missing or empty. Send at least one register.", event_id="evt-1" * 20,
        raw=raw, masked=False,
    )  # fmt: skip


@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_no_page_is_wider_than_the_window(
    page: sync_api.Page,
    live_server: object,
    subscription: Subscription,
    alice: User,
    complaints: list[str],
    width: int,
) -> None:
    url = enter(page, live_server, alice)
    number = subscription.invoices.get().number
    make_rejection(subscription.organization)
    page.set_viewport_size({"width": width, "height": 800})
    for path in (
        "", "usage/", "projects/", "keys/", "members/", "invoices/", f"invoices/{number}/",
        "rejections/",
        f"invoices/{number}/lines/1/", "tariff/?model=gpt-5&input=5", "settings/",
    ):  # fmt: skip
        page.goto(f"{url}/o/acme/{path}")
        page.evaluate("document.querySelectorAll('details.ask').forEach((one) => one.open = true)")
        too_wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert too_wide == 0, path
    assert complaints == []


def test_without_scripts_the_explorer_still_answers(
    browser: sync_api.Browser,
    live_server: object,
    subscription: Subscription,
    alice: User,
) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    url = enter(page, live_server, alice)
    page.goto(f"{url}/o/acme/usage/")
    page.get_by_label("Model", exact=True).select_option("qwen-plus")
    page.get_by_role("button", name="Show").click()
    assert "1M tokens" in page.locator("#result").inner_text()
