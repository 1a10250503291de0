"""Many at once: real connections, real commits."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, transaction

from billing import allowance, catalog, drafting, invoicing, issuing
from billing.models import Invoice, InvoiceLine, InvoiceSeries, Subscription
from billing.rating.period import Period
from tests import build
from tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
MTOK = 1_000_000


@pytest.fixture
def subscription(transactional_db: None) -> Subscription:
    organization = build.make_organization(name="Acme", slug="acme")
    subscription = build.make_subscription(organization=organization, starts_at=SEPTEMBER)
    build.make_reading(organization=organization, starts_at=SEPTEMBER, quantity=2 * MTOK)
    return subscription


def test_eight_closers_at_once_issue_one_invoice(subscription: Subscription) -> None:
    outcomes = at_once(
        *[lambda: invoicing.close_period(subscription.pk, OCTOBER) for _ in range(8)]
    )
    assert sorted(len(issued) for issued in outcomes) == [0] * 7 + [1]
    assert Invoice.objects.get().number == "KT-2026-000001"
    assert InvoiceSeries.objects.get().last_number == 1


class Crash(Exception):
    """The closer dies here."""


def test_numbers_have_no_gap_and_rise_in_order_of_issue_though_closers_crash(
    transactional_db: None,
) -> None:
    tariff = build.make_tariff()
    subscriptions = []
    for number in range(24):
        organization = build.make_organization(name=f"O{number}", slug=f"o{number}")
        subscriptions.append(
            build.make_subscription(organization=organization, starts_at=SEPTEMBER, tariff=tariff)
        )

    def close(mine: list[Subscription], jitter: int) -> None:
        for place, subscription in enumerate(mine):
            now = OCTOBER + timedelta(seconds=(jitter * 7 + place * 3) % 11)
            try:
                with transaction.atomic():
                    invoicing.close_period(subscription.pk, now)
                    if place == 1:  # after its number was taken
                        raise Crash
            except Crash:
                pass

    failed = at_once(*[lambda n=n: close(subscriptions[n::8], n) for n in range(8)])
    assert failed == [None] * 8
    issued = list(Invoice.objects.order_by("number").values_list("number", "issued_at"))
    assert [number for number, _ in issued] == [f"KT-2026-{n:06}" for n in range(1, 17)]
    instants = [issued_at for _, issued_at in issued]
    assert instants == sorted(instants)


def test_a_void_and_a_close_at_once_leave_one_invoice_that_counts(
    subscription: Subscription,
) -> None:
    (first,) = invoicing.close_period(subscription.pk, OCTOBER)
    at_once(
        lambda: invoicing.void(first, "mistake", OCTOBER),
        *[lambda: invoicing.close_period(subscription.pk, OCTOBER) for _ in range(3)],
    )
    invoicing.close_period(subscription.pk, OCTOBER)
    counting = Invoice.objects.filter(status=Invoice.Status.ISSUED)
    assert [invoice.total_minor for invoice in counting] == [200]
    assert Invoice.objects.filter(status=Invoice.Status.VOID).get() == first


def test_a_line_cannot_slip_onto_an_invoice_while_it_is_being_issued(
    subscription: Subscription,
) -> None:
    draft = drafting.draft(subscription, Period(SEPTEMBER, OCTOBER))
    line = draft.lines.get()
    issued = threading.Event()

    def issue() -> None:
        with transaction.atomic():
            invoicing.issue(draft, OCTOBER)
            issued.set()
            threading.Event().wait(0.3)  # by then the other connection waits for our row

    def slip_in() -> None:
        issued.wait(timeout=10)
        InvoiceLine.objects.filter(pk=line.pk).update(quantity=1, amount_minor=1)

    _, refused = at_once(issue, slip_in)
    assert isinstance(refused, IntegrityError)
    assert "invoice_lines_are_frozen" in str(refused)
    assert InvoiceLine.objects.get().quantity == 2 * MTOK


def test_two_versions_added_at_once_both_stand_one_after_the_other(
    subscription: Subscription,
) -> None:
    tariff = subscription.tariff
    added = at_once(
        *[
            lambda price=price: catalog.add_version(
                tariff, build.flat_document(price=price), OCTOBER, SEPTEMBER
            )
            for price in ("2", "3", "4", "5")
        ]
    )
    assert not [outcome for outcome in added if isinstance(outcome, Exception)]
    assert sorted(tariff.versions.values_list("number", flat=True)) == [1, 2, 3, 4, 5]
    assert tariff.versions.filter(withdrawn_at=None, valid_from=OCTOBER).count() == 1


def test_eight_watchers_at_once_mail_a_threshold_once(subscription: Subscription) -> None:
    owner = build.make_user(email="alice@acme.example")
    build.make_member(organization=subscription.organization, user=owner, role="owner")
    quota = allowance.set_quota(subscription.organization, 2 * MTOK, actor=None)
    now = SEPTEMBER + timedelta(days=3)
    outcomes = at_once(*[lambda: allowance.watch_quota(quota.pk, now) for _ in range(8)])
    assert outcomes == [None] * 8
    assert len(mail.outbox) == 1


def test_a_number_is_given_back_when_the_issue_is_rolled_back(subscription: Subscription) -> None:
    draft = drafting.draft(subscription, Period(SEPTEMBER, OCTOBER))

    def issue_and_crash() -> None:
        with transaction.atomic():
            issuing.freeze(draft, OCTOBER)
            raise Crash

    with pytest.raises(Crash):
        issue_and_crash()
    assert draft.number == "KT-2026-000001"
    assert not InvoiceSeries.objects.exists()
