"""Tariffs: published once, continued, corrected, never edited."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from accounts.models import Organization
from billing import catalog, invoicing
from billing.models import Tariff, TariffVersion
from billing.presets import PRESETS
from billing.rating.period import Period
from billing.rating.rate import PricedTerms, segments
from billing.rating.tariff import TariffInvalid, parse
from tests import build

pytestmark = pytest.mark.django_db

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
YEAR = Period(JANUARY, datetime(2027, 1, 1, tzinfo=UTC))


@pytest.fixture
def tariff(db: None) -> Tariff:
    return build.make_tariff(valid_from=JANUARY)


def shown(stretches: list[PricedTerms]) -> list[tuple[str, str, str]]:
    return [
        (stretch.version, f"{stretch.period.start:%m-%d}", f"{stretch.period.end:%m-%d}")
        for stretch in stretches
    ]


def test_a_new_version_ends_the_one_before_in_the_same_instant(tariff: Tariff) -> None:
    catalog.add_version(tariff, build.flat_document(price="2"), MARCH, JANUARY)
    assert shown(catalog.terms_in(tariff, YEAR)) == [
        ("flat@1", "01-01", "03-01"),
        ("flat@2", "03-01", "01-01"),
    ]


def test_a_version_in_between_ends_where_the_announced_one_begins(tariff: Tariff) -> None:
    catalog.add_version(tariff, build.flat_document(price="2"), JUNE, JANUARY)
    catalog.add_version(tariff, build.flat_document(price="3"), MARCH, JANUARY)
    assert shown(catalog.terms_in(tariff, YEAR)) == [
        ("flat@1", "01-01", "03-01"),
        ("flat@3", "03-01", "06-01"),
        ("flat@2", "06-01", "01-01"),
    ]


def test_a_version_from_the_same_instant_withdraws_the_other(tariff: Tariff) -> None:
    catalog.correct(tariff, build.flat_document(price="2"), JANUARY, MARCH)
    assert shown(catalog.terms_in(tariff, YEAR)) == [("flat@2", "01-01", "01-01")]
    assert tariff.versions.get(number=1).withdrawn_at == MARCH


def test_where_no_version_is_valid_usage_is_unpriced_and_the_period_still_tiled(
    tariff: Tariff,
) -> None:
    before = Period(JANUARY - timedelta(days=31), MARCH)
    assert shown(catalog.terms_in(tariff, before)) == [
        ("flat@none", "12-01", "01-01"),
        ("flat@1", "01-01", "03-01"),
    ]


def test_a_version_before_the_first_ends_where_the_first_begins(tariff: Tariff) -> None:
    catalog.add_version(tariff, build.flat_document(), JANUARY - timedelta(days=9), JANUARY)
    stretches = catalog.terms_in(tariff, Period(JANUARY - timedelta(days=31), MARCH))
    assert [version for version, _, _ in shown(stretches)] == ["flat@none", "flat@2", "flat@1"]


def test_a_wrong_document_points_at_its_fault_and_leaves_the_tariff(tariff: Tariff) -> None:
    document = build.flat_document(price="-1")
    with pytest.raises(TariffInvalid) as refused:
        catalog.add_version(tariff, document, MARCH, JANUARY)
    assert refused.value.pointer == "/components/0/price"
    assert tariff.versions.get().valid_to is None


def test_a_tariff_keeps_its_currency(tariff: Tariff) -> None:
    with pytest.raises(catalog.TariffRefused, match="EUR"):
        catalog.add_version(tariff, build.flat_document(currency="EUR"), MARCH, JANUARY)


def test_a_version_starts_on_a_quarter_hour(tariff: Tariff) -> None:
    with pytest.raises(catalog.TariffRefused, match="quarter-hour"):
        catalog.add_version(tariff, build.flat_document(), MARCH + timedelta(minutes=7), JANUARY)


def test_a_code_is_taken_once(tariff: Tariff) -> None:
    with pytest.raises(catalog.TariffRefused, match="already"):
        build.make_tariff()


def test_what_is_billed_is_corrected_and_not_continued(tariff: Tariff, acme: Organization) -> None:
    subscription = build.make_subscription(organization=acme, starts_at=JANUARY, tariff=tariff)
    invoicing.close_period(subscription.pk, MARCH)
    earlier = MARCH - timedelta(days=1)
    with pytest.raises(catalog.TariffRefused, match="billed until 2026-03-01"):
        catalog.add_version(tariff, build.flat_document(price="2"), earlier, MARCH)
    catalog.correct(tariff, build.flat_document(price="2"), earlier, MARCH)
    catalog.add_version(tariff, build.flat_document(price="3"), MARCH, MARCH)
    assert shown(catalog.terms_in(tariff, YEAR))[1:] == [
        ("flat@2", "02-28", "03-01"),
        ("flat@3", "03-01", "01-01"),
    ]


def test_a_correction_reaches_back_a_year_at_most(tariff: Tariff) -> None:
    with pytest.raises(catalog.TariffRefused, match="366 days"):
        catalog.correct(tariff, build.flat_document(), JANUARY, JANUARY + timedelta(days=367))


def test_presets_are_published_once_however_often_they_are_ensured() -> None:
    first = [tariff.pk for tariff in catalog.ensure_presets(JANUARY)]
    assert [tariff.pk for tariff in catalog.ensure_presets(MARCH)] == first
    assert TariffVersion.objects.count() == 5


@pytest.mark.parametrize("code", PRESETS)
def test_a_preset_says_that_it_is_illustrative_and_reads_back(code: str) -> None:
    preset = PRESETS[code]
    assert preset.description.startswith("Illustrative.")
    for version in preset.versions:
        terms = parse(version.document)
        assert terms.currency == preset.currency
        assert parse(terms.as_document()) == terms


@pytest.mark.parametrize("code", ["standard-usd", "standard-eur", "standard-cny"])
@pytest.mark.parametrize(
    "model",
    [
        *("qwen-max", "qwen-plus", "qwen-turbo", "deepseek-r1", "deepseek-v4-pro", "gpt-5"),
        *("claude-sonnet-4-5", "kimi-k2", "llama-3.1-70b", "made-tomorrow"),
    ],
)
@pytest.mark.parametrize("register", ["input", "cache_read", "cache_write", "output", "reasoning"])
def test_a_standard_preset_prices_every_token(code: str, model: str, register: str) -> None:
    terms = parse(PRESETS[code].versions[0].document)
    found = terms.component_for(model, register, "", "")
    assert found is not None
    assert (found[1].models == ("*",)) == (model == "made-tomorrow")


def test_deepseek_is_dearer_on_chinese_weekday_mornings_and_afternoons_but_not_on_holidays() -> (
    None
):
    catalog.ensure_presets(JANUARY)
    tariff = Tariff.objects.get(code="deepseek-tou-usd")
    week = Period(
        datetime(2026, 9, 20, 16, tzinfo=UTC), datetime(2026, 9, 27, 16, tzinfo=UTC)
    )  # Monday to Sunday in Shanghai; Friday 25 September is a holiday
    peak = [
        (f"{segment.start:%d %H}", f"{segment.end:%d %H}")
        for segment in segments(catalog.terms_in(tariff, week))
        if segment.bucket == "peak"
    ]
    assert peak == [
        (f"{day} {start}", f"{day} {end}")
        for day in (21, 22, 23, 24)
        for start, end in (("01", "04"), ("06", "10"))
    ]


@pytest.mark.parametrize("code", PRESETS)
def test_every_preset_is_published_by_its_code_once(code: str) -> None:
    call_command("publish_preset", code)
    call_command("publish_preset", code)
    tariff = Tariff.objects.get(code=code)
    assert tariff.versions.count() == len(PRESETS[code].versions)
