"""What a dialect is: rows of counts, each with its register and with what it is counted inside.

One rule turns counts into disjoint registers, whoever reports them: what a count holds of its own
is the count less everything of its own that is counted inside it. A count less than its parts, or
an equation of the provider's that fails, is refused with its numbers. So is a count that no row
names: it may be a price of its own, and nobody can say whether it is in the others already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

Counts = Mapping[str, object]
LEAVES_MAX = 200
WORD_MAX = 8_192
SHOWN_MAX = 80


class Row(NamedTuple):
    """One count: where it stands, which register it fills, what it is counted inside."""

    path: str
    register: str | None = None  # None: it stays in what it is inside of, or costs nothing
    inside: tuple[str, ...] = ()


class Sum(NamedTuple):
    """An equation that holds wherever both sides are reported."""

    total: str
    addends: tuple[str, ...]


class Unreadable(Exception):
    """Usage that cannot become registers: a code, the place, a sentence."""

    def __init__(self, code: str, path: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.path = path
        self.detail = detail


class NotACount(Exception):
    """A place that holds something else than a whole number from zero on."""

    def __init__(self, path: str, value: object) -> None:
        super().__init__(path)
        self.path = path
        self.value = value


def flat(usage: Mapping[str, object], *, prefix: str = "") -> dict[str, object]:
    """Every leaf that is not null, by its dotted path."""
    leaves: dict[str, object] = {}
    for name, value in usage.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            leaves |= flat(value, prefix=f"{path}.")
        elif isinstance(value, str) and len(value) > WORD_MAX:
            detail = (
                f"{path[:SHOWN_MAX]!a} has {len(value)} characters; at most {WORD_MAX} are looked "
                "at. Send the provider's usage alone."
            )
            raise Unreadable("too_long", path, detail)
        elif value is not None:
            leaves[path] = value
        if len(leaves) > LEAVES_MAX:
            detail = f"usage holds more than {LEAVES_MAX} values. Send the provider's usage alone."
            raise Unreadable("too_long", "", detail)
    return leaves


def _alone(usage: Mapping[str, object]) -> Iterable[Counts]:
    return [flat(usage)]


@dataclass(frozen=True)
class Dialect:
    """How one provider's usage is read."""

    name: str
    title: str
    rows: tuple[Row, ...]
    required: tuple[str, ...]  # one of them at least: without it this is another dialect
    sums: tuple[Sum, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)  # other names for a row's count
    spread: Callable[[Mapping[str, object]], Iterable[Counts]] = _alone

    def __post_init__(self) -> None:
        paths = {row.path for row in self.rows}
        named = {one for row in self.rows for one in row.inside} | set(self.required)
        named |= {one for sum_ in self.sums for one in (sum_.total, *sum_.addends)}
        if not named | set(self.same.values()) <= paths or len(paths) != len(self.rows):
            raise ValueError(f"{self.name}: a path is named that has no row, or has two")

    def read(self, usage: Mapping[str, object]) -> dict[str, int]:
        """The registers; input and output always, others where they hold anything."""
        registers = {"input": 0, "output": 0}
        for counts in self.spread(usage):
            for register, quantity in self._registers(counts).items():
                if quantity:
                    registers[register] = registers.get(register, 0) + quantity
        return registers

    def _registers(self, counts: Counts) -> dict[str, int]:
        amounts = self._amounts(counts)
        if not any(path in amounts for path in self.required):
            detail = (
                f"usage holds no {' or '.join(self.required)}, so it is not {self.name}. Send the "
                "provider's own usage object and its usage_format."
            )
            raise Unreadable("usage_format_invalid", "", detail)
        self._equations_hold(amounts)
        registers: dict[str, int] = {}
        for path, quantity in self._own(amounts).items():
            register = self._by_path[path].register
            assert register is not None
            registers[register] = registers.get(register, 0) + quantity
        return registers

    @cached_property
    def _by_path(self) -> dict[str, Row]:
        return {row.path: row for row in self.rows}

    def _amounts(self, counts: Counts) -> dict[str, int]:
        """The counts that rows name; a number that none names is refused."""
        amounts: dict[str, int] = {}
        by_path = self._by_path
        for told, value in counts.items():
            path = self.same.get(told, told)
            if path not in by_path:
                self._refuse_unknown(told, value)
                continue
            if type(value) is not int or value < 0:
                raise NotACount(told, value)
            if amounts.setdefault(path, value) != value:
                raise _inconsistent(told, f"{told} {value} is also reported as {amounts[path]}")
        return amounts

    def _refuse_unknown(self, path: str, value: object) -> None:
        """A number we do not know is a class we cannot price. Words, zeros and fractions are not.

        A fraction is a time or a cost, except where its name says that it counts tokens.
        """
        is_word = type(value) is str and not value.isdigit()
        if not value or is_word or isinstance(value, bool):
            return
        if isinstance(value, int | list) or "token" in path.lower():
            detail = (
                f"{path[:SHOWN_MAX]!a} is no count that {self.name} is known to report. It was "
                "counted nowhere. Send registers of your own, or ask the operator to update."
            )
            raise Unreadable("unknown_usage_class", path, detail)

    def _equations_hold(self, amounts: Mapping[str, int]) -> None:
        for total, addends in self.sums:
            told = [name for name in addends if name in amounts]
            if total in amounts and told:
                added = sum(amounts[name] for name in told)
                if added != amounts[total]:
                    left = " + ".join(f"{name} {amounts[name]}" for name in told)
                    said = f"{left} = {added}, but {total} is {amounts[total]}"
                    raise _inconsistent(total, said)

    def _own(self, amounts: Mapping[str, int]) -> dict[str, int]:
        """What each count holds of its own; the innermost first."""
        own: dict[str, int] = {}
        for path, within in self.descent.items():
            parts = {part: own[part] for part in within if own.get(part)}
            if path not in amounts and not parts:
                continue
            own[path] = amounts.get(path, 0) - sum(parts.values())
            if own[path] < 0:
                listed = " + ".join(f"{part} {amounts[part]}" for part in parts)
                said = f"{path} {amounts.get(path, 0)} is less than what it holds, {listed}"
                raise _inconsistent(path, said)
        return own

    @cached_property
    def descent(self) -> dict[str, list[str]]:
        """Each count that fills a register, with every such count inside it; innermost first."""
        filling = [row for row in self.rows if row.register is not None]
        within: dict[str, list[str]] = {row.path: [] for row in filling}
        for row in filling:
            around, seen = list(row.inside), set()
            while around:
                outer = around.pop()
                if outer not in seen:
                    seen.add(outer)
                    within[outer].append(row.path)
                    around += self._by_path[outer].inside
        return dict(sorted(within.items(), key=lambda pair: len(pair[1])))


def _inconsistent(path: str, said: str) -> Unreadable:
    detail = f"The counts contradict each other: {said}. Send what the provider reported."
    return Unreadable("inconsistent_tokens", path, detail)
