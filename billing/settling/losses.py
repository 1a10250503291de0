"""Losses: tokens that were generated and that nobody pays for, by the reason why."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Loss(StrEnum):
    """Why generated tokens are not billed."""

    FAILED_NOT_BILLED = "failed_not_billed"
    RETRY_WASTE = "retry_waste"
    MODERATION_BLOCK = "moderation_block"
    FREE_GRANT = "free_grant"
    OWN_USE = "own_use"
    LEAKED_KEY = "theft_leaked_key"
    UNMETERED = "unmetered"
    ROUNDING = "rounding"


@dataclass(frozen=True, slots=True)
class Balance:
    """What went in, what was billed, what is explained; the rest is unaccounted for."""

    generated: int
    billed: int
    explained: Mapping[Loss, int]

    @property
    def unaccounted(self) -> int:
        return self.generated - self.billed - sum(self.explained.values())

    @property
    def unaccounted_percent(self) -> Fraction:
        return Fraction(100 * self.unaccounted, self.generated) if self.generated else Fraction(0)
