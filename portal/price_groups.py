"""The price list by model: rows grouped, searched and drawn. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from billing import costs, terms_drawn
from billing.costs import PriceRow
from billing.rating.tariff import RateComponent, Terms
from billing.terms_drawn import Drawing, Priced

_Key = TypeVar("_Key")
OPEN_MAX = 6  # more groups than these are folded, and can be searched
DRAWN_MAX = 24  # drawings on one page; a search brings the others


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawing and what it is of: "Output; with reasoning", by "1M tokens"."""

    what: str
    unit: str
    drawing: Drawing


@dataclass(frozen=True, slots=True)
class Prices:
    """The price rows of the same models."""

    models: str
    rows: list[tuple[PriceRow, str]]  # and what the price is for, "1M tokens"
    drawings: list[Drawn] = field(default_factory=list)

    @property
    def is_used(self) -> bool:
        """Whether the open period stands on one of its drawings."""
        return any(drawn.drawing.priced.quantity for drawn in self.drawings)


@dataclass(frozen=True, slots=True)
class Listed:
    """The price list as a page shows it."""

    groups: list[Prices]
    wanted: str  # the model that was searched for
    of: int  # groups there are

    @property
    def is_long(self) -> bool:
        return self.of > OPEN_MAX

    @property
    def is_folded(self) -> bool:
        return len(self.groups) > OPEN_MAX


def listed(terms: Terms, priced: Mapping[str, Priced], wanted: str = "") -> Listed:
    """The groups of a tariff's prices that may price the model wanted, all without one."""
    groups = grouped(costs.price_table(terms))
    found = [group for group in groups if _may_price(group, wanted)]
    _draw(found, {one.code: one for one in terms.components}, priced)
    return Listed(found, wanted, len(groups))


def grouped(rows: Sequence[PriceRow]) -> list[Prices]:
    """One group per models, and the first row that matches still applies: no row moves up past
    one that may price the same usage."""
    groups: list[Prices] = []
    places: dict[str, list[int]] = defaultdict(list)  # of the groups, by their models
    claimed = _Claimed()
    for row in rows:
        keys = [
            (register, name) for register in _named(row.registers) for name in _named(row.models)
        ]
        barred = max((claimed.last(*key) for key in keys), default=0)
        place = next((one for one in places[row.models] if one >= barred), len(groups))
        if place == len(groups):
            groups.append(Prices(row.models, []))
            places[row.models].append(place)
        groups[place].rows.append((row, row.text.partition(" per ")[2]))
        for key in keys:
            claimed.claim(*key, place)
    return groups


@dataclass(slots=True)
class _Claimed:
    """The last group with a price for some usage, by register: of a name, of a beginning
    ("qwen…"), of any model, and of anything at all."""

    names: dict[tuple[str, str], int] = field(default_factory=dict)
    beginnings: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    everything: dict[str, int] = field(default_factory=dict)
    anything: dict[str, int] = field(default_factory=dict)

    def claim(self, register: str, name: str, place: int) -> None:
        if _is_any(name):
            _raise(self.everything, register, place)
        elif name.endswith("…"):
            _raise(self.beginnings[register], name[:-1], place)
        else:
            _raise(self.names, (register, name), place)
        _raise(self.anything, register, place)

    def last(self, register: str, name: str) -> int:
        """The last group that may price what this name and register price."""
        if _is_any(name):
            return self.anything.get(register, 0)
        return max(self._rivals(register, name), default=0)

    def _rivals(self, register: str, name: str) -> Iterator[int]:
        yield self.everything.get(register, 0)
        begins = name.removesuffix("…")
        for other, place in self.beginnings[register].items():
            if begins.startswith(other) or (name != begins and other.startswith(begins)):
                yield place
        if name == begins:
            yield self.names.get((register, name), 0)
            return
        for (of, other), place in self.names.items():
            if of == register and other.startswith(begins):
                yield place


def _raise(places: dict[_Key, int], key: _Key, place: int) -> None:
    places[key] = max(place, places.get(key, 0))


def _named(joined: str) -> list[str]:
    return joined.split(", ")


def _is_any(name: str) -> bool:
    return name.startswith("any ")


def _may_price(group: Prices, wanted: str) -> bool:
    """Whether a model of this name, or with this in its name, may pay one of these prices."""
    asked = wanted.lower()
    return any(
        _is_any(name)
        or asked in name.lower()
        or (name.endswith("…") and asked.startswith(name[:-1].lower()))
        for name in _named(group.models)
    )


def _draw(
    groups: Iterable[Prices],
    components: Mapping[str, RateComponent],
    priced: Mapping[str, Priced],
) -> None:
    """Add the drawings, the first ones of many."""
    left = DRAWN_MAX
    for group in groups:
        for code in dict.fromkeys(row.component for row, _ in group.rows if row.component):
            one = components[code]
            drawing = terms_drawn.draw(one, priced.get(code)) if left else None
            if drawing is not None:
                left -= 1
                drawn = Drawn(costs.what_is_priced(one), costs.unit_words(one), drawing)
                group.drawings.append(drawn)
