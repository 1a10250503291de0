"""Sealed readings: each carries the hash of the one before, and a signature by its meter's key.

Who holds the public key can check that no reading was changed, left out or put in. What is verified
are the bytes as received: to write the same JSON again might change them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FIRST = "0" * 64  # what the first reading of a chain has for the hash before it


class SealBroken(ValueError):
    """A chain of readings does not hold; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A reading's bytes and their signature."""

    payload: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()


def canonical(reading: Mapping[str, object]) -> bytes:
    """Write a reading in its one form: sorted names, no blanks, UTF-8."""
    text = json.dumps(reading, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def seal(reading: Mapping[str, object], key: bytes) -> Sealed:
    """Sign a reading with a meter's private key of 32 bytes."""
    payload = canonical(reading)
    return Sealed(payload, Ed25519PrivateKey.from_private_bytes(key).sign(payload))


def verify(chain: Sequence[Sealed], public_key: bytes) -> None:
    """Check a chain from its first reading. SealBroken at the first that does not hold."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    before = FIRST
    for seq, sealed in enumerate(chain, start=1):
        try:
            key.verify(sealed.signature, sealed.payload)
        except InvalidSignature:
            raise SealBroken(f"reading {seq}: the signature is not this meter's") from None
        reading = json.loads(sealed.payload)
        if reading.get("seq") != seq:
            raise SealBroken(f"reading {seq}: it says it is {reading.get('seq')}; one is missing")
        if reading.get("prev") != before:
            raise SealBroken(f"reading {seq}: it does not follow the one before it")
        before = sealed.digest
