"""Fees: a fixed price, or a percentage of what other lines come to on paper."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import ClassVar, Self

from billing.rating.charge import MINOR, Basis
from billing.rating.document import Field, TariffInvalid
from billing.rating.line import RatedLine
from billing.rating.money import EXACT, from_minor, round_half_up, to_minor
from billing.rating.shape import check_price

PERCENT_DECIMALS_MAX = 4
REQUESTS_MAX = 10**15
COMPONENTS_MAX = 100
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


@dataclass(frozen=True, slots=True)
class Fee:
    """A fixed fee, or a percentage of lines with at least so much.

    With free_requests the percentage is on the share of the requests beyond them, each taken as
    worth the same.
    """

    KIND: ClassVar[str] = "fee"
    EACH_VERSION: ClassVar[bool] = False
    REQUIRED: ClassVar[frozenset[str]] = frozenset()
    OPTIONAL: ClassVar[frozenset[str]] = frozenset(
        {"price", "percent", "of", "free_requests", "at_least"}
    )

    code: str
    price: Decimal | None = None
    percent: Decimal | None = None
    of: tuple[str, ...] | None = None  # codes of components and charges; None: all before it
    free_requests: int = 0
    at_least: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if (self.price is None) == (self.percent is None):
            raise ValueError("a fee has either a price or a percentage")
        for price in (self.price, self.percent, self.at_least):
            if price is not None:
                check_price(price)

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        if ("price" in fields) == ("percent" in fields):
            source = fields["code"]
            pointer = source.pointer.removesuffix("/code")
            raise TariffInvalid(pointer, "must have either a price or a percent; choose one")
        return cls(
            code=code,
            price=fields["price"].price() if "price" in fields else None,
            percent=read_percent(fields["percent"]) if "percent" in fields else None,
            of=fields["of"].texts(_CODE, "a code", most=COMPONENTS_MAX) if "of" in fields else None,
            free_requests=fields["free_requests"].whole(1, REQUESTS_MAX)
            if "free_requests" in fields
            else 0,
            at_least=fields["at_least"].price() if "at_least" in fields else Decimal(0),
        )

    def lines(self, basis: Basis) -> list[RatedLine]:
        if self.price is not None:
            return [basis.line(self.code, "periods", 1, self.price, {"shape": self.KIND})]
        base = self._base(basis)
        price = self._unit_price(basis.currency)
        fee = {
            "percent": f"{self.percent:f}",
            "of_minor": base,
            "free_requests": self.free_requests,
            "at_least": f"{self.at_least:f}",
        }
        explained = {"shape": self.KIND, "fee": fee}
        least = to_minor(self.at_least, basis.currency)
        if to_minor(price * base, basis.currency) < least:
            return basis.money(self.code, least, explained)
        return [basis.line(self.code, MINOR, base, price, explained)] if base else []

    def on(self, amount: Decimal) -> Decimal:
        """Return the fee on one amount, exactly: of a top-up, say."""
        assert self.percent is not None
        with localcontext(EXACT):
            return max(self.at_least, amount * self.percent / 100)

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {}
        for name in ("price", "percent"):
            number = getattr(self, name)
            if number is not None:
                document[name] = f"{number:f}"
        if self.of is not None:
            document["of"] = list(self.of)
        if self.free_requests:
            document["free_requests"] = self.free_requests
        return document | ({"at_least": f"{self.at_least:f}"} if self.at_least else {})

    def _base(self, basis: Basis) -> int:
        base, requests = basis.minor(self.of), basis.facts.requests
        if not self.free_requests:
            return base
        beyond = max(0, requests - self.free_requests)
        return round_half_up(Fraction(base * beyond, requests)) if requests else 0

    def _unit_price(self, currency: str) -> Decimal:
        assert self.percent is not None
        with localcontext(EXACT):
            return from_minor(1, currency) * self.percent / 100


def read_percent(source: Field) -> Decimal:
    """Read a percentage: zero or more, at most 4 decimals."""
    percent = source.price()
    if len(f"{percent:f}".partition(".")[2]) > PERCENT_DECIMALS_MAX:
        must = f"a percentage of at most {PERCENT_DECIMALS_MAX} decimals"
        raise source.refuse(must, "write it shorter")
    return percent
