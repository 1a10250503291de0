"""Re-rating: billed periods by the rules known now; shown, approved, corrected once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from accounts.models import AuditEntry, Organization, User
from billing import catalog, invoicing, notes, rerating
from billing.models import Invoice, ReratingItem, ReratingJob, Subscription, Tariff
from billing.waiting import NotTakenOut, NotToldApart, NotYet
from metering import readings
from tests import build

pytestmark = pytest.mark.django_db

AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
MID_SEPTEMBER = datetime(2026, 9, 15, 12, tzinfo=UTC)
MTOK = 1_000_000
State = ReratingJob.State
Item = ReratingItem.State


@pytest.fixture
def dana() -> User:
    return build.make_user(email="dana@kilotoken.example")


@pytest.fixture
def erik() -> User:
    return build.make_user(email="erik@kilotoken.example")


@pytest.fixture
def tariff() -> Tariff:
    """One dollar per million tokens."""
    return build.make_tariff()


def subscribe(organization: Organization, tariff: Tariff) -> Subscription:
    """Two million tokens in September, which is billed."""
    subscription = build.make_subscription(
        organization=organization, starts_at=SEPTEMBER, tariff=tariff
    )
    build.make_reading(organization=organization, starts_at=MID_SEPTEMBER, quantity=2 * MTOK)
    invoicing.close_period(subscription.pk, OCTOBER)
    return subscription


@pytest.fixture
def acme_billed(acme: Organization, tariff: Tariff) -> Subscription:
    return subscribe(acme, tariff)


@pytest.fixture
def globex_billed(globex: Organization, tariff: Tariff) -> Subscription:
    return subscribe(globex, tariff)


def correct(tariff: Tariff, price: str, now: datetime = OCTOBER) -> None:
    """Publish it, however far it jumps: a second person has approved the price."""
    document = build.flat_document(price=price)
    catalog.publish_approved(tariff, document, SEPTEMBER, now, correcting=True)


def at(now: datetime) -> Callable[[], datetime]:
    return lambda: now


def compared(
    actor: User, *, first: date = date(2026, 9, 1), now: datetime = OCTOBER, **scope: object
) -> ReratingJob:
    job = rerating.start(
        first, date(2026, 12, 1), reason="the price was wrong", actor=actor, now=now, **scope
    )
    return rerating.work(job.pk, at(now))


def approved(job: ReratingJob, actor: User, now: datetime = OCTOBER) -> ReratingJob:
    rerating.approve(job.pk, digest=job.digest, comment="", actor=actor, now=now)
    return rerating.work(job.pk, at(now))


def documents(organization: Organization) -> list[tuple[str, int]]:
    issued = organization.invoices.filter(status="issued").order_by("pk")
    return [(document.kind, document.total_minor) for document in issued]


def test_what_is_shown_is_before_and_after_and_nothing_is_issued_yet(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    item = job.items.get()
    assert (job.state, item.state) == (State.COMPARED, Item.DIFFERS)
    assert (item.before_minor, item.difference_minor, item.after_minor) == (200, -50, 150)
    assert [(line["version"], line["billed"], line["now"], line["amount_minor"])
            for line in item.lines] == [
        ("flat@2", 0, 2 * MTOK, 150), ("flat@1", 2 * MTOK, 0, -200),
    ]  # fmt: skip
    assert documents(acme_billed.organization) == [("invoice", 200)]


def test_what_was_approved_is_issued_and_a_second_time_there_is_nothing(
    acme_billed: Subscription, globex_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    job = approved(compared(dana), dana)
    assert (job.state, job.finished_at) == (State.DONE, OCTOBER)
    assert [item.state for item in job.items.all()] == [Item.ISSUED, Item.ISSUED]
    for subscription in (acme_billed, globex_billed):
        assert documents(subscription.organization) == [("invoice", 200), ("credit_note", -50)]
    rerating.work(job.pk, at(OCTOBER))
    again = compared(dana)
    assert (again.state, again.decided_by) == (State.DONE, None)
    assert [item.state for item in again.items.all()] == [Item.UNCHANGED, Item.UNCHANGED]
    assert Invoice.objects.count() == 4


def test_without_a_difference_nothing_is_issued_and_nobody_is_asked(
    acme_billed: Subscription, dana: User
) -> None:
    job = compared(dana)
    assert (job.state, job.items.get().state) == (State.DONE, Item.UNCHANGED)


def test_a_version_that_changes_no_amount_is_no_reason_for_a_document(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "1")
    assert compared(dana).items.get().state == Item.UNCHANGED


def test_only_what_was_asked_for_is_rated_anew(
    acme_billed: Subscription, globex_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    other = build.make_tariff(code="other")
    acme = acme_billed.organization
    assert compared(dana).items.count() == 2
    assert [item.organization for item in compared(dana, organizations=[acme]).items.all()] == [
        acme
    ]
    with pytest.raises(rerating.ReratingRefused, match="No issued invoice"):
        compared(dana, tariff=other)
    with pytest.raises(rerating.ReratingRefused, match="No issued invoice"):
        compared(dana, first=date(2026, 9, 2))


def test_a_period_begins_on_a_day_of_its_own_zone(tariff: Tariff, dana: User) -> None:
    start = datetime(2026, 8, 31, 15, tzinfo=UTC)  # midnight of 1 September
    tokyo = build.make_organization(name="Tokyo", slug="tokyo", zone="Asia/Tokyo")
    subscription = build.make_subscription(organization=tokyo, starts_at=start, tariff=tariff)
    invoicing.close_period(subscription.pk, OCTOBER)
    assert compared(dana, first=date(2026, 9, 1)).items.count() == 1


def test_a_void_invoice_is_not_rated_anew(acme_billed: Subscription, dana: User) -> None:
    invoicing.void(Invoice.objects.get(), "mistake", OCTOBER)
    with pytest.raises(rerating.ReratingRefused, match="No issued invoice"):
        compared(dana)


def test_large_sums_take_a_second_person(
    acme_billed: Subscription, tariff: Tariff, dana: User, erik: User
) -> None:
    correct(tariff, "501.01")
    job = compared(dana)
    assert job.takes_second_person
    with pytest.raises(rerating.ReratingRefused, match="Somebody else"):
        approved(job, dana)
    assert approved(job, erik).state == State.DONE
    assert documents(acme_billed.organization) == [("invoice", 200), ("debit_note", 100_002)]


def test_up_to_the_threshold_one_person_is_enough(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "501")
    job = compared(dana)
    assert job.items.get().difference_minor == 1_000_00
    assert not job.takes_second_person


def test_credits_and_debits_do_not_hide_each_other(
    acme_billed: Subscription, globex: Organization, tariff: Tariff, dana: User
) -> None:
    other = build.make_tariff(code="other")
    subscribe(globex, other)
    correct(tariff, "401")
    approved(compared(dana), dana)
    correct(tariff, "1")
    correct(other, "401")
    job = compared(dana)
    assert sum(item.difference_minor for item in job.items.all()) == 0
    assert job.takes_second_person


def test_only_what_was_shown_is_approved(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    with pytest.raises(rerating.ReratingRefused, match="not what was shown"):
        rerating.approve(job.pk, digest="0" * 64, comment="", actor=dana, now=OCTOBER)


def test_what_changed_since_it_was_approved_is_shown_again_and_the_rest_issued(
    acme_billed: Subscription, globex_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    rerating.approve(job.pk, digest=job.digest, comment="", actor=dana, now=OCTOBER)
    build.make_reading(
        organization=globex_billed.organization, starts_at=MID_SEPTEMBER, quantity=MTOK
    )
    shown = rerating.work(job.pk, at(OCTOBER))
    changed = shown.items.get(organization=globex_billed.organization)
    assert (shown.state, shown.decided_by, changed.state) == (State.COMPARED, None, Item.CHANGED)
    assert shown.digest != job.digest
    assert changed.difference_minor == 25
    assert documents(acme_billed.organization) == [("invoice", 200), ("credit_note", -50)]
    assert documents(globex_billed.organization) == [("invoice", 200)]
    with pytest.raises(rerating.ReratingRefused, match="not what was shown"):
        approved(job, dana)
    assert approved(shown, dana).state == State.DONE
    assert documents(globex_billed.organization) == [("invoice", 200), ("debit_note", 25)]


def test_a_close_between_approval_and_issue_bills_the_difference_and_no_note_does(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    rerating.approve(job.pk, digest=job.digest, comment="", actor=dana, now=NOVEMBER)
    invoicing.close_period(acme_billed.pk, NOVEMBER)
    done = rerating.work(job.pk, at(NOVEMBER))
    assert (done.state, done.items.get().state) == (State.DONE, Item.UNCHANGED)
    assert documents(acme_billed.organization) == [("invoice", 200), ("invoice", -50)]


def test_an_invoice_that_was_voided_meanwhile_is_left_out(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    invoicing.void(Invoice.objects.get(), "wrong buyer", OCTOBER)
    done = approved(job, dana)
    assert (done.state, done.items.get().state) == (State.DONE, Item.VOID)


def test_two_jobs_over_the_same_periods_issue_once(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    one, other = compared(dana), compared(dana)
    approved(one, dana)
    assert approved(other, dana).items.get().state == Item.UNCHANGED
    assert documents(acme_billed.organization) == [("invoice", 200), ("credit_note", -50)]


def test_late_usage_of_the_last_month_of_an_organization_that_left_is_charged(
    acme_billed: Subscription, dana: User
) -> None:
    build.make_reading(
        organization=acme_billed.organization, starts_at=MID_SEPTEMBER, quantity=3 * MTOK
    )
    approved(compared(dana), dana)
    assert documents(acme_billed.organization) == [("invoice", 200), ("debit_note", 300)]


def test_a_refused_job_issues_nothing_and_says_why(
    acme_billed: Subscription, tariff: Tariff, dana: User, erik: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    with pytest.raises(rerating.ReratingRefused, match="Say why"):
        rerating.refuse(job.pk, comment=" ", actor=erik, now=OCTOBER)
    rerating.refuse(job.pk, comment="we let it be", actor=erik, now=OCTOBER)
    with pytest.raises(rerating.ReratingRefused, match="Refused"):
        approved(job, erik)
    assert documents(acme_billed.organization) == [("invoice", 200)]
    actions = AuditEntry.objects.order_by("pk").values_list("action", flat=True)
    assert list(actions)[-2:] == ["rerating.started", "rerating.refused"]


def test_only_who_started_it_withdraws_a_job(
    acme_billed: Subscription, tariff: Tariff, dana: User, erik: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    with pytest.raises(rerating.ReratingRefused, match="Only who started it"):
        rerating.withdraw(job.pk, actor=erik, now=OCTOBER)
    rerating.withdraw(job.pk, actor=dana, now=OCTOBER)
    assert rerating.work(job.pk, at(OCTOBER)).state == State.WITHDRAWN


def test_a_job_says_why_and_its_days_run_forward(acme_billed: Subscription, dana: User) -> None:
    day = date(2026, 9, 1)
    with pytest.raises(rerating.ReratingRefused, match="Say why"):
        rerating.start(day, date(2026, 10, 1), reason=" ", actor=dana, now=OCTOBER)
    with pytest.raises(rerating.ReratingRefused, match="must come after"):
        rerating.start(day, day, reason="x", actor=dana, now=OCTOBER)


class Crash(BaseException):
    """The worker is killed here: nothing may catch it."""


def test_a_worker_that_dies_while_it_issues_leaves_each_note_once(
    acme_billed: Subscription,
    globex_billed: Subscription,
    tariff: Tariff,
    dana: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    rerating.approve(job.pk, digest=job.digest, comment="", actor=dana, now=OCTOBER)
    issue, calls = notes.issue, []

    def dies_after_the_second(found: list[notes.Difference], now: datetime) -> list[Invoice]:
        issued = issue(found, now)
        calls.append(issued)
        if len(calls) == 2:
            raise Crash
        return issued

    monkeypatch.setattr(notes, "issue", dies_after_the_second)
    with pytest.raises(Crash):
        rerating.work(job.pk, at(OCTOBER))
    assert Invoice.objects.filter(kind="credit_note").count() == 1
    assert rerating.waiting(OCTOBER + timedelta(seconds=59)) == []
    assert rerating.waiting(OCTOBER + timedelta(seconds=60)) == [job.pk]
    assert rerating.work(job.pk, at(OCTOBER)).state == State.DONE
    numbers = Invoice.objects.filter(kind="credit_note").order_by("number").values_list("number")
    assert [number for (number,) in numbers] == ["KT-CN-2026-000001", "KT-CN-2026-000002"]


def test_what_cannot_be_rated_is_told_and_holds_up_nobody(
    acme_billed: Subscription,
    globex_billed: Subscription,
    tariff: Tariff,
    dana: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    correct(tariff, "0.75")
    find = notes.differences

    def not_of_acme(invoices: list[Invoice]) -> list[notes.Difference]:
        if invoices[0].organization == acme_billed.organization:
            raise ValueError("its series has no price for noon")
        return find(invoices)

    monkeypatch.setattr(notes, "differences", not_of_acme)
    job = compared(dana)
    failed = job.items.get(organization=acme_billed.organization)
    assert (failed.state, failed.failure) == (Item.FAILED, "its series has no price for noon")
    assert approved(job, dana).state == State.DONE
    assert documents(acme_billed.organization) == [("invoice", 200)]
    assert documents(globex_billed.organization) == [("invoice", 200), ("credit_note", -50)]


def test_what_the_database_refuses_is_told_and_what_it_was_too_busy_for_is_tried_again(
    acme_billed: Subscription, tariff: Tariff, dana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct(tariff, "0.75")
    busy, refused = compared(dana), compared(dana)
    for job in (busy, refused):
        rerating.approve(job.pk, digest=job.digest, comment="", actor=dana, now=OCTOBER)
    with monkeypatch.context() as patched:
        patched.setattr(notes, "issue", raises(OperationalError("deadlock detected")))
        with pytest.raises(OperationalError):
            rerating.work(busy.pk, at(OCTOBER))
        patched.setattr(notes, "issue", raises(IntegrityError("note_is_of_an_issued_invoice")))
        done = rerating.work(refused.pk, at(OCTOBER))
    assert (done.state, done.items.get().failure) == (State.DONE, "note_is_of_an_issued_invoice")
    assert busy.items.get().state == Item.DIFFERS
    assert rerating.work(busy.pk, at(OCTOBER)).items.get().state == Item.ISSUED


def raises(error: Exception) -> Callable[..., None]:
    def step(*_: object) -> None:
        raise error

    return step


@pytest.mark.parametrize(
    ("unsettled", "reason"),
    [
        (readings.Unsettled(being_told_apart=True, being_taken_out=False), NotToldApart()),
        (readings.Unsettled(being_told_apart=False, being_taken_out=True), NotTakenOut()),
    ],
)
def test_readings_that_are_summed_anew_or_left_are_waited_for(
    acme_billed: Subscription,
    tariff: Tariff,
    dana: User,
    monkeypatch: pytest.MonkeyPatch,
    unsettled: readings.Unsettled,
    reason: NotYet,
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    settled = readings.Unsettled(being_told_apart=False, being_taken_out=False)
    monkeypatch.setattr(
        readings, "unsettled", lambda _, before: unsettled if before == OCTOBER else settled
    )
    waits = f"It waits for {reason}. Start another once that is done."
    assert compared(dana).items.get().failure == waits
    item = approved(job, dana).items.get()
    assert (item.state, item.failure) == (Item.FAILED, waits)
    assert documents(acme_billed.organization) == [("invoice", 200)]


REFUSED = [
    (
        "UPDATE billing_reratingitem SET state = 'waiting', note_id = NULL",
        "rerating_item_is_frozen",
    ),
    ("UPDATE billing_reratingitem SET difference_minor = 0", "rerating_item_is_frozen"),
    ("DELETE FROM billing_reratingitem", "rerating_item_stays"),
    ("UPDATE billing_reratingjob SET state = 'compared'", "rerating_ends_once"),
    ("DELETE FROM billing_reratingjob", "rerating_stays"),
]


def refused(sql: str, rule: str) -> None:
    with (
        pytest.raises(IntegrityError, match=rule),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)


@pytest.mark.parametrize(("sql", "rule"), REFUSED)
def test_the_database_keeps_what_was_issued(
    acme_billed: Subscription, tariff: Tariff, dana: User, sql: str, rule: str
) -> None:
    correct(tariff, "0.75")
    approved(compared(dana), dana)
    refused(sql, rule)


def test_the_database_refuses_to_issue_what_was_not_approved(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "0.75")
    job = compared(dana)
    taken = (
        f"UPDATE billing_reratingitem SET state = 'issued', note_id = {Invoice.objects.get().pk}"
    )
    refused(taken, "rerating_issues_what_was_approved")
    rerating.approve(job.pk, digest=job.digest, comment="", actor=dana, now=OCTOBER)
    refused(taken, "rerating_issues_what_was_approved")


def test_the_database_refuses_that_one_person_starts_and_approves_much(
    acme_billed: Subscription, tariff: Tariff, dana: User
) -> None:
    correct(tariff, "1000")
    job = compared(dana)
    refused(
        "UPDATE billing_reratingjob SET state = 'issuing', decided_at = now(),"
        f" decided_by_id = {job.started_by_id}",
        "rerating_is_approved_by_another",
    )
