"""Re-rating by many at once, and by a worker that is killed: each note once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from accounts.models import User
from billing import catalog, invoicing, rerating
from billing.models import Invoice, InvoiceSeries, ReratingItem, ReratingJob, Tariff
from tests import build
from tests.database.test_races_billing import at_once

pytestmark = pytest.mark.django_db(transaction=True)

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
ORGANIZATIONS = 12
WITHIN_S = 60.0


@pytest.fixture
def ann(transactional_db: None) -> User:
    return build.make_user(email="ann@cloud.example")


@pytest.fixture
def job(ann: User) -> ReratingJob:
    """Twelve organizations with two months each, half of them charged too much, half too little."""
    tariffs = [build.make_tariff(code=code) for code in ("down", "up")]
    for number in range(ORGANIZATIONS):
        bill(number, tariffs[number % 2])
    for tariff, price in zip(tariffs, ("0.5", "2"), strict=True):
        catalog.correct(tariff, build.flat_document(price=price), SEPTEMBER, NOVEMBER)
    started = rerating.start(
        date(2026, 9, 1), date(2026, 11, 1), reason="both were wrong", actor=ann, now=NOVEMBER
    )
    return rerating.work(started.pk, lambda: NOVEMBER)


def bill(number: int, tariff: Tariff) -> None:
    organization = build.make_organization(name=f"O{number}", slug=f"o{number}")
    subscription = build.make_subscription(
        organization=organization, starts_at=SEPTEMBER, tariff=tariff
    )
    for month in (SEPTEMBER, OCTOBER):
        build.make_reading(organization=organization, starts_at=month, quantity=2_000_000)
    invoicing.close_period(subscription.pk, NOVEMBER)


def approve(job: ReratingJob, ann: User) -> None:
    rerating.approve(job.pk, digest=job.digest, comment="", actor=ann, now=NOVEMBER)


def each_note_once() -> None:
    notes = Invoice.objects.exclude(kind="invoice")
    totals = notes.order_by("corrects").values_list("corrects", "total_minor")
    assert len(totals) == len({corrected for corrected, _ in totals}) == 2 * ORGANIZATIONS
    assert sorted(minor for _, minor in totals) == [-100] * ORGANIZATIONS + [200] * ORGANIZATIONS
    for prefix in ("KT-CN", "KT-DN"):
        series = InvoiceSeries.objects.get(prefix=prefix)
        numbers = notes.filter(number__startswith=prefix).order_by("number")
        assert [int(str(note)[-6:]) for note in numbers] == list(range(1, ORGANIZATIONS + 1))
        assert series.last_number == ORGANIZATIONS


def test_many_workers_at_once_issue_each_note_once(job: ReratingJob, ann: User) -> None:
    approve(job, ann)
    done = at_once(*[lambda: rerating.work(job.pk, lambda: NOVEMBER).state for _ in range(6)])
    assert set(done) <= {"done", "issuing"}  # who found nothing left went home
    assert rerating.work(job.pk, lambda: NOVEMBER).state == "done"
    each_note_once()


def test_many_workers_at_once_compare_each_organization_once(job: ReratingJob, ann: User) -> None:
    again = rerating.start(
        date(2026, 9, 1), date(2026, 11, 1), reason="again", actor=ann, now=NOVEMBER
    )
    at_once(*[lambda: rerating.work(again.pk, lambda: NOVEMBER) for _ in range(6)])
    found = rerating.work(again.pk, lambda: NOVEMBER)
    assert (found.state, found.items.filter(state="differs").count()) == ("compared", 24)


def test_closing_and_re_rating_at_once_bill_each_difference_once(
    job: ReratingJob, ann: User
) -> None:
    """Whoever comes first bills it; in November every organization owes what it used."""
    december = datetime(2026, 12, 1, tzinfo=UTC)
    approve(job, ann)
    subscriptions = invoicing.due(december)
    at_once(
        lambda: rerating.work(job.pk, lambda: NOVEMBER),
        lambda: [invoicing.close_period(one, december) for one in subscriptions],
        lambda: [invoicing.close_period(one, december) for one in reversed(subscriptions)],
    )
    rerating.work(job.pk, lambda: NOVEMBER)
    totals: dict[str, int] = {}
    for document in Invoice.objects.filter(status="issued"):
        code = document.subscription.tariff.code
        totals[code] = totals.get(code, 0) + document.total_minor
    assert totals == {"down": 6 * 2 * 100, "up": 6 * 2 * 400}


def database_url() -> str:
    """Of the tests' database."""
    address = urlsplit(os.environ["DATABASE_URL"])
    return address._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def worker(job: ReratingJob) -> subprocess.Popen[bytes]:
    """`manage.py rerate work`, in a process of its own on the tests' database."""
    return subprocess.Popen(
        [sys.executable, "manage.py", "rerate", "work", str(job.pk)],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url(), "PGAPPNAME": "killed-rerating"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Return once the worker stands at a lock inside its transaction."""
    give_up_at = time.monotonic() + WITHIN_S
    while time.monotonic() < give_up_at and process.poll() is None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT FROM pg_stat_activity WHERE application_name = 'killed-rerating'"
                " AND wait_event_type = 'Lock'"
            )
            if cursor.rowcount:
                return
        time.sleep(0.02)
    raise AssertionError("the worker did not come to the lock")


BEFORE_THE_SEVENTH = (
    "SELECT FROM billing_subscription WHERE organization_id = %(seventh)s FOR UPDATE"
)
BEFORE_THE_FIRST_COMMIT = "SELECT FROM billing_reratingjob WHERE id = %(job)s FOR UPDATE"


@pytest.mark.parametrize(
    ("stands_at", "issued"), [(BEFORE_THE_SEVENTH, 12), (BEFORE_THE_FIRST_COMMIT, 0)]
)
def test_a_worker_killed_while_it_issues_is_gone_on_from(
    job: ReratingJob, ann: User, stands_at: str, issued: int
) -> None:
    """Once between two organizations, and once with two notes numbered and nothing committed."""
    approve(job, ann)
    seventh = sorted(set(job.items.values_list("organization", flat=True)))[6]
    with psycopg.connect(database_url()) as holder:
        holder.execute(stands_at, {"seventh": seventh, "job": job.pk})
        killed = worker(job)
        until_it_waits(killed)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert ReratingItem.objects.filter(job=job, state="issued").count() == issued
    assert rerating.work(job.pk, lambda: NOVEMBER).state == "done"
    each_note_once()
