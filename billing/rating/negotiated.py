"""Negotiated terms: what one organization agreed on besides its tariff, and both as one.

A document of its own, with prices, discounts, free tokens and charges, each optional. An empty one
says that the tariff holds as it stands.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Any, Protocol, TypeVar

from billing.rating.allowance import ALLOWANCES_MAX, Allowance, read_allowance
from billing.rating.charge import CHARGES_MAX, Charge
from billing.rating.charges import charge_document, read_charge
from billing.rating.document import Field, TariffInvalid
from billing.rating.modifier import MODIFIERS_MAX, Modifier
from billing.rating.money import EXACT
from billing.rating.scope import SCOPE_FIELDS, Scope, read_scope
from billing.rating.tariff import (
    COMPONENTS_MAX,
    RateComponent,
    Terms,
    read_component,
)

# No code of a tariff has a colon, so what was agreed can never collide with what is listed.
PREFIX = "negotiated:"
NEGOTIATED = "negotiated"
PERCENT_DECIMALS_MAX = 4
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,59}")  # with its prefixes it must fit a line
_CODE_MUST = "a code (letters, digits, . _ / -; at most 60 characters)"
_HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Discount:
    """So many percent off the listed price of some usage; never off an agreed price."""

    code: str
    percent: Decimal
    scope: Scope

    @property
    def modifier(self) -> Modifier:
        """Return the factor on listed prices that this is."""
        with localcontext(EXACT):
            factor = ((_HUNDRED - self.percent) / _HUNDRED).normalize()
        return Modifier(PREFIX + self.code, NEGOTIATED, factor, self.scope)

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {"code": self.code, **self.scope.as_document()}
        return document | {"percent": f"{self.percent:f}"}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was negotiated. Everything in it goes before what the tariff has of its kind."""

    components: tuple[RateComponent, ...] = ()
    discounts: tuple[Discount, ...] = ()
    allowances: tuple[Allowance, ...] = ()
    charges: tuple[Charge, ...] = ()

    def as_document(self) -> dict[str, object]:
        """Return the document, in JSON values, that `parse_agreement` turns into this again."""
        sections: dict[str, list[dict[str, object]]] = {
            "components": [one.as_document() for one in self.components],
            "discounts": [one.as_document() for one in self.discounts],
            "allowances": [one.as_document() for one in self.allowances],
            "charges": [charge_document(one) for one in self.charges],
        }
        return {name: entries for name, entries in sections.items() if entries}


def parse_agreement(document: Mapping[str, object]) -> Agreement:
    """Read negotiated terms. TariffInvalid points to the first field that is wrong."""
    fields = Field(document).members(
        frozenset(), frozenset({"components", "discounts", "allowances", "charges"})
    )
    agreement = Agreement(
        components=tuple(map(read_component, _items(fields, "components", COMPONENTS_MAX))),
        discounts=tuple(map(_read_discount, _items(fields, "discounts", MODIFIERS_MAX))),
        allowances=tuple(
            read_allowance(item, _CODE, _CODE_MUST)
            for item in _items(fields, "allowances", ALLOWANCES_MAX)
        ),
        charges=tuple(
            read_charge(item, _CODE, _CODE_MUST) for item in _items(fields, "charges", CHARGES_MAX)
        ),
    )
    for name in ("components", "discounts", "allowances", "charges"):
        _refuse_repeats(name, getattr(agreement, name))
    return agreement


def merged(terms: Terms, agreement: Agreement) -> Terms:
    """Return a tariff's terms with an agreement before them. TariffInvalid if they do not fit.

    Agreed prices are net: no discount comes off them. An agreed discount takes the place of the
    tariff's own negotiated modifier where both cover some usage.
    """
    components = tuple(
        replace(one, code=PREFIX + one.code, negotiated=True) for one in agreement.components
    )
    return replace(
        terms,
        components=(*components, *terms.components),
        modifiers=(*(one.modifier for one in agreement.discounts), *terms.modifiers),
        allowances=(*map(_named, agreement.allowances), *terms.allowances),
        charges=(*map(_named, agreement.charges), *terms.charges),
    )


def is_negotiated(trace: Mapping[str, Any]) -> bool:
    """Say whether an agreement had a part in the price of a line, by the line's trace."""
    return bool(trace.get(NEGOTIATED)) or any(
        modifier["kind"] == NEGOTIATED for modifier in trace.get("modifiers", ())
    )


class _Coded(Protocol):
    @property
    def code(self) -> str: ...


_Entry = TypeVar("_Entry", Allowance, Charge)


def _named(entry: _Entry) -> _Entry:
    return replace(entry, code=PREFIX + entry.code)  # type: ignore[type-var]


def _read_discount(source: Field) -> Discount:
    fields = source.members({"code", "percent"}, SCOPE_FIELDS)
    percent = fields["percent"].price()
    if not 0 < percent <= _HUNDRED or -int(percent.as_tuple().exponent) > PERCENT_DECIMALS_MAX:
        must = f"a percentage above 0, up to 100, with at most {PERCENT_DECIMALS_MAX} decimals"
        raise fields["percent"].refuse(must, 'write it like "12.5"')
    return Discount(fields["code"].text(_CODE, _CODE_MUST), percent, read_scope(fields))


def _items(fields: Mapping[str, Field], name: str, most: int) -> list[Field]:
    return fields[name].items(most=most) if name in fields else []


def _refuse_repeats(name: str, entries: tuple[_Coded, ...]) -> None:
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.code in seen:
            detail = f"repeats the code {entry.code!r}; give each of the {name} a code of its own"
            raise TariffInvalid(f"/{name}/{index}/code", detail)
        seen.add(entry.code)
