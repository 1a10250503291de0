"""What a preset is: a tariff to start from, with where its figures are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

MTOK = 1_000_000
INPUT = ("input", "cache_read", "cache_write")
OUTPUT = ("output", "reasoning")


@dataclass(frozen=True, slots=True)
class PresetVersion:
    """Terms and the instants between which they hold; valid_to None: until further notice."""

    valid_from: datetime
    valid_to: datetime | None
    document: Mapping[str, object]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """A tariff that `catalog.publish_preset` publishes."""

    name: str
    currency: str
    description: str
    versions: tuple[PresetVersion, ...]


def flat(code: str, model: str, registers: Sequence[str], price: str) -> dict[str, object]:
    """A component with one price for a million tokens."""
    return {
        "code": code,
        "models": [model],
        "registers": list(registers),
        "shape": "flat",
        "per": MTOK,
        "price": price,
    }


def by_size(
    code: str,
    model: str,
    registers: Sequence[str],
    tiers: Sequence[tuple[int, str]],
    *,
    thinking: bool = False,
) -> dict[str, object]:
    """A component priced by the size of the whole request's input; thinking: of those that do."""
    when = {"when": {"thinking": True}} if thinking else {}
    return {
        "code": code,
        "models": [model],
        "registers": list(registers),
        **when,
        "shape": "request_size",
        "per": MTOK,
        "tiers": [{"above": above, "price": price} for above, price in tiers],
    }


def factor(
    code: str, kind: str, of: str, *, group: str = "", **scope: Sequence[str]
) -> dict[str, object]:
    """A modifier of prices."""
    named: dict[str, object] = {name: list(names) for name, names in scope.items()}
    return {
        "code": code,
        "kind": kind,
        **named,
        **({"group": group} if group else {}),
        "factor": of,
    }
