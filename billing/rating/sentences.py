"""What a buyer reads about a rated line: every sentence can be checked by hand."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast
from zoneinfo import ZoneInfo

from billing.rating.line import ALLOWANCE, UNPRICED, RatedLine
from billing.rating.money import minor_digits

_PER = {1: "each", 1_000: "per thousand", 1_000_000: "per million"}


def sentences(line: RatedLine, currency: str, zone: ZoneInfo | None = None) -> list[str]:
    """Say in English what a line charges and why, exact to the last digit.

    Needs nothing but the line and its trace, so it reads the same years later. Instants are said
    in UTC, or by the clocks of the zone. ValueError for an unknown currency.
    """
    return [_charge(line, currency), *_reasons(line, zone)]


def _charge(line: RatedLine, currency: str) -> str:
    counted = f"{line.quantity:,} {_units(line.register)} of {line.model}"
    if line.component.startswith(ALLOWANCE):
        return f"{counted} free, from the allowance {line.component.removeprefix(ALLOWANCE)}."
    if line.component == UNPRICED:
        return f"{counted} without charge: the tariff has no price for them."
    per = _PER.get(line.per, f"per {line.per:,}")
    price, amount = _money(line.unit_price, currency), _money(line.amount, currency)
    return f"{counted} at {price} {per} = {amount}."


def _reasons(line: RatedLine, zone: ZoneInfo | None) -> Iterator[str]:
    trace = line.trace
    if line.component == UNPRICED or line.component.startswith(ALLOWANCE):
        yield f"Tariff version {line.version}."
    else:
        yield f"Tariff version {line.version}, component {line.component}."
    if "tokens" in trace:
        yield f"The allowance is {trace['tokens']:,} tokens in each billing period."
    if "step" in trace:
        yield _step(cast("Mapping[str, object]", trace["step"]), _noun(line.register))
    if "bucket" in trace:
        yield _bucket(cast("Mapping[str, object]", trace["bucket"]))
    if "first" in trace:
        first, last = (_instant(trace[end], zone) for end in ("first", "last"))
        yield f"Used from {first} until {last}."
    if "difference" in trace:
        yield _difference(cast("Mapping[str, int]", trace["difference"]))


def _step(step: Mapping[str, object], noun: str) -> str:
    """Say a step's bounds as the first and the last unit that pay its price."""
    first, to = cast("int", step["from"]) + 1, cast("int | None", step["to"])
    units = f"{noun} {first:,} onwards" if to is None else f"{noun} {first:,} to {to:,}"
    return f"Step {step['number']} of {step['of']}: {units} of the billing period."


def _bucket(bucket: Mapping[str, object]) -> str:
    name, zone = _words(bucket["name"]), bucket["zone"]
    rules = cast("Sequence[Mapping[str, object]]", bucket["rules"])
    when = "; ".join(_rule(rule) for rule in rules) or "all other time"
    return f"Time of use {name}: {when} ({zone})."


def _rule(rule: Mapping[str, object]) -> str:
    days = " ".join(day.capitalize() for day in cast("Sequence[str]", rule["days"]))
    pairs = cast("Sequence[Sequence[str]]", rule["windows"])
    windows = " and ".join(f"{opens}-{closes}" for opens, closes in pairs)
    return f"{days} {windows}" + (" except holidays" if "except" in rule else "")


def _difference(difference: Mapping[str, int]) -> str:
    now, billed = difference["now"], difference["billed"]
    return f"A correction: {now:,} in all, less {billed:,} on earlier documents."


def _units(register: str) -> str:
    return "requests" if register == "requests" else f"{_words(register)} tokens"


def _noun(register: str) -> str:
    return "request" if register == "requests" else "token"


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _instant(text: object, zone: ZoneInfo | None) -> str:
    if zone is None:
        return str(text).replace("T", " ").replace("+00:00", " UTC")
    local = datetime.fromisoformat(str(text)).astimezone(zone)
    wall, offset = local.isoformat(" ", "minutes")[:16], local.isoformat()[-6:]
    return f"{wall} UTC{offset}"


def _money(amount: Decimal, currency: str) -> str:
    """Write an amount with all its digits, and at least those of the currency."""
    whole, _, decimals = f"{amount:,f}".partition(".")
    decimals = decimals.rstrip("0").ljust(minor_digits(currency), "0")
    return f"{whole}.{decimals} {currency}" if decimals else f"{whole} {currency}"
