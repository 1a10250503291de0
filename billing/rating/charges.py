"""All kinds of charges, in the order in which they are made."""

import re
from collections.abc import Mapping

from billing.rating.capacity import Capacity
from billing.rating.charge import Charge
from billing.rating.commitment import Commitment
from billing.rating.demand import Demand
from billing.rating.document import Field, TariffInvalid
from billing.rating.fee import Fee
from billing.rating.ladder import Ladder
from billing.rating.minimum import Minimum
from billing.rating.pass_through import PassThrough
from billing.rating.standing import Standing

ChargeClass = (
    type[Demand]
    | type[Capacity]
    | type[Standing]
    | type[PassThrough]
    | type[Fee]
    | type[Minimum]
    | type[Ladder]
    | type[Commitment]
)
_ORDER: tuple[ChargeClass, ...] = (
    Demand,
    Capacity,
    Standing,
    PassThrough,
    Fee,
    Minimum,
    Ladder,
    Commitment,
)
CHARGES: Mapping[str, ChargeClass] = {kind.KIND: kind for kind in _ORDER}


def read_charge(source: Field, code: re.Pattern[str], code_must: str) -> Charge:
    """Read one of a document's `charges`. TariffInvalid if it is not one."""
    kind = _read_kind(source)
    fields = source.members({"code", "kind"} | kind.REQUIRED, kind.OPTIONAL)
    return kind.read(fields["code"].text(code, code_must), fields)


def charge_document(charge: Charge) -> dict[str, object]:
    """Return the document that read_charge turns into the charge again."""
    return {"code": charge.code, "kind": charge.KIND, **charge.as_document()}


def _read_kind(source: Field) -> ChargeClass:
    fields = source.mapping()
    known = ", ".join(CHARGES)
    if "kind" not in fields:
        raise TariffInvalid(f"{source.pointer}/kind", f"is missing; choose one of: {known}")
    name = fields["kind"].value
    if not isinstance(name, str) or name not in CHARGES:
        raise fields["kind"].refuse(f"one of: {known}", "choose one")
    return CHARGES[name]
