"""Usage over time as a chart and as tables: rows in, what a page shows out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

GROUPS_DRAWN_MAX = 7
GROUPS_LISTED_MAX = 200
OTHERS = "Everything else"
OTHERS_SWATCH = GROUPS_DRAWN_MAX

Group = tuple[str, ...]


class Row(Protocol):
    """One group's use in one step."""

    @property
    def starts_at(self) -> datetime | None: ...
    @property
    def group(self) -> Group: ...
    @property
    def quantity(self) -> int: ...
    @property
    def requests(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Share:
    """What one group used in the whole window, and its colour."""

    label: str
    quantity: int
    requests: int
    percent: int
    swatch: int


@dataclass(frozen=True, slots=True)
class Step:
    """What was used in one step, by drawn group and in all."""

    starts_at: datetime
    label: str
    quantities: list[int]
    total: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A window of usage, ready to be shown."""

    shares: list[Share]
    drawn: list[Share]
    steps: list[Step]
    quantity: int
    requests: int
    groups: int

    def chart(self, unit: str) -> dict[str, object]:
        """What charts.js draws: whole numbers, and the number of a colour per series."""
        return {
            "unit": unit,
            "labels": [step.label for step in self.steps],
            "series": [
                {
                    "label": share.label,
                    "swatch": share.swatch,
                    "data": [step.quantities[place] for step in self.steps],
                }
                for place, share in enumerate(self.drawn)
            ],
        }


def summarise(
    rows: Iterable[Row],
    starts: Sequence[datetime],
    *,
    name: Callable[[Group], str],
    say: Callable[[datetime], str],
) -> Summary:
    """Add the rows up by group and by step. Groups beyond the first seven share one colour."""
    quantities: Counter[Group] = Counter()
    requests: Counter[Group] = Counter()
    at: Counter[tuple[datetime, Group]] = Counter()
    for row in rows:
        quantities[row.group] += row.quantity
        requests[row.group] += row.requests
        if row.starts_at is not None:
            at[row.starts_at, row.group] += row.quantity
    order = sorted(quantities, key=lambda group: (-quantities[group], group))
    whole = quantities.total()
    shares = [
        Share(
            label=name(group),
            quantity=quantities[group],
            requests=requests[group],
            percent=hundredths(quantities[group], whole),
            swatch=min(place, OTHERS_SWATCH),
        )
        for place, group in enumerate(order)
    ]
    moments = sorted({*starts, *(moment for moment, _ in at)})
    columns, drawn = _columns(order, shares)
    return Summary(
        shares=shares[:GROUPS_LISTED_MAX],
        drawn=drawn,
        steps=[_step(moment, say(moment), columns, at) for moment in moments],
        quantity=whole,
        requests=requests.total(),
        groups=len(order),
    )


def hundredths(part: int, whole: int) -> int:
    """A share in whole hundredths, halves up; nothing of nothing is nothing."""
    return (200 * part + whole) // (2 * whole) if whole else 0


def _columns(order: list[Group], shares: list[Share]) -> tuple[list[list[Group]], list[Share]]:
    """The groups behind each colour, and what each colour is called."""
    if len(order) <= GROUPS_DRAWN_MAX + 1:
        return [[group] for group in order], shares
    first, rest = order[:GROUPS_DRAWN_MAX], order[GROUPS_DRAWN_MAX:]
    others = Share(
        label=OTHERS,
        quantity=sum(share.quantity for share in shares[GROUPS_DRAWN_MAX:]),
        requests=sum(share.requests for share in shares[GROUPS_DRAWN_MAX:]),
        percent=100 - sum(share.percent for share in shares[:GROUPS_DRAWN_MAX]),
        swatch=OTHERS_SWATCH,
    )
    return [*([group] for group in first), rest], [*shares[:GROUPS_DRAWN_MAX], others]


def _step(
    moment: datetime, label: str, columns: list[list[Group]], at: Counter[tuple[datetime, Group]]
) -> Step:
    quantities = [sum(at[moment, group] for group in column) for column in columns]
    return Step(moment, label, quantities, sum(quantities))
