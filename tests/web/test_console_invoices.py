"""Invoices and the close in the console."""

from __future__ import annotations

from datetime import timedelta

from django.test import Client

from accounts.models import AuditEntry, User
from billing import invoicing
from billing.models import Invoice, Subscription
from billing.rating.period import Period
from tests.web.console_cloud import (
    NOVEMBER,
    OCTOBER,
    _at_the_moment,
    cloud,
    errors,
    make_batch,
    operator,
    root,
    text,
    url,
)

__all__ = ["_at_the_moment", "cloud", "operator", "root"]


def test_the_close_shows_what_would_be_invoiced_and_writes_nothing(
    operator: Client, cloud: Subscription
):
    before = list(Invoice.objects.values_list("pk", "status"))
    page = text(operator.get(f"/console/close/{cloud.pk}/"))
    assert "1 ended period has no invoice yet" in page
    assert "$2.50" in page
    assert "2026-10-01 00:00 to 2026-11-01 00:00 UTC" in page
    assert list(Invoice.objects.values_list("pk", "status")) == before
    assert "Acme" in text(operator.get("/console/close/"))


def test_a_close_by_hand_issues_what_was_shown_and_goes_on_record(
    operator: Client, cloud: Subscription, root: User
):
    response = operator.post(f"/console/close/{cloud.pk}/now/")
    assert response.status_code == 302, errors(response)
    october = Invoice.objects.get(period_start=OCTOBER)
    assert (october.status, october.total_minor) == ("issued", 250)
    entry = AuditEntry.objects.get(action="period.closed")
    assert (entry.actor, entry.detail) == (root, {"invoices": [october.number]})
    again = operator.post(f"/console/close/{cloud.pk}/now/")
    assert "No period is due" in errors(again)
    assert Invoice.objects.filter(period_start=OCTOBER).count() == 1


def test_a_close_waits_for_batches_that_are_not_in_the_readings(
    operator: Client, cloud: Subscription
):
    make_batch(cloud.organization, 2, "pending", received_at=NOVEMBER - timedelta(hours=1))
    assert "waits for batches" in errors(operator.get(f"/console/close/{cloud.pk}/"))
    assert "It waits for batches" in errors(operator.post(f"/console/close/{cloud.pk}/now/"))
    assert not AuditEntry.objects.filter(action="period.closed").exists()


def test_looking_closes_nothing(operator: Client, cloud: Subscription):
    operator.get(f"/console/close/{cloud.pk}/now/")
    assert not Invoice.objects.filter(period_start=OCTOBER).exists()


def test_a_draft_is_issued_and_an_issued_invoice_is_voided(operator: Client, cloud: Subscription):
    draft = invoicing.draft(cloud, Period(OCTOBER, NOVEMBER))
    page = url(Invoice, "changelist") + f"{draft.pk}"
    assert operator.post(f"{page}/void/", {"reason": "no"}).status_code == 403
    assert operator.post(f"{page}/issue/").status_code == 302
    assert operator.post(f"{page}/issue/").status_code == 403
    assert operator.post(f"{page}/void/", {"reason": "wrong buyer"}).status_code == 302
    draft.refresh_from_db()
    assert (draft.status, draft.void_reason) == ("void", "wrong buyer")
    actions = AuditEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(actions)[-2:] == ["invoice.issued", "invoice.voided"]


def test_an_invoice_cannot_be_edited(operator: Client, cloud: Subscription):
    invoice = Invoice.objects.get()
    response = operator.post(url(Invoice, "change", invoice.pk), {"total_minor": 1})
    assert response.status_code == 403
