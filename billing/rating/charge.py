"""Charges: what a billing period costs besides its usage, in a stated order.

A component prices units; a charge looks at the period: its days, its peak, what its lines come to.
Amounts that follow from printed lines are in whole minor units, so that they add up on paper.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import ClassVar, NamedTuple, Protocol, Self
from zoneinfo import ZoneInfo

from billing.rating.document import Field
from billing.rating.line import RatedLine
from billing.rating.money import EXACT, from_minor, round_half_up
from billing.rating.paper import printed_minor
from billing.rating.period import Period

MINOR = "minor_units"  # the register of lines that count money
CHARGES_MAX = 100
FACT_MAX = 10**18
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")

Load = Mapping[datetime, int]  # tokens used in the minute that begins then


class CostPart(NamedTuple):
    """So much of one register at one price a million, as an upstream charges it."""

    register: str
    quantity: int
    price: Decimal


class UpstreamCost(NamedTuple):
    """What a model's usage cost upstream, in millionths, and what that is made of."""

    micros: int
    parts: tuple[CostPart, ...] = ()

    @classmethod
    def of(cls, parts: Iterable[CostPart]) -> Self:
        """Add up parts; the sum is rounded to the millionth, halves up."""
        found = tuple(parts)
        with localcontext(EXACT):
            exact = sum((part.price * part.quantity for part in found), Decimal(0))
        return cls(round_half_up(Fraction(exact)), found)


@dataclass(frozen=True, slots=True)
class Facts:
    """What charges rest on besides usage: each where a charge of that kind stands in the terms."""

    zone: ZoneInfo
    whole: Period | None = None  # the full billing period, where only a part of it is rated
    load: Mapping[str, Load] = field(default_factory=dict)  # by meter, such as an API key
    # When the window began in which the whole system used most, by the code of the demand.
    system_peaks: Mapping[str, datetime] = field(default_factory=dict)
    peaks_before: Mapping[str, Sequence[int]] = field(default_factory=dict)  # tokens a minute
    requests: int = 0
    used: Mapping[str, int] = field(default_factory=dict)  # in the whole period, by register
    provider_cost_micros: Mapping[str, int] = field(default_factory=dict)  # by model, of it all
    # The same by when a version's part of the period begins, where that is known.
    provider_costs: Mapping[datetime, Mapping[str, UpstreamCost]] = field(default_factory=dict)
    occupancy: Decimal | None = None
    spent_before_minor: Mapping[str, int] = field(default_factory=dict)  # of the commitment's term
    terms_ending: frozenset[str] = frozenset()  # commitments whose term ends with this period


def read_facts(source: Field, facts: Facts) -> Facts:
    """Add to facts what a JSON document says of them. TariffInvalid points to what is wrong."""
    maps = {"provider_cost_micros", "spent_before_minor"}
    fields = source.members(
        frozenset(), maps | {"peaks_before", "system_peaks", "occupancy", "terms_ending"}
    )
    known = {name: _read_counts(fields[name]) for name in maps if name in fields}
    facts = replace(
        facts,
        provider_cost_micros=known.get("provider_cost_micros", {}),
        spent_before_minor=known.get("spent_before_minor", {}),
    )
    if "peaks_before" in fields:
        peaks = {
            code: [item.whole(0, FACT_MAX) for item in months.items(most=100)]
            for code, months in fields["peaks_before"].mapping().items()
        }
        facts = replace(facts, peaks_before=peaks)
    if "system_peaks" in fields:
        starts = {code: at.moment() for code, at in fields["system_peaks"].mapping().items()}
        facts = replace(facts, system_peaks=starts)
    if "occupancy" in fields:
        facts = replace(facts, occupancy=fields["occupancy"].price())
    if "terms_ending" in fields:
        codes = fields["terms_ending"].texts(_CODE, "the code of a commitment", most=CHARGES_MAX)
        facts = replace(facts, terms_ending=frozenset(codes))
    return facts


def _read_counts(source: Field) -> dict[str, int]:
    return {name: item.whole(0, FACT_MAX) for name, item in source.mapping().items()}


@dataclass(frozen=True, slots=True)
class Basis:
    """One charge's view of the period: its version, its part, and the lines before it."""

    version: str
    part: Period
    whole: Period
    currency: str
    facts: Facts
    before: Sequence[RatedLine]

    def minor(self, codes: Iterable[str] | None = None, *, without: Iterable[str] = ()) -> int:
        """Return what the lines of these components, or all lines, come to on paper.

        without: kinds of charges whose lines do not count.
        """
        named, kinds = None if codes is None else set(codes), set(without)
        lines = [
            line
            for line in self.before
            if (named is None or line.component in named) and line.trace.get("shape") not in kinds
        ]
        return printed_minor(lines, self.currency)

    def line(
        self,
        code: str,
        register: str,
        quantity: int,
        unit_price: Decimal,
        explained: Mapping[str, object],
        *,
        per: int = 1,
        step: int = 0,
        model: str = "",
    ) -> RatedLine:
        """Return a line of a charge."""
        trace: dict[str, object] = {"version": self.version, "component": code, **explained}
        return RatedLine(
            self.version, code, model, register, "", step, quantity, unit_price, per, trace
        )

    def money(self, code: str, minor: int, explained: Mapping[str, object]) -> list[RatedLine]:
        """Return a line of so many minor units; none for nothing."""
        unit = from_minor(1, self.currency)
        return [self.line(code, MINOR, minor, unit, explained)] if minor else []


class Charge(Protocol):
    """One kind of charge."""

    KIND: ClassVar[str]
    EACH_VERSION: ClassVar[bool]  # every version charges its part, or the last one the whole
    REQUIRED: ClassVar[frozenset[str]]
    OPTIONAL: ClassVar[frozenset[str]]

    @property
    def code(self) -> str: ...

    @classmethod
    def read(cls, code: str, fields: Mapping[str, Field]) -> Self:
        """Read the charge's own fields. TariffInvalid if they are wrong."""
        ...

    def lines(self, basis: Basis) -> list[RatedLine]:
        """Return what it costs, each line with its trace."""
        ...

    def as_document(self) -> dict[str, object]:
        """Return the charge's own fields."""
        ...
