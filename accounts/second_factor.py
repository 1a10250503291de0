"""What we say to django-allauth about second factors: their secrets are kept encrypted."""

from __future__ import annotations

import base64
import hashlib
import hmac

from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet
from django.conf import settings


class Adapter(DefaultMFAAdapter):
    """A copy of the database without the pepper is not enough to make anybody's codes."""

    def encrypt(self, text: str) -> str:
        """A secret as it is stored."""
        return _cipher().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """The secret that is stored so."""
        return _cipher().decrypt(encrypted_text.encode()).decode()


def _cipher() -> Fernet:
    """A key for this purpose alone: what is known of one use of the pepper helps with no other."""
    key = hmac.digest(settings.KEY_PEPPER.encode(), b"second factor", hashlib.sha256)
    return Fernet(base64.urlsafe_b64encode(key))
