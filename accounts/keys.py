"""API keys as text: made, split, digested, compared. Pure; the rows are in accounts.models.

A key reads `kt_<prefix>_<secret>`. The prefix names the key and may be shown and logged; the
secret is shown once. What is stored is HMAC-SHA256(pepper, whole key): someone with a copy of the
database but without the pepper can neither use a key nor test a guess.
"""

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field

PREFIX_LENGTH = 12
SECRET_LENGTH = 43  # 62 ** 43 is just over 2 ** 256
ALPHABET = string.ascii_letters + string.digits
_SHAPE = re.compile(rf"kt_([a-z0-9]{{{PREFIX_LENGTH}}})_([A-Za-z0-9]{{{SECRET_LENGTH}}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the one moment its secret is known."""

    text: str = field(repr=False)  # so that no log line and no traceback shows it
    prefix: str
    digest: bytes = field(repr=False)


def make(pepper: str) -> NewKey:
    """Draw a new key from the system's random source."""
    prefix = "".join(
        secrets.choice(string.ascii_lowercase + string.digits) for _ in range(PREFIX_LENGTH)
    )
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    text = f"kt_{prefix}_{secret}"
    return NewKey(text, prefix, digest(text, pepper))


def digest(text: str, pepper: str) -> bytes:
    """The keyed hash that is stored, 32 bytes."""
    return hmac.digest(pepper.encode(), text.encode(), hashlib.sha256)


def prefix_of(text: str) -> str | None:
    """The lookup prefix of a well-formed key, else None."""
    match = _SHAPE.fullmatch(text)
    return match[1] if match else None


def matches(text: str, stored: bytes, pepper: str) -> bool:
    """Whether this is the key whose digest is stored, in constant time."""
    return hmac.compare_digest(digest(text, pepper), stored)


def holds_secret(text: str) -> bool:
    """Whether a text contains a whole key: such a text must not be stored or logged."""
    return _SHAPE.search(text) is not None


def masked(text: str) -> str:
    """The text with every whole key cut down to its prefix."""
    return _SHAPE.sub(r"kt_\1_***", text)
