"""Tariffs of a kind rather than of a provider; every figure is made up to be read easily."""

from __future__ import annotations

from collections.abc import Mapping

from billing.presets.preset import INPUT, MTOK, OUTPUT, Preset, PresetVersion, flat
from billing.presets.standard import STANDARD_FROM

_FLAT = {
    "currency": "USD",
    "components": [flat("input", "*", INPUT, "0.50"), flat("output", "*", OUTPUT, "1.50")],
}
_CALENDAR = {
    "zone": "UTC",
    "default": "off_peak",
    "rules": [
        {
            "bucket": "peak",
            "days": ["mon", "tue", "wed", "thu", "fri"],
            "windows": [["08:00", "20:00"]],
        }
    ],
}


def _timed(code: str, registers: tuple[str, ...], off_peak: str, peak: str) -> dict[str, object]:
    return {
        "code": code,
        "models": ["*"],
        "registers": list(registers),
        "shape": "time_of_use",
        "per": MTOK,
        "prices": {"off_peak": off_peak, "peak": peak},
    }


_INDUSTRIAL = {
    "currency": "USD",
    "calendar": _CALENDAR,
    "components": [
        _timed("input", INPUT, "0.20", "0.40"),
        _timed("output", OUTPUT, "0.60", "1.20"),
    ],
    "charges": [
        {
            "code": "peak-load",
            "kind": "demand",
            "price": "0.90",
            "window_minutes": 15,
            "ratchet": {"percent": 80, "months": 11},
        },
        {"code": "connection", "kind": "standing", "each": "day", "price": "1.50"},
        {"code": "year", "kind": "commitment", "amount": "12000", "months": 12},
    ],
}
_PREPAID = {
    **_FLAT,
    "allowances": [
        {
            "code": "welcome",
            "tokens": MTOK,
            "models": ["*"],
            "registers": [*INPUT, *OUTPUT],
            "once": True,
        }
    ],
}


def _preset(name: str, document: Mapping[str, object], says: str) -> Preset:
    versions = (PresetVersion(STANDARD_FROM, None, document),)
    return Preset(name, "USD", f"Illustrative. {says}", versions)


PLAIN: Mapping[str, Preset] = {
    "flat-usd": _preset("Flat (USD)", _FLAT, "One price for input and one for output."),
    "industrial-usd": _preset(
        "Industrial (USD)",
        _INDUSTRIAL,
        "Twice the price on weekdays 08:00-20:00 UTC; the highest quarter-hour of the month and of "
        "four fifths of the year's before, by the thousand tokens a minute; a standing charge a "
        "day; and 12,000 a year promised.",
    ),
    "prepaid-usd": _preset(
        "Prepaid (USD)",
        _PREPAID,
        "One price for input and one for output, no charge that comes without usage, and a million "
        "tokens free, once: what a wallet that is topped up pays by.",
    ),
}
