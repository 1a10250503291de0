"""The whole way of one event: reported over HTTP, seen in the API, billed, read by its owner."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from tests.journey.live import Live, until

EMAIL, PASSWORD = "owner@journey.example", "correct horse battery"
MAKE_OWNER = f"from accounts import people; people.create_verified({EMAIL!r}, {PASSWORD!r})"
USED = {"input": 2_000_000, "cache_read": 1_000_000, "output": 400_000, "reasoning": 100_000}


def test_one_event_becomes_an_invoice_that_its_owner_can_read_down_to_the_quarter_hour(live: Live):
    live.manage("shell", "--no-imports", "-c", MAKE_OWNER)
    occurred_at = _end_of_last_month() - timedelta(hours=12)  # 20:00 in Beijing: off-peak
    made = json.loads(
        live.manage(
            "create_organization", "Journey", "--owner-email", EMAIL, "--with-key",
            "--tariff", "deepseek-tou-usd",
            "--starts-at", (occurred_at - timedelta(days=2)).date().isoformat(),
        )
    )  # fmt: skip
    key, event = made["key"], _event(occurred_at)

    said = live.send(key, [event])
    assert (said["submitted"], said["accepted"]) == (1, 1)
    assert live.send(key, [event])["duplicate"] == 1
    assert live.send(key, [{**event, "model": "another"}])["conflict"] == 1

    day = occurred_at.date()
    window = {"start": str(day), "end": str(day + timedelta(days=1)), "group_by": "register"}
    usage = until(lambda: _nonzero(live.get("/api/v1/usage", key, **window)))
    assert usage["totals"] == {"tokens": sum(USED.values()), "requests": 1}

    live.ring("billing.tasks.close_due_periods")
    with live.signed_in(EMAIL, PASSWORD) as browser:
        number = until(lambda: _issued(live, made["organization"]["slug"]))
        page = f"/o/journey/invoices/{number}/"
        assert number in browser.get("/o/journey/invoices/").text
        invoice = browser.get(page)
        assert invoice.status_code == 200
        # 2 x 0.66 + 1 x 0.022 + 0.4 x 1.98 + 0.1 x 1.98, each line rounded once: 132+2+79+20
        assert "2.33" in invoice.text
        assert browser.get(f"{page}lines/1/").status_code == 200
    assert live.rows(
        "SELECT sum(quantity), sum(amount_minor) FROM billing_invoiceline line "
        "JOIN billing_invoice invoice ON invoice.id = line.invoice_id WHERE number = %s",
        number,
    ) == [(sum(USED.values()), 233)]


def _event(occurred_at: datetime) -> dict:
    return {
        "id": "evt-1",
        "source": "journey",
        "occurred_at": occurred_at.isoformat(),
        "model": "deepseek-v4-pro",
        "usage": USED,
    }


def _end_of_last_month() -> datetime:
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _nonzero(usage: dict) -> dict | None:
    return usage if usage["totals"]["requests"] else None


def _issued(live: Live, slug: str) -> str | None:
    rows = live.rows(
        "SELECT number FROM billing_invoice invoice "
        "JOIN accounts_organization organization ON organization.id = invoice.organization_id "
        "WHERE organization.slug = %s AND invoice.status = 'issued'",
        slug,
    )
    return rows[0][0] if rows else None
