"""Free tokens: an allowance of each billing period, or a grant that is given once and expires."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from billing.rating.document import Field, TariffInvalid
from billing.rating.period import Period
from billing.rating.scope import (
    ANY,
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

ALLOWANCES_MAX = 50
ALLOWANCE_TOKENS_MAX = 10**18


@dataclass(frozen=True, slots=True)
class Allowance:
    """Free tokens, drained in time order before anything is priced.

    Renewed with each billing period, unless given once: then what earlier periods drained is
    gone. With each_model every model has as many of its own.
    """

    code: str
    tokens: int
    models: tuple[str, ...]
    registers: tuple[str, ...]
    service_classes: tuple[str, ...] | None = None
    when: When = ANY
    each_model: bool = False
    once: bool = False
    starts: datetime | None = None
    expires: datetime | None = None
    prorate: bool = False  # part of a billing period: part of the tokens, rounded down

    def covers(self, model: str, register: str) -> bool:
        """Say whether the allowance may drain into this register of this model."""
        return register in self.registers and matching(self.models, model) is not None

    def drains(self, what: What) -> bool:
        """Say whether the allowance may drain into such usage."""
        scope = Scope(self.models, self.registers, None, self.service_classes, self.when)
        return scope.covers(what)

    def holds_at(self, moment: datetime) -> bool:
        """Say whether the allowance may be drained then."""
        begun = self.starts is None or self.starts <= moment
        return begun and (self.expires is None or moment < self.expires)

    def counter(self, model: str) -> tuple[str, str]:
        """Return whose tokens these are: the model's own, or everybody's."""
        return self.code, model if self.each_model else ""

    def cuts(self, period: Period) -> list[datetime]:
        """Return the instants within a period at which it begins or ends to hold."""
        return [edge for edge in (self.starts, self.expires) if edge is not None and edge in period]

    def as_document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "code": self.code,
            "tokens": self.tokens,
            "models": list(self.models),
            "registers": list(self.registers),
        }
        if self.service_classes is not None:
            document["service_classes"] = list(self.service_classes)
        if self.when != ANY:
            document["when"] = self.when.as_document()
        for name in ("each_model", "once", "prorate"):
            if getattr(self, name):
                document[name] = True
        for name, edge in (("starts", self.starts), ("expires", self.expires)):
            if edge is not None:
                document[name] = edge.isoformat()
        return document


def read_allowance(source: Field, code: re.Pattern[str], code_must: str) -> Allowance:
    """Read one of a document's `allowances`. TariffInvalid if it is not one."""
    flags = {"each_model", "once", "prorate"}
    optional = {"service_classes", "when", "starts", "expires", *flags}
    fields = source.members({"code", "tokens", "models", "registers"}, optional)
    registers = read_registers(fields["registers"])
    if REQUESTS in registers:
        detail = "must not name requests: an allowance is in tokens; remove it"
        raise TariffInvalid(fields["registers"].pointer, detail)
    starts, expires = (
        fields[name].instant() if name in fields else None for name in ("starts", "expires")
    )
    if starts is not None and expires is not None and expires <= starts:
        raise TariffInvalid(fields["expires"].pointer, "must be after the start; move it")
    if _is_set(fields, "once") and _is_set(fields, "prorate"):
        detail = "must not go with `once`: what is given once has no part; leave one of them out"
        raise TariffInvalid(fields["prorate"].pointer, detail)
    return Allowance(
        code=fields["code"].text(code, code_must),
        tokens=fields["tokens"].whole(1, ALLOWANCE_TOKENS_MAX),
        models=read_models(fields["models"]),
        registers=registers,
        service_classes=read_names(fields.get("service_classes")),
        when=read_when(fields.get("when")),
        starts=starts,
        expires=expires,
        **{name: fields[name].flag() for name in flags if name in fields},
    )


def _is_set(fields: Mapping[str, Field], name: str) -> bool:
    return name in fields and fields[name].flag()
