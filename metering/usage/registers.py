"""Registers: the disjoint kinds of quantity that an event may carry.

Disjoint means that no unit is counted twice: `input` leaves out what was read from a cache, and
`output` leaves out reasoning. A sum over token registers is therefore the number of tokens.
"""

import re
from dataclasses import dataclass

TOKEN = "token"  # noqa: S105 - what we sell, not what opens doors
REQUESTS = "requests"  # derived: one per event; nobody may send it

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Register:
    """One kind of quantity, as a person reads it."""

    name: str
    label: str
    unit: str = TOKEN


CORE = ("input", "cache_read", "cache_write", "output", "reasoning")

KNOWN: dict[str, Register] = {
    register.name: register
    for register in (
        Register("input", "Input"),
        Register("cache_read", "Cached input"),
        Register("cache_write", "Cache write"),
        Register("output", "Output"),
        Register("reasoning", "Reasoning"),
        Register("cache_write_1h", "Cache write, one hour"),
        Register("cache_write_12h", "Cache write, twelve hours"),
        Register("input_audio", "Audio input"),
        Register("output_audio", "Audio output"),
        Register("cache_read_audio", "Cached audio input"),
        Register("input_image", "Image input"),
        Register("output_image", "Image output"),
        Register("cache_read_image", "Cached image input"),
        Register("input_video", "Video input"),
        Register("output_video", "Video output"),
        Register("cache_read_video", "Cached video input"),
        Register("input_document", "Document input"),
        Register("output_document", "Document output"),
        Register("cache_read_document", "Cached document input"),
        Register("tool_use", "Tool use"),
        Register("cache_token_hours", "Cache held", unit="token-hour"),
        Register("cache_token_seconds", "Cache held for seconds", unit="token-second"),
        Register("web_search", "Web searches", unit="search"),
        Register("image", "Images", unit="image"),
        Register(REQUESTS, "Requests", unit="request"),
    )
}
NOT_TOKENS = tuple(name for name, register in KNOWN.items() if register.unit != TOKEN)


def is_token(register: str) -> bool:
    """Whether the register counts tokens; one we do not know does."""
    return register not in NOT_TOKENS


def label(register: str) -> str:
    """The register's name for people."""
    known = KNOWN.get(register)
    return known.label if known else register.replace("_", " ").capitalize()


def unit(register: str) -> str:
    """What the register counts."""
    known = KNOWN.get(register)
    return known.unit if known else TOKEN
