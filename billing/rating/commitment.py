"""Commitment: an amount promised for a term, and at its end what was not spent of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from billing.rating.charge import Basis
from billing.rating.document import Field
from billing.rating.line import RatedLine
from billing.rating.money import to_minor
from billing.rating.shape import check_price


@dataclass(frozen=True, slots=True)
class Commitment:
    """One true-up line when the term ends. Minimum charges count as spent: they were paid."""

    KIND: ClassVar[str] = "commitment"
    EACH_VERSION: ClassVar[bool] = False
    REQUIRED: ClassVar[frozenset[str]] = frozenset({"amount"})
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    code: str
    amount: Decimal

    def __post_init__(self) -> None:
        check_price(self.amount)

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        return cls(code, fields["amount"].price())

    def lines(self, basis: Basis) -> list[RatedLine]:
        if self.code not in basis.facts.terms_ending:
            return []
        spent = basis.facts.spent_before_minor.get(self.code, 0) + basis.minor()
        committed = to_minor(self.amount, basis.currency)
        commitment = {"committed_minor": committed, "spent_minor": spent}
        explained = {"shape": self.KIND, "commitment": commitment}
        return basis.money(self.code, max(0, committed - spent), explained)

    def as_document(self) -> dict[str, object]:
        return {"amount": f"{self.amount:f}"}
