"""What a buyer reads about a charge: the numbers it follows from."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from billing.rating.line import RatedLine
from billing.rating.money import from_minor, written
from billing.rating.pass_through import PassThrough

Said = Mapping[str, Any]  # a trace's own numbers, JSON values


def charge_reasons(
    line: RatedLine, currency: str, instant: Callable[[object], str]
) -> Iterator[str]:
    """Say what a line of a charge follows from; nothing for a line of a component.

    instant: how one that a trace has is written.
    """
    kind = str(line.trace.get("shape"))
    if kind in _REASONS and kind in line.trace:
        said = line.trace[kind]
        assert isinstance(said, Mapping)
        yield _REASONS[kind](said, lambda minor: written(from_minor(minor, currency), currency))
        if "peak_at" in said:
            yield f"That window began at {instant(said['peak_at'])}."
    if "markup_percent" in line.trace:
        cost = _upstream_cost(line.trace.get(PassThrough.KIND), currency)
        yield f"The provider's cost{cost} with a markup of {line.trace['markup_percent']}%."


Money = Callable[[int], str]


def _upstream_cost(said: object, currency: str) -> str:
    """What it is made of, where that is known."""
    if not isinstance(said, Mapping):
        return ""
    parts = ", ".join(
        f"{quantity:,} {register} at {price} {currency} a million"
        for register, quantity, price in said["parts"]
    )
    return f" of {written(Decimal(said['micros']).scaleb(-6), currency)} ({parts})"


def _standing(said: Said, money: Money) -> str:
    if said["each"] == "day":
        return f"{said['days']} of the billing period's {said['of']} local days."
    return f"{said['price']} a billing period, for {said['days']} of its {said['of']} local days."


def _demand(said: Said, money: Money) -> str:
    measured = said["measured_tpm"]
    parts = [f"{_measured(said)} was {measured:,} tokens a minute"]
    if said["ratchet_tpm"]:
        parts.append(f"earlier peaks set a floor of {said['ratchet_tpm']:,}")
    if said["minimum_tpm"]:
        parts.append(f"the least is {said['minimum_tpm']:,}")
    if "contract_tpm" in said:
        parts.append(f"the contract is {said['contract_tpm']:,}")
    return f"Demand: {'; '.join(parts)}; billed {said['billed_tpm']:,}."


def _measured(said: Said) -> str:
    window = said["window_minutes"]
    if said["basis"] != "coincident":
        return f"the highest mean of {window} minutes"
    unknown = "" if "peak_at" in said else ", which is not known,"
    return f"the mean of the {window} minutes of the whole system's peak{unknown}"


def _capacity(said: Said, money: Money) -> str:
    return (
        f"Reserved: {said['input_tpm']:,} input and {said['output_tpm']:,} output tokens a minute "
        f"for {said['quarter_hours']:,} quarter-hours, used or not."
    )


def _fee(said: Said, money: Money) -> str:
    of = f"{said['percent']}% of {money(said['of_minor'])}"
    if said["free_requests"]:
        of += f", the share of the requests beyond the first {said['free_requests']:,}"
    least = f", at least {said['at_least']}" if said["at_least"] != "0" else ""
    return f"A fee of {of}{least}."


def _minimum(said: Said, money: Money) -> str:
    return (
        f"The billing period costs at least {money(said['minimum_minor'])}; its other lines come "
        f"to {money(said['eligible_minor'])}."
    )


def _ladder(said: Said, money: Money) -> str:
    worth = f"{said['percent']}% of {money(said['of_minor'])}"
    if "held" not in said:
        return f"A factor of {said['factor']} is worth {worth}."
    held = said["held"]
    return (
        f"{held['tokens']:,} tokens, each good for {held['residency_s']:,} seconds of cache, over "
        f"{held['quantity']:,} {held['register'].replace('_', ' ')} are a factor of "
        f"{said['factor']}, worth {worth}."
    )


def _commitment(said: Said, money: Money) -> str:
    return (
        f"{money(said['committed_minor'])} were promised for the term; "
        f"{money(said['spent_minor'])} were spent."
    )


_REASONS: Mapping[str, Callable[[Said, Money], str]] = {
    "standing": _standing,
    "demand": _demand,
    "capacity": _capacity,
    "fee": _fee,
    "minimum": _minimum,
    "ladder": _ladder,
    "commitment": _commitment,
}
