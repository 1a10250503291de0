"""What changes between two documents of prices: field by field, in sentences and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import NamedTuple

# A section whose entries have codes: what one entry is called in a sentence.
_ENTRIES = {
    "components": "component",
    "allowances": "allowance",
    "modifiers": "modifier",
    "discounts": "discount",
    "charges": "charge",
}
# What tells the members of a list apart, where they have no code.
_KEYS = ("from", "above", "to", "name", "bucket")
_MONEY = frozenset({"price", "prices", "amount", "input_price", "output_price", "at_least"})
_SHOWN_MAX = 12  # members of a list that a sentence names
_PERCENT_PLACES = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class Change:
    """One field, or one whole entry, that two documents say differently.

    pointer leads into the document after; where something was removed, into the one before.
    percent is of the price for one unit, whatever it is quoted per; None where it says nothing.
    """

    kind: str  # added, removed or changed
    pointer: str
    subject: str  # "component plus-output"
    field: str  # "price (from 100,000,000)"; "" is the whole entry
    before: object = None
    after: object = None
    percent: Decimal | None = None

    @property
    def sentence(self) -> str:
        """Say it in English, with every number."""
        of = f"{self.subject}, {self.field}" if self.field else self.subject
        if self.kind != "changed":
            value = self.after if self.kind == "added" else self.before
            return f"{of} is {'new' if self.kind == 'added' else 'gone'}: {_shown(value)}."
        if _is_list(self.before) and _is_list(self.after):
            return f"{of}: {_members(self.before, self.after)}."
        percent = "" if self.percent is None else f" ({self.percent:+,f}%)"
        return f"{of}: {_shown(self.before)} becomes {_shown(self.after)}{percent}."

    def as_json(self) -> dict[str, object]:
        """Return it in JSON values, the sentence included."""
        return {
            "kind": self.kind,
            "pointer": self.pointer,
            "subject": self.subject,
            "field": self.field,
            "before": self.before,
            "after": self.after,
            "percent": None if self.percent is None else f"{self.percent:f}",
            "sentence": self.sentence,
        }


class _Leaf(NamedTuple):
    pointer: str
    value: object


_Path = tuple[str, ...]


def changes(before: Mapping[str, object], after: Mapping[str, object]) -> list[Change]:
    """Return what the second document says differently, in its own order.

    Both as their parser writes them (`Terms.as_document`), so that what means the same is the
    same. Entries are told apart by their code, the steps of a price by where they begin.
    """
    found: list[Change] = []
    for section in dict.fromkeys([*after, *before]):
        if section in _ENTRIES:
            old, new = (_by_code(document.get(section), section) for document in (before, after))
            found += _entries(_ENTRIES[section], old, new)
            found += _order(section, list(old), list(new))
        else:
            found += _fields(
                section,
                dict(_leaves(before.get(section), f"/{section}")),
                dict(_leaves(after.get(section), f"/{section}")),
            )
    return found


def _entries(noun: str, before: Mapping[str, _Leaf], after: Mapping[str, _Leaf]) -> list[Change]:
    found: list[Change] = []
    for code in dict.fromkeys([*after, *before]):
        subject = f"{noun} {code}"
        old, new = before.get(code), after.get(code)
        if old is None and new is not None:
            found.append(Change("added", new.pointer, subject, "", None, new.value))
        elif new is None and old is not None:
            found.append(Change("removed", old.pointer, subject, "", old.value, None))
        elif old is not None and new is not None:
            was, becomes = (dict(_leaves(leaf.value, leaf.pointer)) for leaf in (old, new))
            found += _fields(subject, was, becomes, (_units(old.value), _units(new.value)))
    return found


def _order(section: str, before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    """The first that covers some usage applies, so the order is part of the terms."""
    stayed = [code for code in before if code in set(after)]
    now = [code for code in after if code in set(before)]
    if stayed != now:
        yield Change(
            "changed", f"/{section}", section, "order", " > ".join(stayed), " > ".join(now)
        )


def _fields(
    subject: str,
    before: Mapping[_Path, _Leaf],
    after: Mapping[_Path, _Leaf],
    units: tuple[int, int] = (1, 1),
) -> Iterator[Change]:
    for path in dict.fromkeys([*after, *before]):
        old, new = before.get(path), after.get(path)
        leaf = new or old
        assert leaf is not None
        kind = "changed" if old and new else "added" if new else "removed"
        was, becomes = old and old.value, new and new.value
        if kind == "changed" and _same(was, becomes):
            continue
        percent = _percent(was, becomes, units) if _is_money(path) else None
        yield Change(kind, leaf.pointer, subject, _named(path), was, becomes, percent)


def _leaves(value: object, pointer: str, path: _Path = ()) -> Iterator[tuple[_Path, _Leaf]]:
    """Yield the values of a document that have no parts, and lists of plain values whole."""
    match value:
        case None:
            return
        case Mapping():
            for name, item in value.items():
                escaped = str(name).replace("~", "~0").replace("/", "~1")
                yield from _leaves(item, f"{pointer}/{escaped}", (*path, str(name)))
        case list() if value and all(isinstance(item, Mapping) for item in value):
            taken: dict[str, int] = {}
            for index, item in enumerate(value):
                key = next((f"{name} {_shown(item[name])}" for name in _KEYS if name in item), "")
                taken[key] = taken.get(key, 0) + 1
                told = key if taken[key] == 1 else f"{key} no. {taken[key]}".strip()
                yield from _leaves(item, f"{pointer}/{index}", (*path, told))
        case _:
            yield path, _Leaf(pointer, value)


def _by_code(entries: object, section: str) -> dict[str, _Leaf]:
    assert entries is None or isinstance(entries, list | tuple)
    return {
        str(entry["code"]): _Leaf(f"/{section}/{index}", entry)
        for index, entry in enumerate(entries or ())
    }


def _units(entry: object) -> int:
    per = entry.get("per", 1) if isinstance(entry, Mapping) else 1
    return per if isinstance(per, int) else 1


def _is_money(path: _Path) -> bool:
    return bool(path) and (path[-1] in _MONEY or (len(path) > 1 and path[-2] in _MONEY))


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _same(one: object, other: object) -> bool:
    """Say whether two values mean the same: 1.0 is 1.00."""
    if isinstance(one, str) and isinstance(other, str):
        return one == other or (
            _number(one) is not None and _number(one) == _number(other) and "." in one + other
        )
    return one == other


def _percent(before: object, after: object, units: tuple[int, int]) -> Decimal | None:
    """Return by how much the price of one unit changes, to a tenth of a percent."""
    old, new = _number(before), _number(after)
    if old is None or new is None or old <= 0:
        return None
    ratio = (Fraction(new) / units[1]) / (Fraction(old) / units[0]) - 1
    percent = Decimal(ratio.numerator * 100) / ratio.denominator
    return percent.quantize(_PERCENT_PLACES, ROUND_HALF_UP)


def _number(value: object) -> Decimal | None:
    text = value.removeprefix("-") if isinstance(value, str) else ""
    plain = text.replace(".", "", 1).isdecimal() and text.isascii()
    return Decimal(str(value)) if plain else None


def _named(path: _Path) -> str:
    """Say which field: its own name, and in brackets where it stands."""
    if not path:
        return ""
    plain = [name for name in path if " " in name or name not in ("steps", "tiers")]
    *where, name = plain
    within = ", ".join(part.replace("_", " ") for part in where)
    said = name.replace("_", " ")
    return f"{said} ({within})" if within else said


def _members(before: object, after: object) -> str:
    """Say what a list gained and lost; where it is neither, that its order changed."""
    assert isinstance(before, list | tuple)
    assert isinstance(after, list | tuple)
    old, new = [_shown(item) for item in before], [_shown(item) for item in after]
    gained = [item for item in new if item not in set(old)]
    lost = [item for item in old if item not in set(new)]
    parts = [f"{_some(gained)} added" if gained else "", f"{_some(lost)} removed" if lost else ""]
    return " and ".join(part for part in parts if part) or f"now in the order {_some(new)}"


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple() if value and all(not isinstance(item, Mapping) for item in value):
            inner = [_shown(item) for item in value]
            return "-".join(inner) if len(inner) == 2 and ":" in inner[0] else _some(inner)
        case list() | tuple():
            return _some([_shown(item) for item in value])
        case Mapping():
            parts = (f"{name} {_shown(item)}" for name, item in value.items() if name != "code")
            return ", ".join(part.replace("_", " ", 1) for part in parts)
    return str(value)


def _some(items: Sequence[str]) -> str:
    named = ", ".join(items[:_SHOWN_MAX])
    more = len(items) - _SHOWN_MAX
    return f"{named} and {more:,} more" if more > 0 else named
