"""What usage a price is for: models, registers, and what sort of request it was."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from billing.rating.document import Field, TariffInvalid

REQUESTS = "requests"  # counts events; every other register counts what was used
MODELS_MAX = 200
NAMES_MAX = 50
INPUT_TOKENS_MAX = 10**12

_MODEL = re.compile(r"[^\s*]{1,127}\*?|\*")
_MODEL_MUST = "a model name, or a prefix that ends in * (without blanks)"
_REGISTER = re.compile(r"[a-z][a-z0-9_]{0,31}")
_REGISTER_MUST = "a register such as input or cache_read"
_NAME = re.compile(r"[^\s*]{1,100}")
_NAME_MUST = "a name without blanks and without *"
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_ATTRIBUTE_MUST = "an attribute such as media_input (a to z, 0 to 9, _)"


class What(NamedTuple):
    """All that a price may look at in usage, besides when and how much: the rating key.

    input_band is a number of tokens that the request's whole input, cached tokens included, was
    above, such that no tier of any tariff starts between the two.
    """

    model: str
    register: str
    region: str = ""
    service_class: str = ""
    input_band: int = 0
    thinking: bool = False
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class When:
    """What a request must have been. The default is any request."""

    input_above: int = 0  # the whole input of the request, cached tokens included
    input_up_to: int | None = None  # inclusive
    thinking: bool | None = None
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.input_up_to is not None and self.input_up_to <= self.input_above:
            raise ValueError("input_up_to must be above input_above")

    @property
    def boundaries(self) -> frozenset[int]:
        """Return the sizes of input at which the answer changes."""
        return frozenset({self.input_above, self.input_up_to or 0} - {0})

    def holds(self, what: What) -> bool:
        """Say whether a request of this kind is meant."""
        return (
            self.input_above <= what.input_band
            and (self.input_up_to is None or what.input_band < self.input_up_to)
            and self.thinking in (None, what.thinking)
            and all(name in what.attributes for name in self.has)
            and not any(name in what.attributes for name in self.lacks)
        )

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {}
        if self.input_above:
            document["input_above"] = self.input_above
        if self.input_up_to is not None:
            document["input_up_to"] = self.input_up_to
        if self.thinking is not None:
            document["thinking"] = self.thinking
        if self.has:
            document["has"] = list(self.has)
        if self.lacks:
            document["lacks"] = list(self.lacks)
        return document


ANY = When()


@dataclass(frozen=True, slots=True)
class Scope:
    """Usage by name and by kind of request; None is any."""

    models: tuple[str, ...] | None = None
    registers: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    service_classes: tuple[str, ...] | None = None
    when: When = ANY

    def covers(self, what: What) -> bool:
        """Say whether the usage is meant."""
        return (
            (self.registers is None or what.register in self.registers)
            and (self.regions is None or what.region in self.regions)
            and (self.service_classes is None or what.service_class in self.service_classes)
            and (self.models is None or matching(self.models, what.model) is not None)
            and self.when.holds(what)
        )

    def as_document(self) -> dict[str, object]:
        named = {
            "models": self.models,
            "registers": self.registers,
            "regions": self.regions,
            "service_classes": self.service_classes,
        }
        document: dict[str, object] = {
            name: list(names) for name, names in named.items() if names is not None
        }
        return document | ({"when": self.when.as_document()} if self.when != ANY else {})


SCOPE_FIELDS = frozenset({"models", "registers", "regions", "service_classes", "when"})


def read_scope(fields: Mapping[str, Field]) -> Scope:
    """Read the fields of a scope that are there. TariffInvalid if they are wrong."""
    return Scope(
        models=read_models(fields["models"]) if "models" in fields else None,
        registers=read_registers(fields["registers"]) if "registers" in fields else None,
        regions=read_names(fields.get("regions")),
        service_classes=read_names(fields.get("service_classes")),
        when=read_when(fields.get("when")),
    )


def read_models(source: Field) -> tuple[str, ...]:
    return source.texts(_MODEL, _MODEL_MUST, most=MODELS_MAX)


def read_registers(source: Field) -> tuple[str, ...]:
    return source.texts(_REGISTER, _REGISTER_MUST, most=NAMES_MAX)


def read_names(source: Field | None) -> tuple[str, ...] | None:
    return None if source is None else source.texts(_NAME, _NAME_MUST, most=NAMES_MAX)


def read_when(source: Field | None) -> When:
    if source is None:
        return ANY
    known = {"input_above", "input_up_to", "thinking", "has", "lacks"}
    fields = source.members(frozenset(), known)
    if not fields:
        raise source.refuse("an object with a condition", "leave `when` out for any request")
    above, up_to = (
        fields[name].whole(1, INPUT_TOKENS_MAX) if name in fields else None
        for name in ("input_above", "input_up_to")
    )
    if up_to is not None and up_to <= (above or 0):
        raise TariffInvalid(fields["input_up_to"].pointer, f"must be above {above}; raise it")
    return When(
        input_above=above or 0,
        input_up_to=up_to,
        thinking=fields["thinking"].flag() if "thinking" in fields else None,
        has=_read_attributes(fields.get("has")),
        lacks=_read_attributes(fields.get("lacks")),
    )


def _read_attributes(source: Field | None) -> tuple[str, ...]:
    if source is None:
        return ()
    return source.texts(_ATTRIBUTE, _ATTRIBUTE_MUST, most=NAMES_MAX)


def matching(models: Iterable[str], model: str) -> str | None:
    """Return the first of the names and prefixes that matches a model; None if none does."""
    for name in models:
        if name == model or (name.endswith("*") and model.startswith(name[:-1])):
            return name
    return None
