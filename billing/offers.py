"""Which tariffs an organization may see and price usage with: those offered to all, and its own."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from accounts.models import Organization
from billing.models import Tariff


def visible_to(organization: Organization) -> QuerySet[Tariff]:
    """The tariffs that are offered to everybody, and those the organization is or was on.

    Others may be somebody's negotiated prices.
    """
    own = Q(subscriptions__organization=organization)
    return Tariff.objects.filter(Q(offered=True) | own).distinct().order_by("code")


def find(organization: Organization, code: str) -> Tariff | None:
    """A visible tariff by its code; None for one that is not there or not to be seen."""
    return visible_to(organization).filter(code=code).first() if "\0" not in code else None
