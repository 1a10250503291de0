"""One request as it was reported, and what its registers tell of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from billing.rating.document import Field
from billing.rating.period import utc
from billing.rating.scope import REQUESTS

MEDIA_INPUT, AUDIO_OUTPUT = "media_input", "audio_output"
REASONING = "reasoning"
QUANTITY_MAX = 10**12
ATTRIBUTES_MAX = 50
_TEXT = re.compile(r"\S(?:.{0,126}\S)?")
_TEXT_MUST = "a text of 1 to 128 characters"
_REGISTER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MEDIA = tuple(
    f"{how}_{medium}"
    for how in ("input", "cache_read")
    for medium in ("audio", "document", "image", "video")
)


@dataclass(frozen=True, slots=True)
class Event:
    """One request: when, of which model, and so much in each register.

    thinking None: it was if it reasoned. Attributes beyond those that its registers tell.
    """

    id: str
    occurred_at: datetime
    model: str
    usage: Mapping[str, int]
    source: str = ""
    region: str = ""
    service_class: str = ""
    thinking: bool | None = None
    attributes: tuple[str, ...] = ()
    first_token_at: datetime | None = None
    ended_at: datetime | None = None
    meter: str = ""  # the API key or another metering point, for demand

    def at(self, basis: str) -> datetime:
        """Return the instant that counts by a time basis; the start where it is not known."""
        instants = {"first_token": self.first_token_at, "request_end": self.ended_at}
        return utc(instants.get(basis) or self.occurred_at)

    @property
    def thought(self) -> bool:
        return self.usage.get(REASONING, 0) > 0 if self.thinking is None else self.thinking

    @property
    def input_tokens(self) -> int:
        """Return the whole input, cached tokens included: what decides the tier."""
        return sum(quantity for name, quantity in self.usage.items() if is_input(name))

    @property
    def tokens(self) -> int:
        """Return all its tokens: not its searches, images or seconds."""
        usage = self.usage.items()
        return sum(quantity for name, quantity in usage if is_input(name) or is_output(name))

    @property
    def all_attributes(self) -> tuple[str, ...]:
        """Return the attributes said, and those that the registers tell."""
        told = set(self.attributes)
        if any(self.usage.get(name) for name in _MEDIA):
            told.add(MEDIA_INPUT)
        if self.usage.get("output_audio"):
            told.add(AUDIO_OUTPUT)
        return tuple(sorted(told))


def is_input(register: str) -> bool:
    """Say whether a register is part of a request's input: plain, cached or written to a cache."""
    if register.endswith(("_hours", "_seconds")):  # a stock that is held, not sent
        return False
    return register.startswith(("input", "cache_"))


def is_output(register: str) -> bool:
    """Say whether a register is part of what a request put out: answer, reasoning, speech."""
    return register == REASONING or register.startswith("output")


def band_of(input_tokens: int, boundaries: Iterable[int]) -> int:
    """Return the band of a request's input: the largest boundary it is above, or 0.

    A boundary belongs to the band below it: 32,000 tokens are not above 32,000.
    """
    return max((size for size in boundaries if size < input_tokens), default=0)


def read_event(source: Field) -> Event:
    """Read an event as it is reported to the API. TariffInvalid points to the field that is wrong.

    Fields that say who and not what are allowed, and only the API key counts, as the meter. Null
    says the same as leaving out what may be left out.
    """
    optional = {"source", "region", "service_class", "thinking", "attributes"}
    moments = {"first_token_at", "ended_at"}
    who = {"project", "api_key", "agent", "session"}
    fields = source.members(_NEEDED, optional | moments | who)
    given = {name: one for name, one in fields.items() if one.value is not None or name in _NEEDED}
    text = {name: given[name].text(_TEXT, _TEXT_MUST) for name in given if name in _TEXTS}
    return Event(
        id=text["id"],
        occurred_at=given["occurred_at"].moment(),
        model=text["model"],
        usage=_read_usage(given["usage"]),
        source=text.get("source", ""),
        region=text.get("region", ""),
        service_class=text.get("service_class", ""),
        meter=text.get("api_key", ""),
        thinking=given["thinking"].flag() if "thinking" in given else None,
        attributes=given["attributes"].texts(_ATTRIBUTE, "an attribute", most=ATTRIBUTES_MAX)
        if "attributes" in given
        else (),
        **{name: given[name].moment() for name in moments if name in given},
    )


_NEEDED = frozenset({"id", "occurred_at", "model", "usage"})
_TEXTS = ("id", "model", "source", "region", "service_class", "api_key")


def _read_usage(source: Field) -> dict[str, int]:
    usage = source.mapping()
    if not usage or REQUESTS in usage:
        must = f"an object of registers and quantities, without {REQUESTS}, which are counted"
        raise source.refuse(must, 'write it like {"input": 1200}')
    for name, one in usage.items():
        if not _REGISTER.fullmatch(name):
            raise one.refuse("under the name of a register", "rename it, such as input")
    return {name: one.whole(0, QUANTITY_MAX) for name, one in usage.items()}
