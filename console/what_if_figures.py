"""What the what-if pages draw: differences by size, and where two tariffs cost the same. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from billing.rating.break_even import Point, times
from billing.rating.money import from_minor

OLD, NEW, CHEAPER, DEARER, SAME = "#8b9a94", "#0f8a7b", "#0f8a7b", "#c2452d", "#8b9a94"
SOFT = "#7f8d88"  # words, told from the ground in the light and in the dark
SIZES = (5, 10, 25, 50)  # where bands of differences end, in hundredths of the old side


@dataclass(frozen=True, slots=True)
class Band:
    """How many organizations differ by so much."""

    label: str
    count: int
    colour: str


def bands(amounts: Iterable[tuple[int, int]]) -> list[Band]:
    """How many organizations pay less, as much or more, and by how much; (old, new) each."""
    counts = Counter(_band(old, new) for old, new in amounts)
    return [Band(label, counts[label], colour) for label, colour in _BANDS]


def _band(old: int, new: int) -> str:
    difference = new - old
    if difference == 0:
        return "no difference"
    if old <= 0:
        return "from nothing"
    parts = abs(100 * difference)
    size = sum(parts > edge * old for edge in SIZES)
    return _labels("less" if difference < 0 else "more")[size]


def _labels(way: str) -> list[str]:
    named = [f"up to {SIZES[0]}% {way}"]
    named += [f"{low} to {high}% {way}" for low, high in pairwise(SIZES)]
    return [*named, f"over {SIZES[-1]}% {way}"]


_BANDS = (
    *((label, CHEAPER) for label in reversed(_labels("less"))),
    ("no difference", SAME),
    *((label, DEARER) for label in _labels("more")),
    ("from nothing", DEARER),
)


def percent(old_minor: int, new_minor: int) -> str:
    """The difference in hundredths of the old side, to one decimal; "" of nothing."""
    if not old_minor:
        return ""
    tenths = Decimal(1000 * (new_minor - old_minor)) / old_minor
    return f"{tenths.quantize(Decimal(1)) / 10:+.1f}%"


def bands_chart(found: Sequence[Band]) -> dict[str, Any]:
    """A bar for each band, as Chart.js takes it."""
    return {
        "labels": [band.label for band in found],
        "datasets": [
            {
                "label": "Organizations",
                "backgroundColor": [band.colour for band in found],
                "data": [band.count for band in found],
            }
        ],
    }


def break_even_chart(points: Sequence[Point], currency: str, other: str) -> dict[str, Any]:
    """A line for each tariff over the factors of usage; amounts as text, with every digit."""
    return {
        "labels": [times(point.factor) for point in points],
        "datasets": [
            _line("Now", OLD, [point.old_minor for point in points], currency),
            _line(other, NEW, [point.new_minor for point in points], currency),
        ],
    }


def _line(label: str, colour: str, minors: Sequence[int], currency: str) -> dict[str, Any]:
    return {
        "label": label,
        "borderColor": colour,
        "backgroundColor": colour,
        "borderWidth": 2,
        "pointRadius": 2,
        "data": [f"{from_minor(minor, currency):f}" for minor in minors],
    }


_SHARED = {
    "animation": False,
    "color": SOFT,
    "maintainAspectRatio": False,
    "interaction": {"mode": "index", "intersect": False},
}
BANDS_OPTIONS = {
    **_SHARED,
    "scales": {
        "x": {"grid": {"display": False}, "ticks": {"color": SOFT}},
        "y": {"beginAtZero": True, "ticks": {"color": SOFT, "precision": 0}},
    },
    "plugins": {"legend": {"display": False}},
}


def break_even_options(currency: str) -> dict[str, Any]:
    return {
        **_SHARED,
        "scales": {
            "x": {
                "grid": {"display": False},
                "ticks": {"color": SOFT},
                "title": {"display": True, "text": "times what was used", "color": SOFT},
            },
            "y": {
                "ticks": {"color": SOFT},
                "title": {"display": True, "text": currency, "color": SOFT},
            },
        },
        "plugins": {"legend": {"display": True, "position": "bottom", "align": "start"}},
    }
