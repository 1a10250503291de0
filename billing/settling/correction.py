"""Corrections between documents: true-up, cancel and rebill, and what is too old to bill.

Lines are corrected by billing.rating.difference; here are the rules of whole documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from billing.rating.paper import tax_minor


@dataclass(frozen=True, slots=True)
class Document:
    """Rounded lines of one tax rate, in minor units, and the tax on their sum."""

    lines_minor: tuple[int, ...]
    tax_percent: Decimal
    tax: int

    @property
    def net(self) -> int:
        return sum(self.lines_minor)

    @property
    def total(self) -> int:
        return self.net + self.tax

    @property
    def mirrored(self) -> "Document":
        """Return the credit note: every line and the tax as they were, with the sign turned."""
        return Document(tuple(-minor for minor in self.lines_minor), self.tax_percent, -self.tax)


def issued(lines_minor: Sequence[int], tax_percent: Decimal) -> Document:
    """Return a document with the tax on its net total."""
    return Document(tuple(lines_minor), tax_percent, tax_minor(sum(lines_minor), tax_percent))


def rebilled(wrong: Document, right: Document) -> list[Document]:
    """Return what follows a wrong document: its mirror image, then the right one."""
    return [wrong.mirrored, right]


def true_up(actual_minor: int, estimated_minor: int) -> int:
    """Return the line that turns an estimate into the actual: neither of the two is edited."""
    return actual_minor - estimated_minor


def back_billed(months_minor: Sequence[int], *, months_max: int) -> tuple[int, int]:
    """Divide unbilled months, oldest first, into what may be billed and what is written off."""
    cut = max(0, len(months_minor) - months_max)
    return sum(months_minor[cut:]), sum(months_minor[:cut])
