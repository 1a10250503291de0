"""`manage.py rerate`: start, show, approve, refuse and go on, by whoever may in the console."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command

from accounts.models import Organization, User
from billing import catalog, invoicing
from billing.models import Invoice, ReratingJob
from tests import build

pytestmark = pytest.mark.django_db

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
PERIOD = ("--from", "2026-09-01", "--to", "2026-10-01")
ANN, BEN = "ann@cloud.example", "ben@cloud.example"


def clerk(email: str, *permissions: str) -> User:
    user = build.make_user(email=email)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


@pytest.fixture(autouse=True)
def _overcharged(acme: Organization) -> None:
    """Acme was billed two dollars for September, and one and a half would have been right."""
    clerk(ANN, "publish_prices")
    clerk(BEN, "approve_prices")
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER)
    build.make_reading(organization=acme, starts_at=SEPTEMBER, quantity=2_000_000)
    invoicing.close_period(subscription.pk, OCTOBER)
    document = build.flat_document(price="0.75")
    catalog.correct(subscription.tariff, document, SEPTEMBER, OCTOBER)


def rerate(*words: str) -> str:
    out = StringIO()
    call_command("rerate", *words, stdout=out)
    return out.getvalue()


def started() -> ReratingJob:
    rerate("start", *PERIOD, "--reason", "a typo", "--by", ANN)
    return ReratingJob.objects.get()


def test_what_would_be_given_back_is_shown_and_nothing_issued() -> None:
    said = rerate("start", *PERIOD, "--tariff", "flat", "--reason", "a typo", "--by", ANN)
    job = ReratingJob.objects.get()
    assert said.splitlines() == [
        f"Re-rating {job.pk}: waits for approval; a typo",
        "1 of 1 invoices in USD differ: 2.00 billed, credits -0.50, debits 0.00, then 1.50",
        "given back: acme KT-2026-000001 2.00 -0.50 1.50 USD differs",
        f"It waits for whoever may approve prices, with --digest {job.digest}",
    ]
    assert Invoice.objects.count() == 1


def test_what_was_shown_is_approved_and_issued() -> None:
    job = started()
    said = rerate("approve", str(job.pk), "--digest", job.digest, "--by", BEN)
    assert "given back: acme KT-2026-000001 2.00 -0.50 1.50 USD KT-CN-2026-" in said
    assert rerate("work", str(job.pk)) == said == rerate("show", str(job.pk))


def test_every_invoice_is_a_row_of_the_file() -> None:
    rows = list(csv.DictReader(StringIO(rerate("show", str(started().pk), "--format", "csv"))))
    assert [(row["organization"], row["before"], row["difference"], row["after"])
            for row in rows] == [("acme", "2.00", "-0.50", "1.50")]  # fmt: skip


def test_a_refused_one_issues_nothing() -> None:
    job = started()
    assert "refused" in rerate("refuse", str(job.pk), "--comment", "let it be", "--by", BEN)
    with pytest.raises(CommandError, match="not waiting for a decision"):
        rerate("approve", str(job.pk), "--digest", job.digest, "--by", BEN)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "99"), "There is no re-rating 99"),
        (("start", *PERIOD, "--reason", "x", "--by", BEN), "permission billing.publish_prices"),
        (("start", *PERIOD, "--reason", "x", "--by", "no@one.example"), "no@one.example is not"),
        (("start", *PERIOD, "--reason", " ", "--by", ANN), "Say why"),
        (("start", *PERIOD, "--reason", "x", "--by", ANN, "--tariff", "no"), "no tariff no"),
        (
            ("start", *PERIOD, "--reason", "x", "--by", ANN, "--organization", "no"),
            "no organization no",
        ),
    ],
)
def test_what_cannot_be_done_is_said(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        rerate(*words)
