"""One request as it was reported, and what its registers tell of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from billing.rating.period import utc

MEDIA_INPUT, AUDIO_OUTPUT = "media_input", "audio_output"
REASONING = "reasoning"
_MEDIA = ("input_audio", "input_image", "input_video", "cache_read_audio")


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
    def all_attributes(self) -> tuple[str, ...]:
        """Return the attributes said, and those that the registers tell."""
        told = set(self.attributes)
        if any(self.usage.get(name) for name in _MEDIA):
            told.add(MEDIA_INPUT)
        if self.usage.get("output_audio"):
            told.add(AUDIO_OUTPUT)
        return tuple(sorted(told))


@dataclass(frozen=True, slots=True)
class Distinct:
    """Events by identity: each once; replays counted; same identity, other facts set apart."""

    events: list[Event] = field(default_factory=list)
    duplicates: int = 0
    conflicts: list[Event] = field(default_factory=list)


def is_input(register: str) -> bool:
    """Say whether a register is part of a request's input: plain, cached or written to a cache."""
    if register.endswith(("_hours", "_seconds")):  # a stock that is held, not sent
        return False
    return register.startswith(("input", "cache_"))


def band_of(input_tokens: int, boundaries: Iterable[int]) -> int:
    """Return the band of a request's input: the largest boundary it is above, or 0.

    A boundary belongs to the band below it: 32,000 tokens are not above 32,000.
    """
    return max((size for size in boundaries if size < input_tokens), default=0)


def distinct(events: Iterable[Event]) -> Distinct:
    """Keep the first event of each (source, id). The same again is a replay, and welcome."""
    first: dict[tuple[str, str], Event] = {}
    duplicates, conflicts = 0, []
    for event in events:
        known = first.setdefault((event.source, event.id), event)
        if known is event:
            continue
        if known == event:
            duplicates += 1
        else:
            conflicts.append(event)
    return Distinct(list(first.values()), duplicates, conflicts)
