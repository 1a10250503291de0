"""Where two tariffs cost the same: what each comes to as usage grows and shrinks by a factor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

# None, half as much, what was used, half as much again, and so on up to four times.
FACTORS = tuple(Fraction(halves, 2) for halves in range(9))


@dataclass(frozen=True, slots=True)
class Point:
    """What usage so many times as large comes to under each tariff, in whole minor units."""

    factor: Fraction
    old_minor: int
    new_minor: int

    @property
    def difference_minor(self) -> int:
        """Below zero: the other tariff is cheaper here."""
        return self.new_minor - self.old_minor


@dataclass(frozen=True, slots=True)
class Crossing:
    """A change of which tariff is cheaper, between two factors that were both worked out.

    `at` lies on the straight lines between them; it is exact where `after` equals `before`.
    """

    after: Fraction
    before: Fraction
    at: Fraction
    new_is_cheaper_above: bool


def crossings(points: Sequence[Point]) -> list[Crossing]:
    """Return every change of the cheaper tariff, by rising factor.

    Where both cost the same over a stretch, the change is where the stretch ends.
    """
    found = []
    last: Point | None = None  # the last at which one of the two was cheaper
    for before, point in pairwise(points):
        last = before if before.difference_minor else last
        if last is None or last.difference_minor * point.difference_minor >= 0:
            continue
        at = _zero_between(before, point)
        after = before.factor if at != before.factor else at
        reached = point.factor if at != before.factor else at
        found.append(Crossing(after, reached, at, point.difference_minor < 0))
    return found


def break_even_sentences(points: Sequence[Point], other: str) -> list[str]:
    """Say which tariff is cheaper at which usage, and where that changes."""
    changes = crossings(points)
    if changes:
        return [_change(change, other) for change in changes]
    return [next(_unchanging(points, other))]


def _zero_between(before: Point, point: Point) -> Fraction:
    """Where the straight line between two differences meets nothing."""
    run = Fraction(-before.difference_minor, point.difference_minor - before.difference_minor)
    return before.factor + run * (point.factor - before.factor)


def _change(change: Crossing, other: str) -> str:
    below, above = ("dearer", "cheaper") if change.new_is_cheaper_above else ("cheaper", "dearer")
    if change.after == change.before:
        place = f"at {times(change.at)} the usage"
    else:
        between = f"between {times(change.after)} and {times(change.before)}"
        place = f"at about {times(change.at)} the usage ({between})"
    return f"Both cost the same {place}: below that {other} is {below}, above it is {above}."


def _unchanging(points: Sequence[Point], other: str) -> Iterator[str]:
    most, other = times(points[-1].factor), f"{other[:1].upper()}{other[1:]}"
    if any(point.difference_minor < 0 for point in points):
        yield f"{other} never costs more, from no usage at all up to {most} the usage."
    if any(point.difference_minor > 0 for point in points):
        yield f"{other} never costs less, from no usage at all up to {most} the usage."
    yield f"Both cost the same, from no usage at all up to {most} the usage."


def times(factor: Fraction) -> str:
    """A factor as people write it, to two decimals, with the sign for times."""
    hundredths = (factor.numerator * 200 + factor.denominator) // (2 * factor.denominator)
    shown = Decimal(hundredths).scaleb(-2).normalize()
    return f"{shown:f}\N{MULTIPLICATION SIGN}"
