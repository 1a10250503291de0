"""What a tariff says besides its listed prices, in sentences: free tokens, factors, charges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from billing.rating.allowance import Allowance
from billing.rating.capacity import Capacity
from billing.rating.charge import Charge
from billing.rating.commitment import Commitment
from billing.rating.demand import COINCIDENT, Demand
from billing.rating.fee import Fee
from billing.rating.ladder import Ladder
from billing.rating.minimum import Minimum
from billing.rating.modifier import Modifier, Stacking
from billing.rating.money import written
from billing.rating.pass_through import PassThrough
from billing.rating.scope import When
from billing.rating.standing import DAY, Standing
from billing.rating.tariff import Terms
from metering import readings


def allowance_words(allowance: Allowance) -> str:
    """How many tokens are free, how often, and until when."""
    whose = " of each model" if allowance.each_model else ""
    often = ", once" if allowance.once else " of each billing period"
    parts = [f"the first {allowance.tokens:,} tokens{whose}{often}"]
    if allowance.starts is not None:
        parts.append(f"from {allowance.starts:%Y-%m-%d %H:%M} UTC")
    if allowance.expires is not None:
        parts.append(f"until {allowance.expires:%Y-%m-%d %H:%M} UTC")
    if allowance.prorate:
        parts.append("in a part of a period that part of them")
    if allowance.service_classes is not None:
        parts.append("served as " + (", ".join(allowance.service_classes) or "standard"))
    return ", ".join([*parts, *condition_words(allowance.when)])


def condition_words(when: When) -> Iterator[str]:
    """What a request must have been."""
    if when.boundaries:
        yield f"input of the request {size_words(when.input_above, when.input_up_to)}"
    if when.thinking is not None:
        yield "with reasoning" if when.thinking else "without reasoning"
    yield from (f"with {name.replace('_', ' ')}" for name in when.has)
    yield from (f"without {name.replace('_', ' ')}" for name in when.lacks)


def size_words(above: int, up_to: int | None) -> str:
    """A range of tokens, both ends included."""
    if up_to is None:
        return f"above {above:,}" if above else "any size"
    return f"{above + 1:,} to {up_to:,}"


def model_words(names: Sequence[str], everything: str) -> str:
    """Models by name, by how their names begin, or all of them."""
    return ", ".join(
        everything if name == "*" else f"{name[:-1]}…" if name.endswith("*") else name
        for name in names
    )


def modifier_sentences(terms: Terms) -> list[str]:
    """What multiplies the listed prices, and which of these factors exclude each other."""
    factors = [modifier_sentence(modifier) for modifier in terms.modifiers]
    groups = [
        _RULES[stacking].format(codes=" and ".join(codes))
        for name, stacking in terms.stacking
        if stacking in _RULES
        and len(codes := [one.code for one in terms.modifiers if one.group == name]) > 1
    ]
    return factors + groups


_RULES = {
    Stacking.EXCLUSIVE_BEST: "Of {codes} only the lowest factor applies.",
    Stacking.EXCLUSIVE_PRIORITY: "Of {codes} only the first that fits applies.",
}


def modifier_sentence(modifier: Modifier) -> str:
    """What multiplies which listed prices."""
    scope = modifier.scope
    parts = [
        ", ".join(readings.register_label(one).lower() for one in scope.registers or ()),
        model_words(scope.models, "any model") if scope.models else "",
        "in " + ", ".join(scope.regions) if scope.regions else "",
        "what is served as " + ", ".join(scope.service_classes) if scope.service_classes else "",
        *condition_words(scope.when),
    ]
    what = ", ".join(part for part in parts if part) or "everything"
    return f"x {modifier.factor:f} for {what} ({modifier.code})."


def charge_sentences(terms: Terms) -> list[str]:
    """What a billing period costs besides its usage, a sentence for each charge."""
    return [charge_sentence(charge, terms.currency) for charge in terms.charges]


def charge_sentence(charge: Charge, currency: str) -> str:
    """What is paid besides usage, and what it follows from."""
    match charge:
        case Standing():
            rest = "" if charge.each == DAY else "; of a part of one, that part by days"
            each = "local day" if charge.each == DAY else "billing period"
            price = written(charge.price, currency)
            return f"Standing charge ({charge.code}): {price} for each {each}{rest}."
        case Demand():
            return _demand(charge, currency)
        case Capacity():
            prices = [written(one, currency) for one in (charge.input_price, charge.output_price)]
            return (
                f"Reserved capacity ({charge.code}) for {model_words(charge.models, 'any model')}: "
                f"{charge.input_tpm:,} input and {charge.output_tpm:,} output tokens a minute, "
                f"at {prices[0]} and {prices[1]} per thousand and hour, used or not."
            )
        case Fee():
            return _fee(charge, currency)
        case Minimum():
            return f"A billing period costs at least {written(charge.amount, currency)}."
        case Commitment():
            term = f"every {charge.months} billing periods" if charge.months else "the subscription"
            return (
                f"{written(charge.amount, currency)} are promised for {term}; what is not spent "
                f"of them is billed at the end ({charge.code})."
            )
        case PassThrough():
            of = model_words(charge.models, "any model")
            return f"The provider's cost of {of} with a markup of {charge.markup_percent:f}%."
        case Ladder():
            return f"Adjustment ({charge.code}) by how well what was held was used{_by(charge)}."
    raise AssertionError(charge)


def _by(ladder: Ladder) -> str:
    if ladder.held is None:
        return ""
    register = ladder.held.register.replace("_", " ")
    return (
        f": the tokens used, each good for {ladder.held.residency_s:,} seconds, over {register}, "
        f"against a standard of {ladder.standard:f}"
    )


def _demand(demand: Demand, currency: str) -> str:
    of = {"each_meter": " of each key"}.get(demand.basis, "")
    price, window = written(demand.price, currency), f"{demand.window_minutes} minutes{of}"
    at = f"of the highest {window} in a billing period"
    if demand.basis == COINCIDENT:
        at = (
            f"in those {window} of a billing period in which all organizations together used "
            "most, which is known when it is over"
        )
    parts = [f"{price} per thousand tokens a minute {at}"]
    if demand.minimum_tpm:
        parts.append(f"{demand.minimum_tpm:,} at least")
    if demand.ratchet_months:
        parts.append(
            f"{demand.ratchet_percent}% of the highest of the {demand.ratchet_months} periods "
            "before at least"
        )
    if demand.contract is not None:
        band, dear = demand.contract.band_tpm, demand.contract.excess_factor
        parts.append(f"{demand.contract.tpm:,} by contract, and beyond {band:,} times {dear:f}")
    return f"Demand ({demand.code}): {'; '.join(parts)}."


def _fee(fee: Fee, currency: str) -> str:
    if fee.price is not None:
        return f"Fee ({fee.code}): {written(fee.price, currency)} for each billing period."
    of = "all lines before it" if fee.of is None else ", ".join(fee.of)
    beyond = f", for the requests beyond {fee.free_requests:,}" if fee.free_requests else ""
    least = f", at least {written(fee.at_least, currency)}" if fee.at_least else ""
    return f"Fee ({fee.code}): {fee.percent:f}% of {of}{beyond}{least}."
