"""People: found and made by e-mail address."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.models import User


@transaction.atomic
def create_verified(email: str, password: str, *, staff: bool = False) -> User:
    """Make a person whose address counts as verified: whoever runs this vouches for it."""
    if staff:
        user = User.objects.create_superuser(email, password)
    else:
        user = User.objects.create_user(email, password)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def has_verified(user: User, email: str) -> bool:
    """Whether this person has proved to read mail sent to this address."""
    verified = EmailAddress.objects.filter(user=user, verified=True)
    return bool(verified.filter(email__iexact=email).exists())
