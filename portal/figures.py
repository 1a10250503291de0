"""Numbers, money and moments as a person reads them. Pure: a value and a locale in, a text out."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_skeleton, get_timezone_gmt
from babel.numbers import (
    format_compact_decimal,
    format_currency,
    format_decimal,
    format_percent,
    get_decimal_symbol,
)

from billing.rating.money import from_minor, minor_digits

COMPACT_FROM = 100_000


def count(number: int, locale: Locale) -> str:
    """1,234,567"""
    return str(format_decimal(number, locale=locale))


def compact(number: int, locale: Locale) -> str:
    """1.23M; a number of up to five digits stays whole."""
    if abs(number) < COMPACT_FROM:
        return count(number, locale)
    digits = 2 if abs(number) >= 1_000_000 else 0
    return str(format_compact_decimal(Decimal(number), fraction_digits=digits, locale=locale))


def money_minor(minor: int, currency: str, locale: Locale) -> str:
    """Whole minor units as money: $12.34"""
    text = format_currency(from_minor(minor, currency), currency, locale=locale)
    return _apart(str(text), currency)


def money_exact(amount: Decimal, currency: str, locale: Locale) -> str:
    """Money with every digit it has, and at least those of its currency: $0.000125"""
    shown = at_least_minor(amount, currency)
    text = format_currency(shown, currency, locale=locale, decimal_quantization=False)
    return _apart(str(text), currency)


def _apart(text: str, currency: str) -> str:
    """A currency without a sign of its own is written with its code: KWD 1.234, not KWD1.234."""
    return re.sub(rf"{currency}(?=\d)", f"{currency}\N{NO-BREAK SPACE}", text)


def at_least_minor(amount: Decimal, currency: str) -> Decimal:
    """The same amount without idle zeros, but with the digits its currency is written with."""
    least = minor_digits(currency)
    plain = amount.normalize() if amount else Decimal(0)
    exponent = plain.as_tuple().exponent
    assert isinstance(exponent, int)
    return plain.quantize(Decimal(1).scaleb(-least)) if -exponent < least else plain


def percent(part: int, locale: Locale) -> str:
    """A whole number of hundredths: 42%"""
    return str(format_percent(Decimal(part) / 100, locale=locale))


def portion(part: int, quantity: int, locale: Locale) -> str:
    """A share in hundredths, where something is never nothing: <1%"""
    return f"<{percent(1, locale)}" if quantity and not part else percent(part, locale)


def day(value: date, locale: Locale) -> str:
    """Nov 18, 2026"""
    return str(format_date(value, "medium", locale=locale))


def short_day(value: date, locale: Locale) -> str:
    """18 Nov, in the order of the locale."""
    return str(format_skeleton("MMMd", value, locale=locale))


def weekday(value: date, locale: Locale) -> str:
    """Mon"""
    return str(format_date(value, "EEE", locale=locale))


def clock(value: datetime) -> str:
    """10:07, on a clock of 24 hours."""
    return f"{value:%H:%M}"


def moment(value: datetime, zone: ZoneInfo, locale: Locale) -> str:
    """Nov 18, 2026, 10:07; the zone is said once on the page, or beside it."""
    local = value.astimezone(zone)
    return f"{day(local.date(), locale)}, {clock(local)}"


def offset(value: datetime, zone: ZoneInfo) -> str:
    """UTC+08:00: how far local time is from UTC at that moment."""
    text = str(get_timezone_gmt(value.astimezone(zone), "iso8601"))
    return "UTC" if text == "Z" else f"UTC{text}"


def period(start: datetime, end: datetime, zone: ZoneInfo, locale: Locale) -> str:
    """Nov 1, 2026 to Nov 30, 2026 where both ends are midnights; else with the clock."""
    opens, closes = start.astimezone(zone), end.astimezone(zone)
    if opens.time() == closes.time() and (opens.hour, opens.minute) == (0, 0):
        last = (closes - timedelta(days=1)).date()
        first = day(opens.date(), locale)
        return first if last == opens.date() else f"{first} to {day(last, locale)}"
    return f"{moment(start, zone, locale)} to {moment(end, zone, locale)}"


def wheels(minor: int, currency: str, locale: Locale) -> list[tuple[str, str]]:
    """An amount on the wheels of a mechanical meter: (text, its class), the point among them."""
    digits = minor_digits(currency)
    text = str(abs(minor)).rjust(max(4, digits + 2), "0")
    whole, fraction = text[: len(text) - digits], text[len(text) - digits :]
    point = [(get_decimal_symbol(locale), "point")] if fraction else []
    return [
        *((digit, "wheel") for digit in whole),
        *point,
        *((digit, "wheel fraction") for digit in fraction),
    ]


def per(units: int) -> str:
    """How many units a price is for."""
    return {1: "each", 1_000: "per thousand", 1_000_000: "per million"}.get(units, f"per {units:,}")
