"""Modifiers: factors on prices (a cache read at 20%, a batch at half), and which go together.

Whether discounts multiply is the provider's policy and no arithmetic: with Alibaba a batch cancels
the cache discount, with Anthropic both apply. So a group of modifiers says what it does.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum

from billing.rating.document import Field, TariffInvalid
from billing.rating.money import EXACT
from billing.rating.scope import SCOPE_FIELDS, Scope, What, read_scope
from billing.rating.shape import check_price

MODIFIERS_MAX = 200
GROUPS_MAX = 20
FACTOR_DECIMALS_MAX = 6
KINDS = ("token_class", "service_class", "region", "negotiated")  # in the order they are applied
_KIND = re.compile("|".join(KINDS))
GROUP = re.compile(r"[a-z][a-z0-9_]{0,31}")
GROUP_MUST = "a name (a to z, 0 to 9, _; at most 32 characters)"


class Stacking(StrEnum):
    """What becomes of several modifiers of one group that all apply."""

    MULTIPLY = "multiply"  # each applies
    EXCLUSIVE_BEST = "exclusive_best"  # the lowest factor applies, the others do not
    EXCLUSIVE_PRIORITY = "exclusive_priority"  # the first in the document applies


_STACKING = re.compile("|".join(Stacking))


@dataclass(frozen=True, slots=True)
class Modifier:
    """A factor on the price of some usage."""

    code: str
    kind: str
    factor: Decimal
    scope: Scope
    group: str = ""  # "": applies whatever else does

    def __post_init__(self) -> None:
        check_price(self.factor)
        if self.kind not in KINDS:
            raise ValueError(f"the kind of a modifier must be among {', '.join(KINDS)}")

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {"code": self.code, "kind": self.kind}
        document |= self.scope.as_document()
        if self.group:
            document["group"] = self.group
        return document | {"factor": f"{self.factor:f}"}

    def explain(self) -> dict[str, object]:
        return {"code": self.code, "kind": self.kind, "factor": f"{self.factor:f}"}


def applied(
    modifiers: Iterable[Modifier], stacking: Mapping[str, Stacking], what: What
) -> tuple[Modifier, ...]:
    """Return the modifiers that apply to such usage, in the order in which they are applied.

    Of each kind the first that covers the usage; then each group keeps what it stacks.
    """
    first: dict[str, Modifier] = {}
    groups: dict[str, list[Modifier]] = {}
    for modifier in modifiers:
        if modifier.scope.covers(what) and modifier.kind not in first:
            first[modifier.kind] = modifier
            groups.setdefault(modifier.group, []).append(modifier)
    kept = {
        modifier.code
        for name, members in groups.items()
        for modifier in _of_group(members, stacking.get(name, Stacking.MULTIPLY))
    }
    return tuple(first[kind] for kind in KINDS if kind in first and first[kind].code in kept)


def decimals_at_most(modifiers: Sequence[Modifier]) -> int:
    """Return how many decimals the factors on one price can have together."""
    return sum(
        max((_decimals(one.factor) for one in modifiers if one.kind == kind), default=0)
        for kind in KINDS
    )


def modified(price: Decimal, modifiers: Sequence[Modifier]) -> Decimal:
    """Return the price times every factor, exactly."""
    if not modifiers:  # as a rule
        return price
    with localcontext(EXACT):
        for modifier in modifiers:
            price = price * modifier.factor
    return price


def _of_group(members: Sequence[Modifier], stacking: Stacking) -> list[Modifier]:
    match stacking:
        case Stacking.MULTIPLY:
            return list(members)
        case Stacking.EXCLUSIVE_BEST:
            return [min(members, key=lambda modifier: modifier.factor)]
        case Stacking.EXCLUSIVE_PRIORITY:
            return [members[0]]


def _decimals(factor: Decimal) -> int:
    return len(f"{factor:f}".partition(".")[2])


def read_modifier(source: Field, code: re.Pattern[str], code_must: str) -> Modifier:
    """Read one of a document's `modifiers`. TariffInvalid if it is not one."""
    fields = source.members({"code", "kind", "factor"}, SCOPE_FIELDS | {"group"})
    factor = fields["factor"].price()
    if _decimals(factor) > FACTOR_DECIMALS_MAX:
        raise fields["factor"].refuse(
            f"a factor of at most {FACTOR_DECIMALS_MAX} decimals", "write it shorter"
        )
    return Modifier(
        code=fields["code"].text(code, code_must),
        kind=fields["kind"].text(_KIND, f"one of {', '.join(KINDS)}"),
        factor=factor,
        scope=read_scope(fields),
        group=fields["group"].text(GROUP, GROUP_MUST) if "group" in fields else "",
    )


def read_stacking(source: Field | None, groups: Iterable[str]) -> tuple[tuple[str, Stacking], ...]:
    """Read a document's `stacking`: what each group of modifiers does. All groups, no other."""
    known = sorted({group for group in groups if group})
    fields = {} if source is None else source.mapping()
    for name in fields:
        if name not in known:
            detail = f"is no group of the modifiers; they have: {', '.join(known) or 'none'}"
            raise TariffInvalid(fields[name].pointer, detail)
    for name in known:
        if name not in fields:
            detail = f"is missing; say what the group does: {', '.join(Stacking)}"
            raise TariffInvalid(f"/stacking/{name}", detail)
    must = f"one of {', '.join(Stacking)}"
    return tuple((name, Stacking(fields[name].text(_STACKING, must))) for name in known)
