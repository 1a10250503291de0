"""Prices that change with quantity, as steps to draw. Pure.

Every step is drawn equally wide: a first step of a million beside one of ten thousand million could
not be seen. Within a step the scale is even, so the line of what everything comes to is exact.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from itertools import pairwise

from billing.rating.graduated import Graduated, Step
from billing.rating.line import RatedLine
from billing.rating.money import EXACT, total
from billing.rating.package import PACKAGES, Package
from billing.rating.request_size import RequestSize
from billing.rating.shape import Position, Shape
from billing.rating.tariff import RateComponent
from billing.rating.volume import Volume

WIDTH = 1_000  # of a drawing, in units of its own; a page stretches it
HEIGHT = 100
PACKS_DRAWN = 5
LABELS_MAX = 6
PRICES_WRITTEN_MAX = 4
_WATERLINE = 4 * HEIGHT // 5  # how high the dearest price reaches


@dataclass(frozen=True, slots=True)
class Priced:
    """What a component has priced in the open period so far, and what that came to."""

    quantity: int = 0
    amount: Decimal = Decimal(0)
    by_tier: Mapping[int, int] = field(default_factory=dict)  # by the size the tier is above


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """One step: more than `above` units, up to and with `up_to`; None is without end.

    comes_to is what all units of a billing period up to its end cost; None where there is no end.
    """

    above: int
    up_to: int | None
    price: Decimal
    comes_to: Decimal | None
    quantity: int  # of the open period so far
    holds: bool  # the open period stands here
    x: int
    width: int
    y: int
    labelled: bool  # among many, some borders stand for all

    @property
    def first(self) -> int:
        """The first unit that pays this price."""
        return self.above + 1

    @property
    def height(self) -> int:
        return HEIGHT - self.y


@dataclass(frozen=True, slots=True)
class Drawing:
    """One component's steps and, of blocks, the line of what a period's units come to."""

    component: RateComponent
    steps: list[DrawnStep]
    priced: Priced
    line: str = ""  # points of an SVG polyline
    most: Decimal = Decimal(0)  # what the top of the line stands for
    here_x: int | None = None  # where the open period stands

    @property
    def kind(self) -> str:
        """The name of the shape: graduated, volume, package or request_size."""
        return self.component.shape.NAME

    @property
    def is_short(self) -> bool:
        """Whether there is room to write each price beneath its step."""
        return len(self.steps) <= PRICES_WRITTEN_MAX


@dataclass(frozen=True, slots=True)
class _Place:
    """A step's part of the drawing: from `start` units at x to `end` units at x + width."""

    start: int
    end: int
    x: int
    width: int

    def x_of(self, quantity: int) -> int:
        return self.x + (quantity - self.start) * self.width // (self.end - self.start)


def so_far(lines: Iterable[RatedLine]) -> dict[str, Priced]:
    """What each component has priced, by its code, from the lines of a period."""
    of: dict[str, list[RatedLine]] = defaultdict(list)
    for line in lines:
        of[line.component].append(line)
    return {code: _priced(found) for code, found in of.items()}


def has_steps(component: RateComponent) -> bool:
    """Whether a component's price changes with quantity."""
    return isinstance(component.shape, Graduated | Volume | Package | RequestSize)


def draw(component: RateComponent, priced: Priced | None = None) -> Drawing | None:
    """Draw a component with blocks or sizes. None: its price does not change with quantity."""
    priced = priced or Priced()
    match component.shape:
        case Graduated(steps=steps) | Volume(steps=steps):
            return _blocks(component, steps, priced)
        case Package() as package:
            return _blocks(component, _packs(package, priced.quantity), priced)
        case RequestSize(tiers=tiers):
            return _sizes(component, tiers, priced)
    return None


def _priced(lines: Sequence[RatedLine]) -> Priced:
    by_tier: Counter[int] = Counter()
    for line in lines:
        tier = line.trace.get("tier")
        if isinstance(tier, Mapping):
            by_tier[tier["above"]] += line.quantity
    return Priced(
        quantity=sum(line.quantity for line in lines if line.register != PACKAGES),
        amount=total(line.amount for line in lines),
        by_tier=by_tier,
    )


def _packs(package: Package, used: int) -> list[Step]:
    """The packages about the one that is open, and where the one after them would start."""
    opened = -(-used // package.size)
    first = max(0, opened - PACKS_DRAWN // 2 - 1)
    return [Step(pack * package.size, package.price) for pack in range(first, first + PACKS_DRAWN)]


def _sizes(component: RateComponent, tiers: Sequence[Step], priced: Priced) -> Drawing:
    steps = [
        _drawn(tiers, number, place, None, priced.by_tier.get(place.start, 0))
        for number, place in enumerate(_places(tiers, 0, component.shape.per))
    ]
    return Drawing(component, steps, priced)


def _blocks(component: RateComponent, blocks: Sequence[Step], priced: Priced) -> Drawing:
    shape, used = component.shape, priced.quantity
    places = _places(blocks, used, _least(shape))
    here = max(number for number, block in enumerate(blocks) if block.start <= used)
    steps = [
        _drawn(blocks, number, place, shape, _held(shape, blocks, number, used), number == here)
        for number, place in enumerate(places)
    ]
    return Drawing(
        component,
        steps,
        priced,
        *_line(shape, places),
        here_x=places[here].x_of(used),
    )


def _least(shape: Shape) -> int:
    """How much the last step is drawn for, at least."""
    return shape.size if isinstance(shape, Package) else shape.per


def _places(steps: Sequence[Step], used: int, least: int) -> list[_Place]:
    """Every step equally wide; the last, which has no end, for as much as the one before it."""
    last = steps[-1].start
    before = last - steps[-2].start if len(steps) > 1 else least
    end = last + max(before, (used - last) * 5 // 4)
    edges = [*(step.start for step in steps), end]
    xs = [number * WIDTH // len(steps) for number in range(len(edges))]
    return [
        _Place(start, end, x, following - x)
        for (start, end), (x, following) in zip(pairwise(edges), pairwise(xs), strict=True)
    ]


def _drawn(
    steps: Sequence[Step],
    number: int,
    place: _Place,
    shape: Shape | None,
    quantity: int,
    holds: bool = False,
) -> DrawnStep:
    ends = number + 1 < len(steps) or isinstance(shape, Package)
    dearest, price = max(step.price for step in steps), steps[number].price
    return DrawnStep(
        above=place.start,
        up_to=place.end if ends else None,
        price=price,
        comes_to=_comes_to(shape, place.end) if shape and ends else None,
        quantity=quantity,
        holds=holds,
        x=place.x,
        width=place.width,
        y=HEIGHT - (int(price * _WATERLINE / dearest) if dearest else 0),
        labelled=number % -(-len(steps) // LABELS_MAX) == 0,
    )


def _held(shape: Shape, blocks: Sequence[Step], number: int, used: int) -> int:
    """How much of what was used pays this block's price."""
    start = blocks[number].start
    end = blocks[number + 1].start if number + 1 < len(blocks) else used
    if isinstance(shape, Volume):
        return used if start < used <= end else 0
    return max(0, min(used, end) - start)


def _line(shape: Shape, places: Sequence[_Place]) -> tuple[str, Decimal]:
    """What a period's units come to, and the most of it: within a step it is straight."""
    corners = [(places[0].x, _comes_to(shape, places[0].start))]
    for place in places:
        corners.append((place.x, _comes_to(shape, place.start + 1)))
        corners.append((place.x + place.width, _comes_to(shape, place.end)))
    most = max(amount for _, amount in corners)
    points = (
        (x, HEIGHT - int(amount * HEIGHT / most) if most else HEIGHT) for x, amount in corners
    )
    return " ".join(f"{x},{y}" for x, y in points), most


def _comes_to(shape: Shape, quantity: int) -> Decimal:
    """What so many units of a billing period cost: poured as rating pours them."""
    if not quantity:
        return Decimal(0)
    portions = shape.pour(quantity, Position(used=0, bucket="", total=quantity))
    with localcontext(EXACT):
        return total(portion.unit_price * portion.quantity / shape.per for portion in portions)
