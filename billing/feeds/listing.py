"""What a list of upstream prices says, whoever publishes it, and what of it cannot be taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

PER = 1_000_000  # every listed price is for a million tokens, whatever the feed's own unit
PRICE_MAX = Decimal(100_000)  # dearer than any token sold: a unit that was mistaken
DECIMALS_MAX = 12
NAME_CHARACTERS_MAX = 200


class FeedRefused(ValueError):
    """The list as a whole is no list of prices; nothing of it is taken."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What an upstream charges for a million tokens of one register of one model, in dollars.

    above: the size of a request's whole input from which on it does. valid_from: None where the
    list does not say since when.
    """

    provider: str
    model: str
    register: str
    price: Decimal
    above: int = 0
    valid_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry that is not taken: where in the list, and why."""

    pointer: str
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"pointer": self.pointer, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class ListedModel:
    """What a list tells about a model besides its prices."""

    provider: str
    name: str
    title: str = ""
    context_tokens: int | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """One list as it was at one time. digest: SHA-256 of what was read."""

    source: str
    version: str
    digest: str
    prices: tuple[Listed, ...]
    models: tuple[ListedModel, ...]
    faults: tuple[Fault, ...]


def why_not(price: object) -> str | None:
    """Why a value is no price for a million tokens; None if it is one."""
    if not isinstance(price, Decimal):
        return f"must be a number, not {price!r}"
    if not price.is_finite():
        return f"must be finite, not {price}"
    if price < 0:
        return f"must not be negative, not {price}: a sentinel is no price"
    if price > PRICE_MAX:
        return f"must be at most {PRICE_MAX:,} for a million tokens, not {price:,}: another unit?"
    exponent = price.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    if -exponent > DECIMALS_MAX:
        return f"must have at most {DECIMALS_MAX} decimals, not {price}"
    return None


def listed(pointer: str, entry: Listed) -> Iterator[Listed | Fault]:
    """Yield the price, or why it is not taken."""
    wrong = why_not(entry.price)
    names = (entry.provider, entry.model)
    if wrong:
        yield Fault(pointer, wrong)
    elif not all(0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable() for name in names):
        yield Fault(pointer, f"must name a model in 1 to {NAME_CHARACTERS_MAX} characters")
    else:
        yield entry
