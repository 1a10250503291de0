"""Quality codes of readings, with the numbers of ESPI (Green Button)."""

from collections.abc import Iterable
from enum import IntEnum


class Quality(IntEnum):
    """How a quantity came about."""

    VALID = 0
    EDITED = 7
    ESTIMATED_LIKE_DAY = 8
    ESTIMATED_LINEAR = 9
    QUESTIONABLE = 10
    DERIVED = 11
    PROJECTED = 12
    MIXED = 13
    RAW = 14
    VALIDATED = 17
    VERIFIED = 18
    REVENUE = 19


BEST_FIRST = (
    Quality.REVENUE,
    Quality.VERIFIED,
    Quality.VALIDATED,
    Quality.VALID,
    Quality.DERIVED,
    Quality.ESTIMATED_LINEAR,
    Quality.ESTIMATED_LIKE_DAY,
    Quality.EDITED,
    Quality.MIXED,
    Quality.QUESTIONABLE,
)


def worst(qualities: Iterable[Quality]) -> Quality:
    """Return what a line carries: the worst of what it contains.

    ValueError for a code that may not be billed, such as RAW, and for none.
    """
    found = set(qualities)
    for quality in found - set(BEST_FIRST):
        raise ValueError(f"a reading of quality {quality.name} may not be billed; validate it")
    return max(found, key=BEST_FIRST.index)
