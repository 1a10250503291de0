"""Why did I pay this: a line is explained down to the quarter-hour."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from billing import catalog, invoicing
from billing.models import InvoiceLine, Subscription, Tariff
from tests import build

pytestmark = pytest.mark.django_db

SEPTEMBER = datetime(2026, 8, 31, 16, tzinfo=UTC)  # midnight in Shanghai
OCTOBER = datetime(2026, 9, 30, 16, tzinfo=UTC)
NOVEMBER = datetime(2026, 10, 31, 16, tzinfo=UTC)
PEAK = datetime(2026, 9, 1, 1, tzinfo=UTC)  # Tuesday 09:00 in Shanghai
EVENING = datetime(2026, 9, 1, 16, 30, tzinfo=UTC)  # Wednesday 00:30 in Shanghai
MTOK = 1_000_000


@pytest.fixture
def subscription(db: None) -> Subscription:
    catalog.ensure_presets(SEPTEMBER)
    organization = build.make_organization(name="Acme", slug="acme", zone="Asia/Shanghai")
    tariff = Tariff.objects.get(code="deepseek-tou-usd")
    return build.make_subscription(organization=organization, starts_at=SEPTEMBER, tariff=tariff)


def use(subscription: Subscription, at: datetime, quantity: int) -> None:
    build.make_reading(
        organization=subscription.organization,
        starts_at=at,
        quantity=quantity,
        model="deepseek-v4-pro",
        register="output",
    )


def lines(subscription: Subscription, now: datetime) -> dict[str, InvoiceLine]:
    """The lines of the month that closes now, by bucket."""
    (invoice,) = invoicing.close_period(subscription.pk, now)
    return {line.bucket: line for line in invoice.lines.all()}


def test_a_line_is_explained_by_the_readings_of_its_own_bucket(subscription: Subscription) -> None:
    use(subscription, PEAK, MTOK)
    use(subscription, PEAK + timedelta(minutes=45), 2 * MTOK)
    use(subscription, EVENING, 5 * MTOK)
    by_bucket = lines(subscription, OCTOBER)
    peak = invoicing.explain(by_bucket["peak"])
    assert peak.quantity == 3 * MTOK
    assert [
        (day.day, day.quantity, [quarter.quantity for quarter in day.quarter_hours])
        for day in peak.days
    ] == [(date(2026, 9, 1), 3 * MTOK, [MTOK, 2 * MTOK])]
    off_peak = invoicing.explain(by_bucket["off_peak"])
    assert [(day.day, day.quantity) for day in off_peak.days] == [(date(2026, 9, 2), 5 * MTOK)]


def test_a_line_says_in_sentences_what_can_be_checked_by_hand(subscription: Subscription) -> None:
    use(subscription, PEAK, 3 * MTOK)
    said = invoicing.explain(lines(subscription, OCTOBER)["peak"]).sentences
    assert said[0] == (
        "3,000,000 output tokens of deepseek-v4-pro at 3.96 USD per million = 11.88 USD."
    )
    assert "Time of use peak: Mon Tue Wed Thu Fri 09:00-12:00 and 14:00-18:00" in said[2]


def test_all_lines_that_bill_the_same_usage_add_up_to_the_meter(
    subscription: Subscription,
) -> None:
    use(subscription, PEAK, 3 * MTOK)
    use(subscription, EVENING, 5 * MTOK)
    told = invoicing.explain(lines(subscription, OCTOBER)["peak"])
    assert sorted((share.quantity, share.is_this_line) for share in told.shares) == [
        (3 * MTOK, True),
        (5 * MTOK, False),
    ]
    assert told.billed == told.metered == 8 * MTOK
    assert told.changes == []


def test_what_changed_since_is_said_until_it_is_billed(subscription: Subscription) -> None:
    use(subscription, PEAK, 3 * MTOK)
    line = lines(subscription, OCTOBER)["peak"]
    use(subscription, PEAK, MTOK)
    told = invoicing.explain(line)
    assert (told.metered, told.billed) == (4 * MTOK, 3 * MTOK)
    assert [(change.bucket, change.quantity) for change in told.changes] == [("peak", MTOK)]
    assert told.changes_in_words[0].startswith("1,000,000 output tokens of deepseek-v4-pro")
    late = lines(subscription, NOVEMBER)["peak"]
    told = invoicing.explain(line)
    assert told.changes == []
    assert [(share.invoice_number, share.quantity) for share in told.shares] == [
        ("KT-2026-000001", 3 * MTOK),
        ("KT-2026-000002", MTOK),
    ]
    difference = invoicing.explain(late)
    assert difference.usage.start == SEPTEMBER
    assert difference.quantity == 4 * MTOK
    assert "A correction: 4,000,000 in all, less 3,000,000" in difference.sentences[-1]


def test_a_line_of_a_version_corrected_since_says_so(
    subscription: Subscription,
) -> None:
    use(subscription, PEAK, 3 * MTOK)
    line = lines(subscription, OCTOBER)["peak"]
    document = build.flat_document(price="1")
    start = datetime(2026, 8, 16, 16, tzinfo=UTC)
    catalog.publish_approved(subscription.tariff, document, start, OCTOBER, correcting=True)
    told = invoicing.explain(line)
    assert told.quantity == 3 * MTOK
    assert [(change.version, change.quantity) for change in told.changes] == [
        ("deepseek-tou-usd@3", 3 * MTOK),
        ("deepseek-tou-usd@2", -3 * MTOK),
    ]


def test_a_local_day_of_the_hour_that_comes_twice_is_one_day() -> None:
    organization = build.make_organization(name="NY", slug="ny", zone="America/New_York")
    start = datetime(2026, 11, 1, 4, tzinfo=UTC)
    subscription = build.make_subscription(organization=organization, starts_at=start)
    for hours in (1, 2, 24):  # 01:00 twice, and 23:00 of the same local day
        at = start + timedelta(hours=hours)
        build.make_reading(organization=organization, starts_at=at, quantity=MTOK)
    (invoice,) = invoicing.close_period(subscription.pk, datetime(2026, 12, 1, 5, tzinfo=UTC))
    (day,) = invoicing.explain(invoice.lines.get()).days
    assert (day.day, day.quantity) == (date(2026, 11, 1), 3 * MTOK)
