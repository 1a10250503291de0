"""Re-rating in the console: shown before anything is issued, approved, followed to its notes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import Organization, User
from billing import catalog, invoicing, rerating, tasks
from billing.models import Invoice, ReratingJob, Subscription
from tests import build

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
PAGES = "/console/re-ratings/"
ASKED = {
    "first": "2026-09-01", "last": "2026-10-01", "organizations": "", "tariff": "",
    "reason": "the price was a typo",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_moment(now: datetime, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tasks.work_rerating, "delay", lambda job_id: None)
    with time_machine.travel(now, tick=False):
        yield


def clerk(email: str, *permissions: str) -> tuple[User, Client]:
    """Staff without superuser, who may do this much."""
    user = build.make_user(email=email)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return user, client


@pytest.fixture
def ann(db: None) -> Client:
    return clerk("ann@cloud.example", "publish_prices", "approve_prices")[1]


@pytest.fixture
def ben(db: None) -> Client:
    return clerk("ben@cloud.example", "approve_prices")[1]


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """Acme was billed two dollars for September."""
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER)
    build.make_reading(organization=acme, starts_at=SEPTEMBER, quantity=2_000_000)
    invoicing.close_period(subscription.pk, OCTOBER)
    return subscription


def correct(subscription: Subscription, price: str) -> None:
    catalog.publish_approved(
        subscription.tariff, build.flat_document(price=price), SEPTEMBER, OCTOBER, correcting=True
    )


def started(client: Client, **fields: str) -> ReratingJob:
    """Started on its page, and compared by a worker."""
    response = client.post(f"{PAGES}start/", ASKED | fields)
    job = ReratingJob.objects.latest("pk")
    assert response.headers["Location"] == f"{PAGES}{job.pk}/"
    return work(job)


def work(job: ReratingJob) -> ReratingJob:
    return rerating.work(job.pk, lambda: OCTOBER)


def text(client: Client, page: str) -> str:
    response = client.get(page)
    assert response.status_code == 200
    return response.content.decode()


def test_a_re_rating_is_started_shown_approved_and_issued(
    ann: Client, subscription: Subscription
) -> None:
    correct(subscription, "0.75")
    job = started(ann, organizations="acme", tariff=str(subscription.tariff_id))
    page = text(ann, f"{PAGES}{job.pk}/")
    assert "acme on flat, periods from 2026-09-01 to 2026-09-30" in page
    for shown in ("Waits for approval", "$2.00", "-$0.50", "$1.50", "KT-2026-000001", job.digest):
        assert shown in page
    assert Invoice.objects.count() == 1
    asked = text(ann, f"{PAGES}{job.pk}/approve/")
    assert "Given back: $0.50. Issued is exactly what was shown" in asked
    assert job.digest in asked
    ann.post(f"{PAGES}{job.pk}/approve/", {"digest": job.digest, "comment": "seen"})
    assert 'http-equiv="refresh"' in text(ann, f"{PAGES}{job.pk}/")
    work(job)
    page = text(ann, f"{PAGES}{job.pk}/")
    assert "KT-CN-2026-000001" in page
    assert 'http-equiv="refresh"' not in page


def test_while_it_compares_the_page_says_how_far_it_is_and_no_sums(
    ann: Client, subscription: Subscription
) -> None:
    ann.post(f"{PAGES}start/", ASKED)
    page = text(ann, f"{PAGES}{ReratingJob.objects.get().pk}/")
    assert "Comparing: 1 of 1 invoices left" in page
    assert "Before and after" not in page


def test_each_invoice_is_shown_line_by_line(ann: Client, subscription: Subscription) -> None:
    correct(subscription, "0.75")
    job = started(ann)
    page = text(ann, f"{PAGES}{job.pk}/items/{job.items.get().pk}/")
    for shown in ("flat@1", "flat@2", "-$2.00", "$1.50", "0.75 USD", "2,000,000"):
        assert shown in page


def test_every_invoice_is_a_row_of_the_file(ann: Client, subscription: Subscription) -> None:
    correct(subscription, "0.75")
    job = started(ann)
    response = ann.get(f"{PAGES}{job.pk}/items.csv")
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert lines[1].startswith("acme,KT-2026-000001,2026-09-01")
    assert lines[1].endswith("differs,2.00,-0.50,1.50,USD,,")


def test_much_money_takes_a_second_person_on_the_page_too(
    ann: Client, ben: Client, subscription: Subscription
) -> None:
    correct(subscription, "600")
    job = started(ann)
    assert "somebody else than ann@cloud.example" in text(ann, f"{PAGES}{job.pk}/")
    approval = f"{PAGES}{job.pk}/approve/"
    refused = ann.post(approval, {"digest": job.digest, "comment": ""})
    assert refused.status_code == 422
    assert "Somebody else has to approve it" in refused.content.decode()
    assert ben.post(approval, {"digest": job.digest, "comment": ""}).status_code == 302
    assert work(job).state == "done"


def test_what_changed_since_is_told(ann: Client, subscription: Subscription) -> None:
    correct(subscription, "0.75")
    job = started(ann)
    ann.post(f"{PAGES}{job.pk}/approve/", {"digest": job.digest, "comment": ""})
    build.make_reading(
        organization=subscription.organization, starts_at=SEPTEMBER, quantity=1_000_000
    )
    work(job)
    assert "came to something else" in text(ann, f"{PAGES}{job.pk}/")


def test_what_cannot_be_rated_is_on_the_page(
    ann: Client, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise ValueError("no price at noon")

    monkeypatch.setattr("billing.notes.differences", fails)
    job = started(ann)
    assert "no price at noon" in text(ann, f"{PAGES}{job.pk}/")


def test_a_re_rating_is_refused_or_withdrawn(
    ann: Client, ben: Client, subscription: Subscription
) -> None:
    correct(subscription, "0.75")
    first, second = started(ann), started(ann)
    ben.post(f"{PAGES}{first.pk}/refuse/", {"reason": "let it be"})
    ann.post(f"{PAGES}{second.pk}/withdraw/")
    page = text(ann, PAGES)
    assert "Refused" in page
    assert "Withdrawn" in page


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reason": ""}, "This field is required"),
        ({"last": "2026-09-01"}, "must come after the first"),
        ({"first": "yesterday"}, "Enter a valid date"),
        ({"organizations": "acme nobody"}, "There is no organization nobody."),
        ({"first": "2027-01-01", "last": "2027-02-01"}, "No issued invoice"),
        ({"first": "0001-01-01", "last": "9999-12-31"}, "within"),
    ],
)
def test_a_wrong_question_is_told_so(
    ann: Client, subscription: Subscription, fields: dict[str, str], says: str
) -> None:
    response = ann.post(f"{PAGES}start/", ASKED | fields)
    assert response.status_code == 422
    assert says in response.content.decode()
    assert not ReratingJob.objects.exists()


def test_who_lacks_the_permission_may_look_and_do_nothing(
    ann: Client, subscription: Subscription
) -> None:
    correct(subscription, "0.75")
    job = started(ann)
    clerks = clerk("eve@cloud.example")[1]
    assert "approve/" not in text(clerks, f"{PAGES}{job.pk}/")
    for page in ("start/", f"{job.pk}/approve/", f"{job.pk}/refuse/", f"{job.pk}/withdraw/"):
        assert clerks.get(f"{PAGES}{page}").status_code == 403
        assert clerks.post(f"{PAGES}{page}").status_code == 403


def test_an_invoice_and_its_note_name_each_other_in_the_console(
    ann: Client, subscription: Subscription
) -> None:
    correct(subscription, "0.75")
    job = started(ann)
    ann.post(f"{PAGES}{job.pk}/approve/", {"digest": job.digest, "comment": ""})
    work(job)
    note = Invoice.objects.get(kind="credit_note")
    page = text(ann, f"/console/billing/invoice/{note.pk}/change/")
    assert "Credit note" in page
    assert "KT-2026-000001" in page
    assert f'href="{PAGES}{job.pk}/"' in page
    corrected = note.corrects
    assert corrected is not None
    assert "KT-CN-2026-000001" in text(ann, f"/console/billing/invoice/{corrected.pk}/change/")
    assert "Credit note" in text(ann, "/console/billing/invoice/?kind=credit_note")
