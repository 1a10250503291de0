"""What a period may wait for before anybody can say what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

Unknown = tuple[str, str]  # a model and a register


class NotYet(ValueError):
    """What a period costs cannot be said yet; the message is what it waits for."""


class CostUnknown(NotYet):
    """Usage is passed on at a cost that nobody has approved."""

    def __init__(self, unknown: Iterable[Unknown]) -> None:
        named = ", ".join(f"{register} of {model}" for model, register in sorted(unknown))
        super().__init__(
            f"upstream costs that are passed on and not known ({named}): approve them, or price "
            "these with components"
        )


class NotToldApart(NotYet):
    """Prices ask for sizes of requests, or for minutes, that the readings do not tell yet."""

    def __init__(self) -> None:
        super().__init__("readings that are summed anew, for what prices ask of them")


class PeakUnknown(NotYet):
    """The whole system's peak is found in the usage of everybody, and not all of it is summed."""

    def __init__(self, until: datetime) -> None:
        super().__init__(
            f"usage of any organization, received before {until.isoformat()}, that is not in the "
            "readings yet or is leaving them: the whole system's peak is found once"
        )


class NotTakenOut(NotYet):
    """A backfill was reverted, and the readings still have some of it."""

    def __init__(self) -> None:
        super().__init__("a reverted backfill that is still leaving the readings")
