"""Closing a month: what is owed is billed once, and what changes later is a difference."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from billing import catalog, invoicing, subscriptions
from billing.models import Invoice, InvoiceLine, InvoiceSeries, Subscription
from billing.rating.period import Period, quarter_hour
from metering import closed, readings
from tests import build

pytestmark = pytest.mark.django_db

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MID_SEPTEMBER = datetime(2026, 9, 15, 12, tzinfo=UTC)
MID_OCTOBER = datetime(2026, 10, 15, 12, tzinfo=UTC)
MTOK = 1_000_000


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """One dollar per million tokens, by calendar month in UTC, since September."""
    return build.make_subscription(organization=acme, starts_at=SEPTEMBER)


def use(subscription: Subscription, starts_at: datetime, quantity: int, **what: str) -> None:
    build.make_reading(
        organization=subscription.organization, starts_at=starts_at, quantity=quantity, **what
    )


def close(subscription: Subscription, now: datetime) -> list[Invoice]:
    return invoicing.close_period(subscription.pk, now)


def lines_of(invoice: Invoice) -> list[tuple[str, int, int]]:
    return [(line.register, line.quantity, line.amount_minor) for line in invoice.lines.all()]


def test_a_closed_month_is_an_issued_invoice_with_a_number(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    (invoice,) = close(subscription, OCTOBER)
    assert invoice.status == Invoice.Status.ISSUED
    assert invoice.number == "KT-2026-000001"
    assert (invoice.period_start, invoice.period_end) == (SEPTEMBER, OCTOBER)
    assert invoice.issued_at == OCTOBER
    assert invoice.due_at == OCTOBER + timedelta(days=14)
    assert lines_of(invoice) == [("input", 2 * MTOK, 200)]
    assert invoice.total_minor == 200


def test_a_month_is_not_closed_before_it_ends(subscription: Subscription) -> None:
    assert close(subscription, OCTOBER - timedelta(microseconds=1)) == []
    assert invoicing.due(OCTOBER - timedelta(microseconds=1)) == []
    assert invoicing.due(OCTOBER) == [subscription.pk]


def test_grace_keeps_a_month_open_for_late_usage(acme: Organization) -> None:
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER, grace_hours=6)
    assert close(subscription, OCTOBER + timedelta(hours=6, microseconds=-1)) == []
    assert invoicing.due(OCTOBER + timedelta(hours=5)) == []
    use(subscription, OCTOBER - timedelta(minutes=15), MTOK)
    (invoice,) = close(subscription, OCTOBER + timedelta(hours=6))
    assert invoice.total_minor == 100


def test_closing_twice_is_harmless(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, MTOK)
    assert len(close(subscription, OCTOBER)) == 1
    assert close(subscription, OCTOBER) == []
    assert Invoice.objects.count() == 1
    assert InvoiceSeries.objects.get().last_number == 1


def test_a_month_without_usage_still_has_an_invoice_of_nothing(subscription: Subscription) -> None:
    (invoice,) = close(subscription, OCTOBER)
    assert invoice.total_minor == 0
    assert invoice.number
    assert not invoice.lines.exists()


def closed_periods(organization: Organization) -> list[tuple[datetime, datetime]]:
    """As the door looks them up."""
    connection.ensure_connection()
    assert connection.connection is not None
    found = closed.since(connection.connection, organization.pk, SEPTEMBER)
    return [(one.starts_at, one.ends_at) for one in found]


def test_metering_knows_that_a_month_is_closed_until_its_invoice_is_void(
    subscription: Subscription, acme: Organization, globex: Organization
) -> None:
    assert closed_periods(acme) == []
    september, _ = close(subscription, NOVEMBER)
    assert closed_periods(acme) == [(SEPTEMBER, OCTOBER), (OCTOBER, NOVEMBER)]
    assert closed_periods(globex) == []
    invoicing.void(september, "a wrong address", NOVEMBER)
    assert closed_periods(acme) == [(OCTOBER, NOVEMBER)]
    close(subscription, NOVEMBER)
    assert closed_periods(acme) == [(SEPTEMBER, OCTOBER), (OCTOBER, NOVEMBER)]


def test_months_that_were_missed_are_closed_oldest_first(subscription: Subscription) -> None:
    invoices = close(subscription, DECEMBER)
    assert [invoice.period_start for invoice in invoices] == [SEPTEMBER, OCTOBER, NOVEMBER]
    assert [invoice.number for invoice in invoices] == [
        "KT-2026-000001",
        "KT-2026-000002",
        "KT-2026-000003",
    ]
    assert invoicing.due(DECEMBER) == []


def test_late_usage_is_a_difference_on_the_next_invoice(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    (september,) = close(subscription, OCTOBER)
    use(subscription, MID_SEPTEMBER, 3 * MTOK)
    use(subscription, MID_OCTOBER, 4 * MTOK)
    (october,) = close(subscription, NOVEMBER)
    assert lines_of(september) == [("input", 2 * MTOK, 200)]
    assert lines_of(october) == [("input", 4 * MTOK, 400), ("input", 3 * MTOK, 300)]
    late = october.lines.get(position=2)
    assert (late.usage_start, late.usage_end) == (SEPTEMBER, OCTOBER)
    assert "difference for 2026-09-01 to 2026-09-30" in late.description
    (november,) = close(subscription, DECEMBER)
    assert lines_of(november) == []


def test_late_usage_moves_the_steps_of_its_own_month(acme: Organization) -> None:
    document = build.flat_document()
    document["components"] = [
        {
            "code": "in",
            "models": ["*"],
            "registers": ["input"],
            "shape": "graduated",
            "per": MTOK,
            "steps": [{"from": 0, "price": "4"}, {"from": 10 * MTOK, "price": "2"}],
        }
    ]
    tariff = build.make_tariff(document=document)
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER, tariff=tariff)
    use(subscription, MID_SEPTEMBER, 8 * MTOK)
    (september,) = close(subscription, OCTOBER)
    use(subscription, MID_SEPTEMBER, 5 * MTOK)
    (october,) = close(subscription, NOVEMBER)
    assert lines_of(september) == [("input", 8 * MTOK, 3200)]
    assert lines_of(october) == [("input", 2 * MTOK, 800), ("input", 3 * MTOK, 600)]


def test_a_corrected_tariff_takes_back_the_old_price_and_charges_the_new(
    subscription: Subscription,
) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    close(subscription, OCTOBER)
    catalog.correct(
        subscription.tariff,
        build.flat_document(price="0.75"),
        SEPTEMBER,
        OCTOBER + timedelta(days=3),
    )
    use(subscription, MID_OCTOBER, MTOK)
    (october,) = close(subscription, NOVEMBER)
    assert [(line.version, line.quantity, line.amount_minor) for line in october.lines.all()] == [
        ("flat@2", MTOK, 75),
        ("flat@2", 2 * MTOK, 150),
        ("flat@1", -2 * MTOK, -200),
    ]
    assert october.total_minor == 25


def test_a_correction_reaches_months_that_late_usage_no_longer_does(
    subscription: Subscription,
) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    close(subscription, DECEMBER)
    catalog.correct(subscription.tariff, build.flat_document(price="3"), SEPTEMBER, DECEMBER)
    (december,) = close(subscription, datetime(2027, 1, 1, tzinfo=UTC))
    assert december.total_minor == 600 - 200


def test_usage_that_came_late_in_a_gap_between_subscriptions_is_not_forgotten(
    subscription: Subscription,
) -> None:
    subscriptions.end(subscription, OCTOBER)
    close(subscription, OCTOBER)
    use(subscription, MID_SEPTEMBER, 3 * MTOK)
    after = build.make_subscription(
        organization=subscription.organization,
        starts_at=DECEMBER,
        tariff=subscription.tariff,
    )
    (december,) = close(after, datetime(2027, 1, 1, tzinfo=UTC))
    assert december.total_minor == 300


def test_a_void_invoice_bills_a_correction_again_though_an_older_one_was_replaced_since(
    subscription: Subscription,
) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    close(subscription, DECEMBER)
    catalog.correct(subscription.tariff, build.flat_document(price="3"), SEPTEMBER, DECEMBER)
    (december,) = close(subscription, datetime(2027, 1, 1, tzinfo=UTC))
    november = Invoice.objects.get(period_start=NOVEMBER)
    now = datetime(2027, 1, 20, tzinfo=UTC)
    invoicing.void(november, "address", now)
    close(subscription, now)
    invoicing.void(december, "address", now)
    (again,) = close(subscription, now)
    assert december.total_minor == again.total_minor == 600 - 200


def test_what_corrections_give_back_may_exceed_the_month(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    close(subscription, OCTOBER)
    catalog.correct(subscription.tariff, build.flat_document(price="0.25"), SEPTEMBER, OCTOBER)
    (october,) = close(subscription, NOVEMBER)
    assert october.total_minor == 50 - 200


def test_lines_are_rounded_once_and_the_invoice_is_their_sum(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, 15_000, register="input")
    use(subscription, MID_SEPTEMBER, 15_000, register="output")
    use(subscription, MID_SEPTEMBER, 4_999, register="cache_read")
    (invoice,) = close(subscription, OCTOBER)
    assert sorted(line.amount_minor for line in invoice.lines.all()) == [0, 2, 2]
    assert invoice.total_minor == invoice.subtotal_minor == 4


@pytest.mark.parametrize(("currency", "minor"), [("JPY", 2), ("KWD", 1_500), ("USD", 150)])
def test_amounts_are_whole_minor_units_of_the_currency(currency: str, minor: int) -> None:
    organization = build.make_organization(name="Kyoto", slug="kyoto", currency=currency)
    subscription = build.make_subscription(organization=organization, starts_at=SEPTEMBER)
    use(subscription, MID_SEPTEMBER, 1_500_000)
    (invoice,) = close(subscription, OCTOBER)
    assert (invoice.currency, invoice.total_minor) == (currency, minor)


MONTHS = [  # zone, start of a month and of the next, in UTC
    ("Asia/Shanghai", "2026-09-30T16:00+00:00", "2026-10-31T16:00+00:00"),
    ("America/New_York", "2026-11-01T04:00+00:00", "2026-12-01T05:00+00:00"),
    ("America/New_York", "2026-03-01T05:00+00:00", "2026-04-01T04:00+00:00"),
    ("Australia/Lord_Howe", "2026-03-31T13:00+00:00", "2026-04-30T13:30+00:00"),
]


@pytest.mark.parametrize(("zone", "starts", "ends"), MONTHS)
def test_a_month_ends_at_local_midnight_and_usage_on_either_side_is_told_apart(
    zone: str, starts: str, ends: str
) -> None:
    start, end = datetime.fromisoformat(starts), datetime.fromisoformat(ends)
    organization = build.make_organization(name="Zoned", slug="zoned", zone=zone)
    subscription = build.make_subscription(organization=organization, starts_at=start)
    use(subscription, start - timedelta(minutes=15), 1 * MTOK)
    use(subscription, start, 2 * MTOK)
    use(subscription, end - timedelta(minutes=15), 4 * MTOK)
    use(subscription, end, 8 * MTOK)
    assert close(subscription, end - timedelta(minutes=15)) == []
    (invoice,) = close(subscription, end)
    assert (invoice.period_start, invoice.period_end) == (start, end)
    assert invoice.total_minor == 600


def test_the_anchor_on_the_31st_comes_back_after_february(acme: Organization) -> None:
    subscription = build.make_subscription(
        organization=acme, starts_at=datetime(2026, 1, 31, tzinfo=UTC), anchor_day=31
    )
    invoices = close(subscription, datetime(2026, 6, 1, tzinfo=UTC))
    assert [f"{invoice.period_end:%m-%d}" for invoice in invoices] == [
        "02-28",
        "03-31",
        "04-30",
        "05-31",
    ]
    for before, after in pairwise(invoices):
        assert before.period_end == after.period_start


def test_a_void_invoice_is_billed_again_under_a_new_number(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    (first,) = close(subscription, OCTOBER)
    invoicing.void(first, "wrong buyer", OCTOBER)
    assert first.status == Invoice.Status.VOID
    assert first.number == "KT-2026-000001"
    assert invoicing.due(OCTOBER) == [subscription.pk]
    (second,) = close(subscription, OCTOBER)
    assert second.number == "KT-2026-000002"
    assert second.replaces == first
    assert lines_of(second) == lines_of(first) == [("input", 2 * MTOK, 200)]
    assert close(subscription, OCTOBER) == []


def test_a_void_of_an_older_month_bills_again_what_later_documents_do_not_carry(
    subscription: Subscription,
) -> None:
    use(subscription, MID_SEPTEMBER, 2 * MTOK)
    (september,) = close(subscription, OCTOBER)
    use(subscription, MID_SEPTEMBER, 3 * MTOK)
    (october,) = close(subscription, NOVEMBER)
    invoicing.void(september, "wrong address", NOVEMBER)
    (again,) = close(subscription, NOVEMBER)
    assert lines_of(october) == [("input", 3 * MTOK, 300)]
    assert lines_of(again) == [("input", 2 * MTOK, 200)]


def test_only_an_issued_invoice_is_voided_and_only_with_a_reason(
    subscription: Subscription,
) -> None:
    (invoice,) = close(subscription, OCTOBER)
    with pytest.raises(invoicing.InvoiceRefused, match="Say why"):
        invoicing.void(invoice, "  ", OCTOBER)
    invoicing.void(invoice, "mistake", OCTOBER)
    with pytest.raises(invoicing.InvoiceRefused, match="Only an issued"):
        invoicing.void(invoice, "mistake", OCTOBER)


def test_a_draft_is_no_bill_and_the_close_replaces_it(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, MTOK)
    period = Period(SEPTEMBER, OCTOBER)
    invoicing.draft(subscription, period)
    assert [line.quantity for line in invoicing.owed(subscription, period)] == [MTOK]
    (invoice,) = close(subscription, OCTOBER)
    assert Invoice.objects.get() == invoice
    assert invoicing.owed(subscription, period) == []


def test_a_draft_is_not_issued_before_its_period_ends(subscription: Subscription) -> None:
    draft = invoicing.draft(subscription, Period(SEPTEMBER, OCTOBER))
    with pytest.raises(invoicing.InvoiceRefused, match="not ended"):
        invoicing.issue(draft, MID_SEPTEMBER)
    invoicing.issue(draft, OCTOBER)
    with pytest.raises(invoicing.InvoiceRefused, match="Only a draft"):
        invoicing.issue(draft, OCTOBER)


def test_a_draft_of_the_running_month_does_not_keep_a_subscription_from_ending(
    subscription: Subscription,
) -> None:
    invoicing.draft(subscription, Period(SEPTEMBER, OCTOBER))
    subscriptions.end(subscription, MID_SEPTEMBER)
    (invoice,) = close(subscription, OCTOBER)
    assert (invoice.period_start, invoice.period_end) == (SEPTEMBER, MID_SEPTEMBER)


def test_a_void_month_is_billed_again_also_when_the_subscription_ended_with_it(
    subscription: Subscription,
) -> None:
    (first,) = close(subscription, OCTOBER)
    invoicing.void(first, "mistake", OCTOBER)
    after = subscriptions.change_tariff(subscription, subscription.tariff, OCTOBER)
    assert close(after, NOVEMBER) == []
    assert len(close(subscription, NOVEMBER)) == 1
    assert len(close(after, NOVEMBER)) == 1


def test_a_changed_tariff_cuts_the_period_and_late_usage_follows_to_the_next_subscription(
    subscription: Subscription,
) -> None:
    dear = build.make_tariff(code="dear", document=build.flat_document(price="2"))
    use(subscription, MID_SEPTEMBER, MTOK)
    use(subscription, MID_SEPTEMBER + timedelta(days=1), MTOK)
    after = subscriptions.change_tariff(subscription, dear, MID_SEPTEMBER + timedelta(days=1))
    assert invoicing.due(OCTOBER) == [subscription.pk, after.pk]
    assert close(after, OCTOBER) == []
    assert "subscription before it" in str(invoicing.waiting_for(after, OCTOBER))
    (first,) = close(subscription, OCTOBER)
    (second,) = close(after, OCTOBER)
    assert (first.total_minor, second.total_minor) == (100, 200)
    assert first.period_end == second.period_start
    use(subscription, MID_SEPTEMBER, MTOK)
    (october,) = close(after, NOVEMBER)
    assert [(line.version, line.amount_minor) for line in october.lines.all()] == [("flat@1", 100)]
    assert close(subscription, NOVEMBER) == []
    assert invoicing.due(NOVEMBER) == []


def test_the_document_keeps_who_sold_and_who_bought(
    subscription: Subscription, acme: Organization
) -> None:
    Organization.objects.filter(pk=acme.pk).update(billing_name="Acme GmbH", tax_id="DE1")
    (invoice,) = close(subscription, OCTOBER)
    Organization.objects.filter(pk=acme.pk).update(billing_name="Other", tax_id="")
    invoice.refresh_from_db()
    assert (invoice.buyer["name"], invoice.buyer["tax_id"]) == ("Acme GmbH", "DE1")
    assert invoice.seller["name"]


def test_a_subscription_without_prices_is_shown_as_not_charged(acme: Organization) -> None:
    tariff = build.make_tariff(valid_from=MID_SEPTEMBER)
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER, tariff=tariff)
    use(subscription, SEPTEMBER, MTOK)
    use(subscription, MID_SEPTEMBER, MTOK)
    (invoice,) = close(subscription, OCTOBER)
    assert [(line.version, line.component, line.amount_minor) for line in invoice.lines.all()] == [
        ("flat@none", "unpriced", 0),
        ("flat@1", "all", 100),
    ]


def pending(organization: Organization, *, state: str, received_at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO metering_ingestbatch (organization_id, api_key_id, submitted, accepted,"
            " duplicate, conflict, rejected, state, received_at)"
            " VALUES (%s, 1, 1, 1, 0, 0, 0, %s, %s)",
            [organization.pk, state, received_at],
        )


def test_a_period_waits_for_what_was_accepted_before_its_end_and_no_more(
    acme: Organization,
) -> None:
    """Metering tells ages by the database's clock, so this one alone runs on the true time."""
    now = timezone.now()
    ended = quarter_hour(now - timedelta(hours=2))
    subscription = build.make_subscription(
        organization=acme, starts_at=ended - timedelta(days=3), anchor_day=31
    )
    subscriptions.end(subscription, ended)
    pending(acme, state="pending", received_at=ended + timedelta(minutes=1))
    assert invoicing.waiting_for(subscription, now) is None
    pending(acme, state="pending", received_at=ended - timedelta(minutes=1))
    assert "not in the readings yet" in str(invoicing.waiting_for(subscription, now))
    assert close(subscription, now) == []
    with connection.cursor() as cursor:
        cursor.execute("UPDATE metering_ingestbatch SET state = 'applied', applied_at = now()")
    assert len(close(subscription, now)) >= 1


def test_a_period_waits_while_a_batch_of_its_organization_needs_a_person(
    acme: Organization, globex: Organization, subscription: Subscription
) -> None:
    other = build.make_subscription(
        organization=globex, starts_at=SEPTEMBER, tariff=subscription.tariff
    )
    pending(acme, state="failed", received_at=MID_SEPTEMBER)
    assert close(subscription, OCTOBER) == []
    assert "could not be added" in str(invoicing.waiting_for(subscription, OCTOBER))
    assert invoicing.due(OCTOBER) == [subscription.pk, other.pk]
    assert len(close(other, OCTOBER)) == 1


def test_a_batch_that_failed_after_a_period_could_be_closed_holds_up_the_next_one_only(
    acme: Organization, subscription: Subscription
) -> None:
    """Its usage may be late usage of September: the difference stands on October's invoice."""
    pending(acme, state="failed", received_at=OCTOBER + timedelta(minutes=1))
    assert len(close(subscription, OCTOBER + timedelta(hours=1))) == 1
    assert close(subscription, NOVEMBER) == []
    assert "received before 2026-11-01" in str(invoicing.waiting_for(subscription, NOVEMBER))


def test_invoices_of_other_periods_stop_the_billing(subscription: Subscription) -> None:
    odd = invoicing.draft(subscription, Period(SEPTEMBER, MID_SEPTEMBER))
    invoicing.issue(odd, OCTOBER)
    with pytest.raises(invoicing.PeriodsDoNotTile):
        close(subscription, OCTOBER)
    assert Invoice.objects.count() == 1


def whole(organization: Organization, start: datetime, end: datetime) -> Counter[tuple[str, str]]:
    """What the meter shows, by model and register."""
    metered: Counter[tuple[str, str]] = Counter()
    for found in readings.usage_in(organization.pk, [readings.Slice(start, end)]):
        metered[found.model, found.register] += found.quantity
    return metered


def carried(organization: Organization) -> Counter[tuple[str, str]]:
    """What issued invoices carry, by model and register."""
    on_paper: Counter[tuple[str, str]] = Counter()
    issued = InvoiceLine.objects.filter(
        invoice__organization=organization, invoice__status=Invoice.Status.ISSUED
    )
    for line in issued:
        on_paper[line.model, line.register] += line.quantity
    return +on_paper


TWO_STEPS_AND_AN_ALLOWANCE: dict[str, object] = {
    "currency": "USD",
    "calendar": {
        "zone": "Asia/Shanghai",
        "default": "off_peak",
        "rules": [{"bucket": "peak", "days": ["mon", "tue"], "windows": [["09:00", "18:00"]]}],
    },
    "allowances": [
        {"code": "free", "tokens": 700, "models": ["*"], "registers": ["input", "output"]}
    ],
    "components": [
        {
            "code": "tou",
            "models": ["a"],
            "registers": ["input"],
            "shape": "time_of_use",
            "per": 1,
            "prices": {"peak": "2", "off_peak": "1"},
        },
        {
            "code": "steps",
            "models": ["a", "b"],
            "registers": ["input", "output"],
            "shape": "graduated",
            "per": 1,
            "steps": [{"from": 0, "price": "3"}, {"from": 900, "price": "1"}],
        },
    ],
}

late_usage = st.tuples(
    st.integers(0, 40 * 96),  # quarter-hours before the moment of arrival
    st.sampled_from(["a", "b", "never-priced"]),
    st.sampled_from(["input", "output"]),
    st.integers(1, 1_000),
)
rounds = st.lists(
    st.tuples(
        st.lists(late_usage, max_size=6),
        st.sampled_from(["nothing", "correct the tariff", "void the last invoice"]),
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rounds=rounds)
def test_owed_and_billed_are_the_whole_whatever_comes_late(
    acme: Organization, rounds: list[tuple[list[tuple[int, str, str, int]], str]]
) -> None:
    """Several closes with late readings, corrected tariffs and void invoices in between."""
    sid = transaction.savepoint()
    tariff = build.make_tariff(document=TWO_STEPS_AND_AN_ALLOWANCE)
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER, tariff=tariff)
    close(subscription, OCTOBER)
    now = OCTOBER
    for used, then in rounds:
        for quarters, model, register, quantity in used:
            at = max(now - timedelta(minutes=15 * (quarters + 1)), SEPTEMBER)
            use(subscription, at, quantity, model=model, register=register)
        if then == "correct the tariff":
            document = build.flat_document(price="5")
            start = now - timedelta(days=45)
            catalog.publish_approved(tariff, document, start, now, correcting=True)
        if then == "void the last invoice":
            last = Invoice.objects.filter(status=Invoice.Status.ISSUED).latest("period_end")
            invoicing.void(last, "try again", now)
        now = subscriptions.period_at(subscription, now).end
        close(subscription, now)
        assert carried(acme) == whole(acme, SEPTEMBER, now)
    for invoice in Invoice.objects.filter(status=Invoice.Status.ISSUED):
        period = Period(invoice.period_start, invoice.period_end)
        assert invoicing.owed(subscription, period) == []
    transaction.savepoint_rollback(sid)
