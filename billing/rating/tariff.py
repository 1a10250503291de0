"""The tariff document: JSON in, terms out that cannot be wrong."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from billing.rating.calendar import TouCalendar, read_calendar
from billing.rating.document import Field, TariffInvalid
from billing.rating.flat import Flat
from billing.rating.graduated import Graduated
from billing.rating.money import minor_digits
from billing.rating.shape import PER_ALLOWED, Shape
from billing.rating.time_of_use import TimeOfUse

__all__ = ["Allowance", "RateComponent", "TariffInvalid", "Terms", "parse"]

SHAPES: Mapping[str, type[Flat] | type[Graduated] | type[TimeOfUse]] = {
    shape.NAME: shape for shape in (Flat, Graduated, TimeOfUse)
}
REQUESTS = "requests"  # counts events; every other register counts tokens
RESERVED_CODE = "unpriced"
COMPONENTS_MAX = 1_000
ALLOWANCES_MAX = 50
MODELS_MAX = 200
NAMES_MAX = 50
ALLOWANCE_TOKENS_MAX = 10**18

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_CODE_MUST = "a code (letters, digits, . _ / -; at most 100 characters)"
_MODEL = re.compile(r"[^\s*]{1,127}\*?|\*")
_MODEL_MUST = "a model name, or a prefix that ends in * (without blanks)"
_REGISTER = re.compile(r"[a-z][a-z0-9_]{0,31}")
_REGISTER_MUST = "a register such as input or cache_read"
_NAME = re.compile(r"[^\s*]{1,100}")
_NAME_MUST = "a name without blanks and without *"
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Free tokens per billing period, drained in time order before anything is priced."""

    code: str
    tokens: int
    models: tuple[str, ...]
    registers: tuple[str, ...]

    def covers(self, model: str, register: str) -> bool:
        """Say whether the allowance may drain into this register of this model."""
        return register in self.registers and matching(self.models, model) is not None

    def as_document(self) -> dict[str, object]:
        return {
            "code": self.code,
            "tokens": self.tokens,
            "models": list(self.models),
            "registers": list(self.registers),
        }


@dataclass(frozen=True, slots=True)
class RateComponent:
    """What it prices (models, registers, regions, service classes) and how (the shape).

    None for regions or service classes means any.
    """

    code: str
    models: tuple[str, ...]
    registers: tuple[str, ...]
    shape: Shape
    regions: tuple[str, ...] | None = None
    service_classes: tuple[str, ...] | None = None

    def prices(self, model: str, register: str, region: str, service_class: str) -> bool:
        """Say whether this component would price such usage."""
        return (
            register in self.registers
            and (self.regions is None or region in self.regions)
            and (self.service_classes is None or service_class in self.service_classes)
            and matching(self.models, model) is not None
        )

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
        return document | {
            "shape": self.shape.NAME,
            "per": self.shape.per,
            **self.shape.as_document(),
        }


@dataclass(frozen=True, slots=True)
class Terms:
    """What usage costs under one tariff version. Its faults carry the pointer to the field."""

    currency: str
    calendar: TouCalendar | None
    allowances: tuple[Allowance, ...]
    components: tuple[RateComponent, ...]

    def __post_init__(self) -> None:
        minor_digits(self.currency)
        _refuse_repeats("allowances", (allowance.code for allowance in self.allowances))
        _refuse_repeats("components", (component.code for component in self.components))
        for index, component in enumerate(self.components):
            if isinstance(component.shape, TimeOfUse):
                self._refuse_missing_buckets(component.shape, f"/components/{index}")

    def component_for(
        self, model: str, register: str, region: str, service_class: str
    ) -> tuple[int, RateComponent] | None:
        """Return the first component that prices such usage, and its place; None if none does."""
        for place, component in enumerate(self.components):
            if component.prices(model, register, region, service_class):
                return place, component
        return None

    def as_document(self) -> dict[str, object]:
        """Return the document, in JSON values, that parse turns into these terms again."""
        document: dict[str, object] = {"currency": self.currency}
        if self.calendar is not None:
            document["calendar"] = self.calendar.as_document()
        if self.allowances:
            document["allowances"] = [allowance.as_document() for allowance in self.allowances]
        document["components"] = [component.as_document() for component in self.components]
        return document

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


def matching(models: Iterable[str], model: str) -> str | None:
    """Return the first of the names and prefixes that matches a model; None if none does."""
    for name in models:
        if name == model or (name.endswith("*") and model.startswith(name[:-1])):
            return name
    return None


def parse(document: Mapping[str, object]) -> Terms:
    """Read a tariff document. TariffInvalid points to the first field that is wrong."""
    fields = Field(document).members({"currency", "components"}, {"calendar", "allowances"})
    allowances = fields["allowances"].items(most=ALLOWANCES_MAX) if "allowances" in fields else []
    return Terms(
        currency=_read_currency(fields["currency"]),
        calendar=read_calendar(fields["calendar"]) if "calendar" in fields else None,
        allowances=tuple(_read_allowance(item) for item in allowances),
        components=tuple(
            _read_component(item) for item in fields["components"].items(most=COMPONENTS_MAX)
        ),
    )


def _read_currency(source: Field) -> str:
    must = "an ISO 4217 currency code"
    currency = source.text(_CURRENCY, must)
    try:
        minor_digits(currency)
    except ValueError:
        raise source.refuse(must, "write one such as USD, CNY or EUR") from None
    return currency


def _read_allowance(source: Field) -> Allowance:
    fields = source.members({"code", "tokens", "models", "registers"})
    registers = fields["registers"].texts(_REGISTER, _REGISTER_MUST, most=NAMES_MAX)
    if REQUESTS in registers:
        detail = "must not name requests: an allowance is in tokens; remove it"
        raise TariffInvalid(fields["registers"].pointer, detail)
    return Allowance(
        code=fields["code"].text(_CODE, _CODE_MUST),
        tokens=fields["tokens"].whole(1, ALLOWANCE_TOKENS_MAX),
        models=fields["models"].texts(_MODEL, _MODEL_MUST, most=MODELS_MAX),
        registers=registers,
    )


def _read_component(source: Field) -> RateComponent:
    shape = _read_shape_name(source)
    fields = source.members(
        {"code", "models", "registers", "shape", "per"} | shape.FIELDS,
        {"regions", "service_classes"},
    )
    return RateComponent(
        code=_read_component_code(fields["code"]),
        models=fields["models"].texts(_MODEL, _MODEL_MUST, most=MODELS_MAX),
        registers=_read_registers(fields["registers"]),
        shape=shape.read(fields, _read_per(fields["per"])),
        regions=_read_names(fields.get("regions")),
        service_classes=_read_names(fields.get("service_classes")),
    )


def _read_shape_name(source: Field) -> type[Flat] | type[Graduated] | type[TimeOfUse]:
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
    registers = source.texts(_REGISTER, _REGISTER_MUST, most=NAMES_MAX)
    if REQUESTS in registers and len(registers) > 1:
        detail = "must not mix requests with tokens; price requests in a component of their own"
        raise TariffInvalid(source.pointer, detail)
    return registers


def _read_per(source: Field) -> int:
    per = source.whole(1, PER_ALLOWED[-1])
    if per not in PER_ALLOWED:
        raise source.refuse("a power of ten, so that every amount is exact", "write 1000000")
    return per


def _read_names(source: Field | None) -> tuple[str, ...] | None:
    return None if source is None else source.texts(_NAME, _NAME_MUST, most=NAMES_MAX)


def _refuse_repeats(field: str, codes: Iterable[str]) -> None:
    seen: set[str] = set()
    for index, code in enumerate(codes):
        if code in seen:
            detail = f"repeats the code {code!r}; give each of the {field} a code of its own"
            raise TariffInvalid(f"/{field}/{index}/code", detail)
        seen.add(code)
