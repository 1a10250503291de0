"""Negotiated terms: from a date on, to the cent, corrected by difference, never edited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts.models import Organization, User
from billing import catalog, explaining, invoicing, negotiations, proposals
from billing.models import Invoice, NegotiatedTerms, Subscription
from billing.rating.period import Period
from billing.rating.tariff import TariffInvalid
from tests import build

pytestmark = pytest.mark.django_db

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
MID_SEPTEMBER = datetime(2026, 9, 16, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
MTOK = 1_000_000
FIFTH_OFF = {"discounts": [{"code": "fifth", "percent": "20"}]}
HALF_PRICE = {"discounts": [{"code": "half", "percent": "50"}]}


@pytest.fixture
def subscription(acme: Organization) -> Subscription:
    """Acme at 1.00 a million, without anything agreed."""
    return build.make_subscription(organization=acme, starts_at=SEPTEMBER)


def agree(
    of: Subscription, document=FIFTH_OFF, valid_from=SEPTEMBER, now=SEPTEMBER, **how
) -> NegotiatedTerms:
    return negotiations.agree(of, document, valid_from, now, reference="A-17", **how)


def use(of: Subscription, day: datetime, quantity: int) -> None:
    build.make_reading(organization=of.organization, starts_at=day, quantity=quantity)


def close(of: Subscription, now: datetime) -> Invoice:
    invoicing.close_period(of.pk, now)
    return of.invoices.exclude(status="void").latest("period_end")


def lines_of(invoice: Invoice) -> list[tuple[str, int, int]]:
    return [(line.version, line.quantity, line.amount_minor) for line in invoice.lines.all()]


def test_a_discount_holds_from_its_date_on(subscription: Subscription) -> None:
    agree(subscription, valid_from=MID_SEPTEMBER)
    use(subscription, MID_SEPTEMBER - timedelta(minutes=15), 3 * MTOK)
    use(subscription, MID_SEPTEMBER, 5 * MTOK)
    invoice = close(subscription, OCTOBER)
    assert lines_of(invoice) == [("flat@1", 3 * MTOK, 300), ("flat@1+n1", 5 * MTOK, 400)]
    assert "negotiated" in invoice.lines.get(version="flat@1+n1").description
    assert invoice.total_minor == 700


def test_another_organization_on_the_tariff_pays_the_listed_price(
    subscription: Subscription, globex: Organization
) -> None:
    agree(subscription)
    other = build.make_subscription(
        organization=globex, starts_at=SEPTEMBER, tariff=subscription.tariff
    )
    use(other, MID_SEPTEMBER, MTOK)
    assert close(other, OCTOBER).total_minor == 100


def test_terms_agreed_back_in_time_bill_the_difference(subscription: Subscription) -> None:
    use(subscription, MID_SEPTEMBER, 4 * MTOK)
    close(subscription, OCTOBER)
    with pytest.raises(catalog.TariffRefused, match="billed until 2026-10-01"):
        agree(subscription, now=OCTOBER + timedelta(days=9))
    agree(subscription, now=OCTOBER + timedelta(days=9), correcting=True)
    use(subscription, OCTOBER, MTOK)
    october = close(subscription, NOVEMBER)
    assert lines_of(october) == [
        ("flat@1+n1", MTOK, 80),
        ("flat@1+n1", 4 * MTOK, 320),
        ("flat@1", -4 * MTOK, -400),
    ]
    assert october.total_minor == 0


def test_later_terms_take_over_and_an_empty_agreement_goes_back_to_the_list(
    subscription: Subscription,
) -> None:
    agree(subscription)
    agree(subscription, HALF_PRICE, MID_SEPTEMBER)
    agree(subscription, {}, OCTOBER)
    stretches = negotiations.terms_in(subscription, Period(SEPTEMBER, NOVEMBER))
    assert [(one.version, one.period.start) for one in stretches] == [
        ("flat@1+n1", SEPTEMBER),
        ("flat@1+n2", MID_SEPTEMBER),
        ("flat@1", OCTOBER),
    ]


def test_a_new_version_of_the_tariff_keeps_what_was_agreed(subscription: Subscription) -> None:
    agree(subscription)
    catalog.add_version(
        subscription.tariff, build.flat_document(price="2"), MID_SEPTEMBER, SEPTEMBER
    )
    use(subscription, MID_SEPTEMBER, MTOK)
    assert lines_of(close(subscription, OCTOBER)) == [("flat@2+n1", MTOK, 160)]


def test_terms_that_jump_take_a_second_person(
    subscription: Subscription, alice: User, bob: User
) -> None:
    gift = {"discounts": [{"code": "gift", "percent": "95"}]}
    with pytest.raises(catalog.ApprovalNeeded):
        agree(subscription, gift)
    proposal = proposals.propose(
        subscription, gift, SEPTEMBER, "continue",
        reason="pilot", source="A-17", actor=alice, now=SEPTEMBER,
    )  # fmt: skip
    terms = proposals.approve(
        proposal.pk, digest=proposal.digest, comment="", actor=bob, now=SEPTEMBER
    )
    assert isinstance(terms, NegotiatedTerms)
    assert (terms.number, terms.reference, terms.document) == (1, "A-17", gift)


def test_a_proposal_for_an_agreement_is_stale_once_the_tariff_has_a_new_version(
    subscription: Subscription, alice: User, bob: User
) -> None:
    gift = {"discounts": [{"code": "gift", "percent": "95"}]}
    proposal = proposals.propose(
        subscription, gift, SEPTEMBER, "continue",
        reason="pilot", source="A-17", actor=alice, now=SEPTEMBER,
    )  # fmt: skip
    catalog.add_version(subscription.tariff, build.flat_document(price="2"), OCTOBER, SEPTEMBER)
    with pytest.raises(catalog.TariffRefused, match="propose again"):
        proposals.approve(proposal.pk, digest=proposal.digest, comment="", actor=bob, now=SEPTEMBER)


def test_a_tariff_takes_no_version_that_an_agreement_does_not_fit(acme: Organization) -> None:
    calendar = {
        "zone": "UTC",
        "default": "off_peak",
        "rules": [{"bucket": "peak", "days": ["mon"], "windows": [["09:00", "12:00"]]}],
    }
    timed = {**build.flat_document(), "calendar": calendar}
    tariff = build.make_tariff(document=timed)
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER, tariff=tariff)
    ours = {
        "code": "ours", "models": ["m"], "registers": ["input"], "shape": "time_of_use",
        "per": MTOK, "prices": {"peak": "2", "off_peak": "1"},
    }  # fmt: skip
    agree(subscription, {"components": [ours]})
    with pytest.raises(catalog.TariffRefused, match="What Acme negotiated"):
        catalog.add_version(tariff, build.flat_document(), OCTOBER, SEPTEMBER)


def test_an_agreement_that_does_not_fit_the_tariff_is_refused_at_its_field(
    subscription: Subscription,
) -> None:
    fine = build.flat_document(price="1.00000000001")
    catalog.add_version(subscription.tariff, fine, OCTOBER, SEPTEMBER)
    with pytest.raises(TariffInvalid) as refused:
        agree(subscription, {"discounts": [{"code": "d", "percent": "12.5"}]})
    assert refused.value.pointer == "/discounts"


@pytest.mark.parametrize(
    ("valid_from", "words"),
    [
        (SEPTEMBER + timedelta(minutes=7), "quarter-hour"),
        (SEPTEMBER - timedelta(days=1), "while the subscription runs"),
    ],
)
def test_terms_start_on_a_quarter_hour_of_the_subscription(
    subscription: Subscription, valid_from: datetime, words: str
) -> None:
    with pytest.raises(catalog.TariffRefused, match=words):
        agree(subscription, valid_from=valid_from)


def test_an_agreement_is_named(subscription: Subscription) -> None:
    with pytest.raises(catalog.TariffRefused, match="Name the agreement"):
        negotiations.agree(subscription, FIFTH_OFF, SEPTEMBER, SEPTEMBER, reference="")


def test_agreed_terms_are_never_edited_and_never_overlap(subscription: Subscription) -> None:
    terms = agree(subscription)
    with (
        pytest.raises(IntegrityError, match="negotiated_terms_are_never_edited"),
        transaction.atomic(),
    ):
        NegotiatedTerms.objects.update(document={})
    with pytest.raises(IntegrityError, match="negotiated_terms_stay"), transaction.atomic():
        terms.delete()
    terms.pk, terms.number = None, 2
    with pytest.raises(IntegrityError, match="negotiated_terms_never_overlap"):
        terms.save(force_insert=True)


def test_a_negotiated_line_is_explained_by_the_time_it_was_in_force(
    subscription: Subscription,
) -> None:
    agree(subscription, valid_from=MID_SEPTEMBER)
    use(subscription, MID_SEPTEMBER - timedelta(days=1), 3 * MTOK)
    use(subscription, MID_SEPTEMBER, 5 * MTOK)
    line = close(subscription, OCTOBER).lines.get(version="flat@1+n1")
    assert explaining.explain(line).quantity == 5 * MTOK
