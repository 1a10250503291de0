"""The tariff document: JSON in, terms out that cannot be wrong."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from zoneinfo import ZoneInfo

from billing.rating.allowance import (
    ALLOWANCE_TOKENS_MAX,
    ALLOWANCES_MAX,
    Allowance,
    read_allowance,
)
from billing.rating.calendar import TouCalendar, read_calendar
from billing.rating.capacity import RESERVED, Capacity
from billing.rating.charge import CHARGES_MAX, Charge
from billing.rating.charges import charge_document, read_charge
from billing.rating.demand import Demand
from billing.rating.document import PRICE_DECIMALS_MAX, Field, TariffInvalid
from billing.rating.fee import Fee
from billing.rating.flat import Flat
from billing.rating.graduated import Graduated
from billing.rating.modifier import (
    MODIFIERS_MAX,
    Modifier,
    Stacking,
    applied,
    decimals_at_most,
    read_modifier,
    read_stacking,
)
from billing.rating.money import minor_digits
from billing.rating.package import Package
from billing.rating.period import TIME_BASES, Period
from billing.rating.price_series import PriceSeries
from billing.rating.proration import tokens_share
from billing.rating.request_size import RequestSize
from billing.rating.scope import (
    ANY,
    MODELS_MAX,
    NAMES_MAX,
    REQUESTS,
    Scope,
    What,
    When,
    matching,
    read_models,
    read_names,
    read_registers,
    read_when,
)
from billing.rating.shape import PER_ALLOWED, Shape
from billing.rating.time_of_use import TimeOfUse
from billing.rating.volume import Volume

__all__ = [
    "ALLOWANCES_MAX",
    "ALLOWANCE_TOKENS_MAX",
    "MODELS_MAX",
    "NAMES_MAX",
    "REQUESTS",
    "Allowance",
    "RateComponent",
    "TariffInvalid",
    "Terms",
    "matching",
    "parse",
]

ShapeClass = (
    type[Flat]
    | type[Graduated]
    | type[TimeOfUse]
    | type[Volume]
    | type[RequestSize]
    | type[Package]
    | type[PriceSeries]
)
_SHAPES: tuple[ShapeClass, ...] = (
    Flat,
    Graduated,
    TimeOfUse,
    Volume,
    RequestSize,
    Package,
    PriceSeries,
)
SHAPES: Mapping[str, ShapeClass] = {shape.NAME: shape for shape in _SHAPES}
RESERVED_CODE = "unpriced"
COMPONENTS_MAX = 1_000
KNOWN_MAX = 1_000  # kinds of usage whose price is remembered, with each terms

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_CODE_MUST = "a code (letters, digits, . _ / -; at most 100 characters)"
_CURRENCY = re.compile(r"[A-Z]{3}")
_TIME_BASIS = re.compile("|".join(TIME_BASES))


@dataclass(frozen=True, slots=True)
class RateComponent:
    """What it prices (models, registers, regions, service classes) and how (the shape).

    None for regions or service classes means any, and so does the default of `when`. `negotiated`
    is said by no document: `negotiated.merged` sets it.
    """

    code: str
    models: tuple[str, ...]
    registers: tuple[str, ...]
    shape: Shape
    regions: tuple[str, ...] | None = None
    service_classes: tuple[str, ...] | None = None
    when: When = ANY
    negotiated: bool = False
    _scope: Scope = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        scope = Scope(self.models, self.registers, self.regions, self.service_classes, self.when)
        object.__setattr__(self, "_scope", scope)

    def prices(self, what: What) -> bool:
        """Say whether this component would price such usage."""
        return self._scope.covers(what)

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "code": self.code,
            "models": list(self.models),
            "registers": list(self.registers),
        }
        if self.regions is not None:
            document["regions"] = list(self.regions)
        if self.service_classes is not None:
            document["service_classes"] = list(self.service_classes)
        if self.when != ANY:
            document["when"] = self.when.as_document()
        return document | {
            "shape": self.shape.NAME,
            "per": self.shape.per,
            **self.shape.as_document(),
        }


class PricedBy(NamedTuple):
    """What prices some usage: a component, its place in the document, the modifiers."""

    rank: int
    component: RateComponent
    modifiers: tuple[Modifier, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What usage costs under one tariff version. Its faults carry the pointer to the field."""

    currency: str
    calendar: TouCalendar | None
    allowances: tuple[Allowance, ...]
    components: tuple[RateComponent, ...]
    modifiers: tuple[Modifier, ...] = ()
    stacking: tuple[tuple[str, Stacking], ...] = ()
    time_basis: str = TIME_BASES[0]
    charges: tuple[Charge, ...] = ()
    _known: dict[What, PricedBy | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        minor_digits(self.currency)
        _refuse_repeats("allowances", (allowance.code for allowance in self.allowances))
        _refuse_repeats("components", (component.code for component in self.components))
        _refuse_repeats("modifiers", (modifier.code for modifier in self.modifiers))
        taken = {component.code for component in self.components}
        _refuse_repeats("charges", (charge.code for charge in self.charges), taken)
        self._refuse_endless_prices()
        self._refuse_lost_charges()
        for index, component in enumerate(self.components):
            if isinstance(component.shape, TimeOfUse):
                self._refuse_missing_buckets(component.shape, f"/components/{index}")

    def priced_by(self, what: What) -> PricedBy | None:
        """Return what prices such usage, modifiers included; None if nothing does.

        Looked for once: the same usage comes up in every period, and with every organization.
        """
        if what in self._known:
            return self._known[what]
        found = self.component_for(*what)
        priced_by = PricedBy(*found, self.modifiers_for(what, found[1])) if found else None
        if len(self._known) < KNOWN_MAX:
            self._known[what] = priced_by
        return priced_by

    def component_for(
        self,
        model: str,
        register: str,
        region: str,
        service_class: str,
        input_band: int = 0,
        thinking: bool = False,
        attributes: tuple[str, ...] = (),
    ) -> tuple[int, RateComponent] | None:
        """Return the first component that prices such usage, and its place; None if none does."""
        what = What(model, register, region, service_class, input_band, thinking, attributes)
        for place, component in enumerate(self.components):
            # Asked first: of many components few are of the register.
            if register in component.registers and component.prices(what):
                return place, component
        return None

    def modifiers_for(self, what: What, component: RateComponent) -> tuple[Modifier, ...]:
        """Return the modifiers that apply to such usage at a component's price, in their order.

        A negotiated price is net: no negotiated factor comes on top of it.
        """
        modifiers: Iterable[Modifier] = self.modifiers
        if component.negotiated:
            modifiers = (one for one in self.modifiers if one.kind != "negotiated")
        return applied(modifiers, dict(self.stacking), what)

    def allowances_at(self, place: Period) -> list[Allowance]:
        """Return the allowances that hold during a segment: what expires first drains first."""
        holding = [one for one in self.allowances if one.holds_at(place.start)]
        return sorted(holding, key=lambda one: (one.expires is None, one.expires or place.start))

    def prorated(self, part: Period, whole: Period, zone: ZoneInfo) -> "Terms":
        """Return the terms for a part of a billing period: allowances that say so shrink by days.

        Steps are never prorated.
        """
        allowances = tuple(
            replace(one, tokens=tokens_share(one.tokens, part, whole, zone)) if one.prorate else one
            for one in self.allowances
        )
        return replace(self, allowances=allowances)

    @property
    def asks_for(self) -> frozenset[str]:
        """Return what these terms need besides sums by model, register, region and class.

        Whoever rates readings that do not carry it must refuse the terms, or charge too little.
        """
        guards = self._guards
        asked = {
            "the size of each request": bool(self.boundaries),
            "whether a request reasoned": any(one.thinking is not None for one in guards),
            "attributes of requests": any(one.has or one.lacks for one in guards),
            "charges": bool(self.charges),
            "what was drained before": any(one.once for one in self.allowances),
            "proration": any(one.prorate for one in self.allowances),
            "another time basis": self.time_basis != TIME_BASES[0],
            "negative prices": any(
                isinstance(one.shape, PriceSeries) and one.shape.falls_below_zero
                for one in self.components
            ),
        }
        return frozenset(name for name, needed in asked.items() if needed)

    @property
    def _guards(self) -> list[When]:
        return [
            *(component.when for component in self.components),
            *(modifier.scope.when for modifier in self.modifiers),
            *(allowance.when for allowance in self.allowances),
        ]

    @property
    def boundaries(self) -> frozenset[int]:
        """Return the sizes of input at which some price changes: what a rating key must tell."""
        sizes = {
            size
            for component in self.components
            if isinstance(component.shape, RequestSize)
            for size in component.shape.boundaries
        }
        return frozenset(sizes.union(*(guard.boundaries for guard in self._guards)))

    @property
    def by_minute(self) -> bool:
        """Return whether some charge looks within quarter-hours."""
        return any(isinstance(one, Demand) and one.by_minute for one in self.charges)

    @property
    def attributes(self) -> frozenset[str]:
        """Return the attributes of requests that some price asks for."""
        return frozenset(name for guard in self._guards for name in (*guard.has, *guard.lacks))

    def as_document(self) -> dict[str, object]:
        """Return the document, in JSON values, that parse turns into these terms again."""
        document: dict[str, object] = {"currency": self.currency}
        if self.calendar is not None:
            document["calendar"] = self.calendar.as_document()
        if self.time_basis != TIME_BASES[0]:
            document["time_basis"] = self.time_basis
        if self.allowances:
            document["allowances"] = [allowance.as_document() for allowance in self.allowances]
        document["components"] = [component.as_document() for component in self.components]
        if self.modifiers:
            document["modifiers"] = [modifier.as_document() for modifier in self.modifiers]
        if self.stacking:
            document["stacking"] = {name: str(stacking) for name, stacking in self.stacking}
        if self.charges:
            document["charges"] = [charge_document(charge) for charge in self.charges]
        return document

    def _refuse_lost_charges(self) -> None:
        """A fee on nothing costs nothing, and what a reservation carries must not be paid twice."""
        codes = {one.code for one in self.components} | {one.code for one in self.charges}
        classes = {name for one in self.components for name in one.service_classes or ()}
        for index, charge in enumerate(self.charges):
            if isinstance(charge, Fee):
                for place, code in enumerate(charge.of or ()):
                    if code not in codes or code == charge.code:
                        detail = f"names no other component or charge: {code!r}; correct it"
                        raise TariffInvalid(f"/charges/{index}/of/{place}", detail)
            if isinstance(charge, Capacity) and RESERVED not in classes:
                detail = (
                    f"needs a component for the service class {RESERVED!r}, at a price of zero and "
                    "before the others; add one, or what it carries is paid twice"
                )
                raise TariffInvalid(f"/charges/{index}/kind", detail)

    def _refuse_endless_prices(self) -> None:
        """A price times every factor must still fit the 12 decimals that prices are kept with."""
        factors = decimals_at_most(self.modifiers)
        for index, component in enumerate(self.components):
            if not self.modifiers:
                return
            longest = max(map(_decimals, _texts(component.shape.as_document())), default=0)
            if longest + factors > PRICE_DECIMALS_MAX:
                detail = (
                    f"has prices of {longest} decimals, which with the {factors} of all modifiers "
                    f"are more than {PRICE_DECIMALS_MAX}; write the discounted prices out instead"
                )
                raise TariffInvalid(f"/components/{index}", detail)

    def _refuse_missing_buckets(self, shape: TimeOfUse, pointer: str) -> None:
        if self.calendar is None:
            detail = "needs a calendar; add one to the document, or choose the shape flat"
            raise TariffInvalid(f"{pointer}/shape", detail)
        for bucket in sorted(self.calendar.buckets - shape.buckets):
            detail = f"does not price the bucket {bucket!r} of the calendar; add a price for it"
            raise TariffInvalid(f"{pointer}/prices", detail)
        for bucket in sorted(shape.buckets - self.calendar.buckets):
            detail = "is no bucket of the calendar; remove the price, or add a rule"
            raise TariffInvalid(f"{pointer}/prices/{bucket}", detail)


def parse(document: Mapping[str, object]) -> Terms:
    """Read a tariff document. TariffInvalid points to the first field that is wrong."""
    optional = {"calendar", "time_basis", "allowances", "modifiers", "stacking", "charges"}
    fields = Field(document).members({"currency", "components"}, optional)
    modifiers = tuple(
        read_modifier(item, _CODE, _CODE_MUST)
        for item in _items(fields, "modifiers", MODIFIERS_MAX)
    )
    groups = [modifier.group for modifier in modifiers]
    return Terms(
        currency=_read_currency(fields["currency"]),
        calendar=read_calendar(fields["calendar"]) if "calendar" in fields else None,
        allowances=tuple(
            read_allowance(item, _CODE, _CODE_MUST)
            for item in _items(fields, "allowances", ALLOWANCES_MAX)
        ),
        components=tuple(
            read_component(item) for item in _items(fields, "components", COMPONENTS_MAX)
        ),
        modifiers=modifiers,
        stacking=read_stacking(fields.get("stacking"), groups),
        time_basis=_read_time_basis(fields.get("time_basis")),
        charges=tuple(
            read_charge(item, _CODE, _CODE_MUST) for item in _items(fields, "charges", CHARGES_MAX)
        ),
    )


def _items(fields: Mapping[str, Field], name: str, most: int) -> list[Field]:
    return fields[name].items(most=most) if name in fields else []


def _read_time_basis(source: Field | None) -> str:
    if source is None:
        return TIME_BASES[0]
    return source.text(_TIME_BASIS, f"one of {', '.join(TIME_BASES)}")


def _read_currency(source: Field) -> str:
    must = "an ISO 4217 currency code"
    currency = source.text(_CURRENCY, must)
    try:
        minor_digits(currency)
    except ValueError:
        raise source.refuse(must, "write one such as USD, CNY or EUR") from None
    return currency


def read_component(source: Field) -> RateComponent:
    """Read one of a document's `components`. TariffInvalid if it is not one."""
    shape = _read_shape_name(source)
    fields = source.members(
        {"code", "models", "registers", "shape", "per"} | shape.FIELDS,
        {"regions", "service_classes", "when"},
    )
    return RateComponent(
        code=_read_component_code(fields["code"]),
        models=read_models(fields["models"]),
        registers=_read_registers(fields["registers"]),
        shape=shape.read(fields, _read_per(fields["per"])),
        regions=read_names(fields.get("regions")),
        service_classes=read_names(fields.get("service_classes")),
        when=read_when(fields.get("when")),
    )


def _read_shape_name(source: Field) -> ShapeClass:
    fields = source.mapping()
    known = ", ".join(SHAPES)
    if "shape" not in fields:
        raise TariffInvalid(f"{source.pointer}/shape", f"is missing; choose one of: {known}")
    name = fields["shape"].value
    if not isinstance(name, str) or name not in SHAPES:
        raise fields["shape"].refuse(f"one of: {known}", "choose one")
    return SHAPES[name]


def _read_component_code(source: Field) -> str:
    code = source.text(_CODE, _CODE_MUST)
    if code == RESERVED_CODE:
        raise source.refuse("another code", "that one marks usage no component prices")
    return code


def _read_registers(source: Field) -> tuple[str, ...]:
    registers = read_registers(source)
    if REQUESTS in registers and len(registers) > 1:
        detail = "must not mix requests with tokens; price requests in a component of their own"
        raise TariffInvalid(source.pointer, detail)
    return registers


def _read_per(source: Field) -> int:
    per = source.whole(1, PER_ALLOWED[-1])
    if per not in PER_ALLOWED:
        raise source.refuse("a power of ten, so that every amount is exact", "write 1000000")
    return per


def _decimals(price: str) -> int:
    return len(price.partition(".")[2])


def _texts(value: object) -> Iterable[str]:
    """Return every text within a JSON value: of a shape's own fields, the prices."""
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


def _refuse_repeats(field: str, codes: Iterable[str], taken: Iterable[str] = ()) -> None:
    seen = set(taken)
    for index, code in enumerate(codes):
        if code in seen:
            detail = f"repeats the code {code!r}; give each of the {field} a code of its own"
            raise TariffInvalid(f"/{field}/{index}/code", detail)
        seen.add(code)
