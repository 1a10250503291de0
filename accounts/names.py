"""Texts that people give to things: what may stand in them, and the slugs made from them. Pure."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterator

from accounts.keys import holds_secret
from accounts.refusals import Refusal

SLUG_LENGTH_MAX = 63
NUMBERED_MAX = 9
ENDING_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without look-alikes
RESERVED_SLUGS = frozenset({"new"})


def clean(text: str, *, field: str, length_max: int, required: bool = True) -> str:
    """A text on one line without control characters; Refusal names the field."""
    cleaned = " ".join(unicodedata.normalize("NFC", text).split())
    if required and not cleaned:
        raise Refusal(field, "Write something here.")
    if len(cleaned) > length_max:
        raise Refusal(field, f"At most {length_max} characters, not {len(cleaned)}.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in cleaned):
        raise Refusal(field, "Control characters cannot stand here.")
    if holds_secret(cleaned):
        raise Refusal(field, "This holds an API key. Revoke that key, and write something else.")
    return cleaned


def slugs(name: str, *, otherwise: str) -> Iterator[str]:
    """Slugs to try in turn for a name: plain, numbered, then with a random ending."""
    base = _ascii(name)[: SLUG_LENGTH_MAX - 7].strip("-") or otherwise
    if base not in RESERVED_SLUGS:
        yield base
    for number in range(2, NUMBERED_MAX + 1):
        yield f"{base}-{number}"
    while True:
        yield f"{base}-{''.join(secrets.choice(ENDING_ALPHABET) for _ in range(6))}"


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
