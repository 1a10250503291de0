"""Commitment: an amount promised for a term, and at its end what was not spent of it.

A term is so many billing periods, over and over from the first one on, or without a number as long
as the subscription runs. Whoever knows the periods says which terms end (`Facts.terms_ending`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.charge import Basis
from billing.rating.document import Field
from billing.rating.line import RatedLine
from billing.rating.money import to_minor
from billing.rating.shape import check_price

TERM_MONTHS_MAX = 120


@dataclass(frozen=True, slots=True)
class Commitment:
    """One true-up line when the term ends. Minimum charges count as spent: they were paid."""

    KIND: ClassVar[str] = "commitment"
    EACH_VERSION: ClassVar[bool] = False
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"amount"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"months"})

    code: str
    amount: Decimal
    months: int | None = None  # billing periods in a term; None: until the subscription ends

    def __post_init__(self) -> None:
        check_price(self.amount)

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        months = fields["months"].whole(1, TERM_MONTHS_MAX) if "months" in fields else None
        return cls(code, fields["amount"].price(), months)

    def lines(self, basis: Basis) -> list[RatedLine]:
        if self.code not in basis.facts.terms_ending:
            return []
        spent = basis.facts.spent_before_minor.get(self.code, 0) + basis.minor()
        committed = to_minor(self.amount, basis.currency)
        commitment = {"committed_minor": committed, "spent_minor": spent}
        explained = {"shape": self.KIND, "commitment": commitment}
        return basis.money(self.code, max(0, committed - spent), explained)

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {"amount": f"{self.amount:f}"}
        return document | ({"months": self.months} if self.months else {})
