"""Exact money: no amount is rounded but by to_minor, and there by name."""

from collections.abc import Iterable
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)
from fractions import Fraction

# 20 digits of tokens, 24 of price and 7 of `per` fit with room to spare. Whatever does not fit
# is an error and never a silently rounded amount; Python's own default is 28 digits, rounded.
EXACT = Context(
    prec=80, rounding=ROUND_HALF_UP, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow]
)

# ISO 4217, the currencies in circulation, by the digits after the point.
_CODES = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    2: """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD
    CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
    GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD
    MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP
    PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS
    TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
}
_DIGITS = {code: digits for digits, codes in _CODES.items() for code in codes.split()}


def minor_digits(currency: str) -> int:
    """Return the digits after the point of a currency's smallest unit: USD 2, JPY 0, KWD 3.

    ValueError for anything that is not the ISO 4217 code of a currency in circulation.
    """
    if currency not in _DIGITS:
        raise ValueError(f"{currency!r} is no ISO 4217 currency code; write one such as USD")
    return _DIGITS[currency]


def to_minor(amount: Decimal, currency: str) -> int:
    """Round an exact amount to whole minor units (cents, yen, fils), halves away from zero.

    Away from zero, so that a credit mirrors its charge. ValueError for an amount that is not
    finite and for an unknown currency.
    """
    digits = minor_digits(currency)
    if not amount.is_finite():
        raise ValueError(f"an amount must be finite, not {amount}")
    with localcontext(EXACT):
        return int(amount.scaleb(digits).to_integral_value(rounding=ROUND_HALF_UP))


def round_half_up(exact: Fraction) -> int:
    """Round to a whole number, halves away from zero: for what no decimal holds, such as thirds."""
    size = (2 * abs(exact.numerator) + exact.denominator) // (2 * exact.denominator)
    return size if exact >= 0 else -size


def from_minor(minor: int, currency: str) -> Decimal:
    """Return the amount that so many minor units are. ValueError for an unknown currency."""
    digits = minor_digits(currency)
    with localcontext(EXACT):
        return Decimal(minor).scaleb(-digits)


def written(amount: Decimal, currency: str) -> str:
    """Write an amount with all its digits, and at least those of the currency."""
    whole, _, decimals = f"{amount:,f}".partition(".")
    decimals = decimals.rstrip("0").ljust(minor_digits(currency), "0")
    return f"{whole}.{decimals} {currency}" if decimals else f"{whole} {currency}"


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Add amounts exactly: sum() rounds to 28 digits as soon as they run out."""
    with localcontext(EXACT):
        return sum(amounts, Decimal(0))
