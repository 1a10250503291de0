"""Numbers, money, moments, windows and CSV cells as the portal writes them. No database."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from babel import Locale
from django.test import RequestFactory
from django.utils import translation

from billing import spreadsheet
from billing.rating.calendar import TouCalendar, TouRule, Window
from portal import figures, series, week, window
from portal.language import locale_of

EN, DE, JA = Locale("en", "US"), Locale("de"), Locale("ja")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("minor", "currency", "locale", "text"),
    [
        (123_456, "USD", EN, "$1,234.56"),
        (-5, "USD", EN, "-$0.05"),
        (123_456, "EUR", DE, "1.234,56\xa0€"),
        (1_234, "JPY", EN, "¥1,234"),
        (1_234, "KWD", EN, "KWD\xa01.234"),
    ],
)
def test_minor_units_are_money_of_their_currency(
    minor: int, currency: str, locale: Locale, text: str
) -> None:
    assert figures.money_minor(minor, currency, locale) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.000125000000000000", "$0.000125"),
        ("3", "$3.00"),
        ("0", "$0.00"),
        ("1200", "$1,200.00"),
        ("12.3456789012345678", "$12.3456789012345678"),
    ],
)
def test_exact_money_keeps_every_digit_and_no_idle_zero(amount: str, text: str) -> None:
    assert figures.money_exact(Decimal(amount), "USD", EN) == text


@pytest.mark.parametrize(
    ("number", "locale", "text"),
    [
        (99_999, EN, "99,999"),
        (1_234_567, EN, "1.23M"),
        (2_302_357_531, EN, "2.3B"),
        (1_284_000_000, Locale("zh"), "12.84亿"),
    ],
)
def test_big_counts_have_a_short_form(number: int, locale: Locale, text: str) -> None:
    assert figures.compact(number, locale) == text


def test_something_small_is_not_nothing() -> None:
    assert figures.portion(0, 3, EN) == "<1%"
    assert figures.portion(0, 0, EN) == "0%"
    assert figures.portion(42, 3, EN) == "42%"


def test_an_amount_stands_on_the_wheels_of_a_meter() -> None:
    assert "".join(text for text, _ in figures.wheels(636_398, "USD", EN)) == "6363.98"
    assert "".join(text for text, _ in figures.wheels(5, "USD", DE)) == "00,05"
    assert "".join(text for text, _ in figures.wheels(5, "JPY", EN)) == "0005"


def test_a_period_of_whole_days_names_its_last_day_and_not_the_next() -> None:
    start, end = datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert figures.period(start, end, BERLIN, EN) == "Oct 1, 2026 to Oct 31, 2026"
    later = start + timedelta(minutes=45)
    assert figures.period(later, end, BERLIN, EN) == "Oct 1, 2026, 00:45 to Nov 1, 2026, 00:00"


@pytest.mark.parametrize(
    ("language", "header", "name"),
    [
        ("en", "en-GB,en;q=0.9", "en_GB"),
        ("en", "de-DE,de;q=0.9,en-AU;q=0.5", "en_AU"),
        ("en", "de-DE", "en"),
        ("de", "de-CH, en;q=0.4", "de_CH"),
        ("en", "", "en"),
        ("en", "*", "en"),
        ("en", "'; DROP TABLE", "en"),
        ("en", "x" * 10_000, "en"),
    ],
)
def test_the_page_chooses_the_language_and_the_reader_the_region(
    language: str, header: str, name: str
) -> None:
    request = RequestFactory().get("/", headers={"accept-language": header})
    with translation.override(language):
        assert str(locale_of(request)) == name


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start: str) -> None:
    assert spreadsheet.cell(f"{start}HYPERLINK(1)") == f"'{start}HYPERLINK(1)"


def test_numbers_stay_numbers_in_a_file() -> None:
    row = ["=1+1", -5, Decimal("-0.000000125"), 'say "hi", then go', None, "plain"]
    (line,) = spreadsheet.lines([row])
    assert line == '\'=1+1,-5,-0.000000125,"say ""hi"", then go",,plain\r\n'


def test_a_window_is_whole_local_days_whatever_the_clocks_do() -> None:
    autumn = window.Window(date(2026, 10, 25), date(2026, 10, 25), BERLIN)
    assert autumn.end - autumn.start == timedelta(hours=25)
    assert len(window.steps(autumn.start, autumn.end, "hour", BERLIN)) == 25
    assert len(window.steps(autumn.start, autumn.end, "quarter_hour", BERLIN)) == 100
    assert window.steps(autumn.start, autumn.end, "day", BERLIN) == [autumn.start]


def test_each_preset_is_seen_from_the_local_day() -> None:
    today = date(2026, 3, 1)
    found = {
        name: (chosen.first.isoformat(), chosen.last.isoformat())
        for name, _ in window.PRESETS
        for chosen in [window.preset(name, today, BERLIN)]
        if name != "dates"
    }
    assert found == {
        "7d": ("2026-02-23", "2026-03-01"),
        "today": ("2026-03-01", "2026-03-01"),
        "yesterday": ("2026-02-28", "2026-02-28"),
        "30d": ("2026-01-31", "2026-03-01"),
        "month": ("2026-03-01", "2026-03-01"),
        "last_month": ("2026-02-01", "2026-02-28"),
        "90d": ("2025-12-02", "2026-03-01"),
    }


def test_steps_of_weeks_and_months_begin_where_the_meter_begins_them() -> None:
    chosen = window.Window(date(2026, 10, 14), date(2026, 11, 10), BERLIN)
    weeks = window.steps(chosen.start, chosen.end, "week", BERLIN)
    assert [step.astimezone(BERLIN).date().isoformat() for step in weeks] == [
        "2026-10-12", "2026-10-19", "2026-10-26", "2026-11-02", "2026-11-09",
    ]  # fmt: skip
    months = window.steps(chosen.start, chosen.end, "month", BERLIN)
    assert [step.astimezone(BERLIN).date().isoformat() for step in months] == [
        "2026-10-01", "2026-11-01",
    ]  # fmt: skip


class Row(NamedTuple):
    starts_at: datetime | None
    group: tuple[str, ...]
    quantity: int
    requests: int


MONDAY, TUESDAY = datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 17, tzinfo=UTC)


def test_beyond_seven_groups_the_rest_share_a_colour_and_no_token_is_lost() -> None:
    rows = [Row(MONDAY, (f"m{number}",), 10 + number, 1) for number in range(12)]
    summary = series.summarise(
        rows, [MONDAY, TUESDAY], name=lambda group: group[0], say=lambda moment: f"{moment:%a}"
    )
    assert summary.quantity == sum(row.quantity for row in rows) == summary.steps[0].total
    assert [share.label for share in summary.drawn][-2:] == ["m5", series.OTHERS]
    assert summary.steps[0].quantities[-1] == 10 + 11 + 12 + 13 + 14
    assert summary.steps[1].quantities == [0] * 8
    assert summary.chart("tokens")["labels"] == ["Mon", "Tue"]
    assert len(summary.shares) == 12
    assert summary.requests == 12


def test_the_week_strip_has_no_gap_and_says_what_holds_now() -> None:
    peak = TouRule("peak", ("mon", "tue", "wed", "thu", "fri"), (Window(540, 720),))
    calendar = TouCalendar(ZoneInfo("Asia/Shanghai"), "off_peak", (peak,))
    shown = week.strip(calendar, datetime(2026, 11, 18, 3, 7, tzinfo=UTC))  # 11:07 there
    assert [sum(stretch.width for stretch in day.stretches) for day in shown.days] == [96] * 7
    assert shown.now == "peak"
    assert shown.next_bucket == "off-peak"
    assert shown.next_at == datetime(2026, 11, 18, 4, tzinfo=UTC)
    assert shown.days[0].words == (
        "off-peak 00:00 to 09:00; peak 09:00 to 12:00; off-peak 12:00 to 24:00"
    )
    assert shown.days[5].words == "off-peak 00:00 to 24:00"
    assert [day.today for day in shown.days].index(True) == 2
