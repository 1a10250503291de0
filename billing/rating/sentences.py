"""What a buyer reads about a rated line: every sentence can be checked by hand."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast
from zoneinfo import ZoneInfo

from billing.rating.charge_sentences import charge_reasons
from billing.rating.line import ALLOWANCE, UNPRICED, RatedLine
from billing.rating.money import total, written

_PER = {1: "each", 1_000: "per thousand", 1_000_000: "per million"}
# What registers count that do not count tokens: many, and one.
_COUNTED = {
    "requests": ("requests", "request"),
    "packages": ("packages", "package"),
    "image": ("images", "image"),
    "web_search": ("web searches", "search"),
    "days": ("local days", "day"),
    "periods": ("billing period", "period"),
    "tpm": ("tokens a minute", "token a minute"),
    "input_tpm_quarter_hours": ("input tokens a minute, for a quarter-hour each,", "unit"),
    "output_tpm_quarter_hours": ("output tokens a minute, for a quarter-hour each,", "unit"),
    "provider_cost": ("millionths of the provider's cost", "millionth"),
}


def sentences(line: RatedLine, currency: str, zone: ZoneInfo | None = None) -> list[str]:
    """Say in English what a line charges and why, exact to the last digit.

    Needs nothing but the line and its trace, so it reads the same years later. Instants are said
    in UTC, or by the clocks of the zone. ValueError for an unknown currency.
    """
    return [_charge(line, currency), *_reasons(line, currency, zone)]


def paper_sentences(
    lines: Sequence[RatedLine], currency: str, zone: ZoneInfo | None = None
) -> list[str]:
    """Say the same of a line on paper, which may be of several prices."""
    first, *others = lines
    if not others:
        return sentences(first, currency, zone)
    quantity, amount = sum(line.quantity for line in lines), total(line.amount for line in lines)
    prices = sorted(line.unit_price for line in lines)
    least, most = (written(price, currency) for price in (prices[0], prices[-1]))
    counted = f"{quantity:,} {_units(first.register)} of {first.model}"
    per = _PER.get(first.per, f"per {first.per:,}")
    charge = (
        f"{counted} at {len(set(prices))} prices from {least} to {most} {per} = "
        f"{written(amount, currency)}."
    )
    return [charge, *_reasons(first, currency, zone)]


def _charge(line: RatedLine, currency: str) -> str:
    if line.register == "minor_units":  # an amount that follows from other lines
        return (
            f"{_words(line.trace.get('shape', 'charge')).capitalize()}: {_total(line, currency)}."
        )
    counted = f"{line.quantity:,} {_units(line.register)}"
    if line.model:
        counted += f" of {line.model}"
    if line.component.startswith(ALLOWANCE):
        return f"{counted} free, from the allowance {line.component.removeprefix(ALLOWANCE)}."
    if line.component == UNPRICED:
        return f"{counted} without charge: the tariff has no price for them."
    per = _PER.get(line.per, f"per {line.per:,}")
    return f"{counted} at {written(line.unit_price, currency)} {per} = {_total(line, currency)}."


def _total(line: RatedLine, currency: str) -> str:
    return written(line.amount, currency)


def _reasons(line: RatedLine, currency: str, zone: ZoneInfo | None) -> Iterator[str]:
    trace = line.trace
    if line.component == UNPRICED or line.component.startswith(ALLOWANCE):
        yield f"Tariff version {line.version}."
    else:
        yield f"Tariff version {line.version}, component {line.component}."
    if "tokens" in trace:
        yield _allowance(trace, zone)
    if "step" in trace:
        yield _step(cast("Mapping[str, object]", trace["step"]), _noun(line.register))
    if "volume" in trace:
        yield _volume(cast("Mapping[str, object]", trace["volume"]), _noun(line.register))
    if "tier" in trace:
        yield _tier(cast("Mapping[str, object]", trace["tier"]))
    if "package" in trace:
        size = cast("Mapping[str, int]", trace["package"])["size"]
        yield f"Sold in packages of {size:,}; one that is opened is paid whole."
    if "series" in trace:
        yield _series(cast("Mapping[str, object]", trace["series"]))
    if "matched" in trace:
        yield from _when(trace["matched"])
    if trace.get("negotiated"):
        yield "The price is one you negotiated; the listed price does not apply."
    if "modifiers" in trace:
        yield _modified(trace, currency)
    if "bucket" in trace:
        yield _bucket(cast("Mapping[str, object]", trace["bucket"]), zone)
    yield from charge_reasons(line, currency, lambda text: _instant(text, zone))
    if "first" in trace:
        first, last = (_instant(trace[end], zone) for end in ("first", "last"))
        yield f"Used from {first} until {last}."
    if "difference" in trace:
        yield _difference(cast("Mapping[str, int]", trace["difference"]))


def _allowance(trace: Mapping[str, object], zone: ZoneInfo | None) -> str:
    whose = " for each model" if trace.get("each_model") else ""
    when = "once" if trace.get("once") else "in each billing period"
    until = f", until {_instant(trace['expires'], zone)}" if "expires" in trace else ""
    return f"The allowance is {trace['tokens']:,} tokens{whose} {when}{until}."


def _volume(volume: Mapping[str, object], noun: str) -> str:
    first, to = cast("int", volume["from"]) + 1, cast("int | None", volume["to"])
    reached = f"{first:,} or more" if to is None else f"{first:,} to {to:,}"
    return (
        f"Step {volume['number']} of {volume['of']}: the whole billing period comes to {reached}, "
        f"and every {noun} pays its price."
    )


def _tier(tier: Mapping[str, object]) -> str:
    above, up_to = cast("int", tier["above"]), cast("int | None", tier["up_to"])
    size = f"above {above:,}" if up_to is None else f"{above + 1:,} to {up_to:,}"
    return (
        f"Tier {tier['number']} of {tier['of']}: requests whose input was {size} tokens, "
        "cached ones included."
    )


def _series(series: Mapping[str, object]) -> str:
    known = f"The price of its interval of {series['step_minutes']} minutes."
    if not series["estimated"]:
        return known
    return "The price is not published yet: the last one known stands in for it."


def _when(matched: object) -> Iterator[str]:
    """Say what sort of request it was, where the price depends on it."""
    when = matched.get("when") if isinstance(matched, Mapping) else None
    if not when:
        return
    parts = []
    if "input_above" in when:
        parts.append(f"an input above {when['input_above']:,} tokens")
    if "input_up_to" in when:
        parts.append(f"an input up to {when['input_up_to']:,} tokens")
    if "thinking" in when:
        parts.append("reasoning" if when["thinking"] else "no reasoning")
    parts += [_words(name) for name in when.get("has", [])]
    parts += [f"no {_words(name)}" for name in when.get("lacks", [])]
    yield f"For requests with {' and '.join(parts)}."


def _modified(trace: Mapping[str, object], currency: str) -> str:
    modifiers = cast("Sequence[Mapping[str, str]]", trace["modifiers"])
    factors = ", ".join(f"x {one['factor']} ({one['code']})" for one in modifiers)
    base = written(Decimal(str(trace["base_price"])), currency)
    return f"The price is {base} {factors}."


def _step(step: Mapping[str, object], noun: str) -> str:
    """Say a step's bounds as the first and the last unit that pay its price."""
    first, to = cast("int", step["from"]) + 1, cast("int | None", step["to"])
    units = f"{noun} {first:,} onwards" if to is None else f"{noun} {first:,} to {to:,}"
    return f"Step {step['number']} of {step['of']}: {units} of the billing period."


def _bucket(bucket: Mapping[str, object], shown_in: ZoneInfo | None) -> str:
    name, zone = _words(bucket["name"]), bucket["zone"]
    rules = cast("Sequence[Mapping[str, object]]", bucket["rules"])
    events = cast("Sequence[Mapping[str, object]]", bucket.get("events", []))
    called = [
        f"called {_instant(one['start'], shown_in)} to {_instant(one['end'], shown_in)}"
        for one in events
    ]
    when = "; ".join([*(_rule(rule) for rule in rules), *called]) or "all other time"
    return f"Time of use {name}: {when} ({zone})."


def _rule(rule: Mapping[str, object]) -> str:
    days = " ".join(day.capitalize() for day in cast("Sequence[str]", rule["days"]))
    pairs = cast("Sequence[Sequence[str]]", rule["windows"])
    windows = " and ".join(f"{opens}-{closes}" for opens, closes in pairs)
    seasons = " ".join(_words(name) for name in cast("Sequence[str]", rule.get("seasons", [])))
    spared = " and ".join(f"{kind}s" for kind in cast("Sequence[str]", rule.get("except", [])))
    return " ".join(
        part for part in (seasons, days, windows, f"except {spared}" if spared else "") if part
    )


def _difference(difference: Mapping[str, int]) -> str:
    now, billed = difference["now"], difference["billed"]
    return f"A correction: {now:,} in all, less {billed:,} on earlier documents."


def _units(register: str) -> str:
    return _counted(register)[0]


def _noun(register: str) -> str:
    return _counted(register)[1]


def _counted(register: str) -> tuple[str, str]:
    """Return what a register counts, many and one."""
    if register in _COUNTED:
        return _COUNTED[register]
    for unit in ("hours", "seconds", "calls"):
        if register.endswith(f"_{unit}"):
            return _words(register).replace("token hours", "token-hours"), unit.rstrip("s")
    return f"{_words(register)} tokens", "token"


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _instant(text: object, zone: ZoneInfo | None) -> str:
    if zone is None:
        return str(text).replace("T", " ").replace("+00:00", " UTC")
    local = datetime.fromisoformat(str(text)).astimezone(zone)
    wall, offset = local.isoformat(" ", "minutes")[:16], local.isoformat()[-6:]
    return f"{wall} UTC{offset}"
