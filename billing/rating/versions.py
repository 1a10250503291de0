"""Which version held when, by what was known when: a tariff has two times.

valid_from and valid_to say for which usage terms hold; known_at says since when we know. An invoice
keeps the known_at it was rated with. Rated again with a later one, the difference is a correction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from billing.rating.period import Period, utc
from billing.rating.tariff import Terms
from billing.rating.usage import PricedTerms


@dataclass(frozen=True, slots=True)
class Published:
    """Terms for a stretch of time, and since when they are known."""

    version: str
    terms: Terms
    valid_from: datetime
    known_at: datetime
    valid_to: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("valid_from", "known_at"):
            object.__setattr__(self, name, utc(getattr(self, name)))
        if self.valid_to is not None:
            object.__setattr__(self, "valid_to", utc(self.valid_to))
            if self.valid_to <= self.valid_from:
                raise ValueError(f"{self.version} must be valid after it begins to be")

    def holds_at(self, moment: datetime) -> bool:
        """Say whether the terms hold for what was used then."""
        return self.valid_from <= moment and (self.valid_to is None or moment < self.valid_to)


def as_known(
    published: Sequence[Published], period: Period, *, known_at: datetime
) -> list[PricedTerms]:
    """Return the terms in force during a period as they were known at an instant, tiling it.

    Of two versions for the same usage the one learnt later holds, and of two learnt at once the
    one later in the list. ValueError where nothing holds.
    """
    known = [one for one in published if one.known_at <= known_at]
    edges = {one.valid_from for one in known}
    edges |= {one.valid_to for one in known if one.valid_to is not None}
    cuts = [period.start, *sorted(edge for edge in edges if period.start < edge < period.end)]
    found: list[PricedTerms] = []
    for cut, end in pairwise([*cuts, period.end]):
        one = _in_force(known, cut)
        same = bool(found) and found[-1].version == one.version
        start = found.pop().period.start if same else cut
        found.append(PricedTerms(one.version, Period(start, end), one.terms))
    return found


def _in_force(known: Sequence[Published], moment: datetime) -> Published:
    holding = [one for one in known if one.holds_at(moment)]
    if not holding:
        raise ValueError(f"no version of the tariff holds at {moment.isoformat()}")
    latest = max(one.known_at for one in holding)
    return [one for one in holding if one.known_at == latest][-1]
