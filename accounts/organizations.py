"""Organizations: made, described, suspended."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TypedDict, Unpack
from zoneinfo import available_timezones

from babel import Locale
from babel.core import get_global
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from accounts import audit, names
from accounts.models import Member, Organization, Project, Role, User
from accounts.refusals import Refusal

DEFAULT_PROJECT_SLUG = "default"


class BillingDetails(TypedDict, total=False):
    """What an invoice says about its buyer."""

    billing_name: str
    billing_email: str
    address_line1: str
    address_line2: str
    postal_code: str
    city: str
    country: str
    tax_id: str


LENGTHS_MAX = {  # as the columns are wide; a field without a row here is not the caller's to set
    "billing_name": 200,
    "billing_email": 254,
    "address_line1": 200,
    "address_line2": 200,
    "postal_code": 32,
    "city": 120,
    "country": 2,
    "tax_id": 64,
}


@transaction.atomic
def create(
    *, name: str, currency: str, zone: str, owner: User | None = None, now: datetime
) -> Organization:
    """Make an organization with its first project and, if there is one, its owner."""
    organization = _insert(
        names.clean(name, field="name", length_max=200), _currency(currency), _zone(zone), now
    )
    Project.objects.create(
        organization=organization, slug=DEFAULT_PROJECT_SLUG, name="Default", created_at=now
    )
    if owner:
        Member.objects.create(
            organization=organization, user=owner, role=Role.OWNER, created_at=now
        )
    audit.record(
        "organization.created",
        subject=organization.slug,
        organization=organization,
        actor=owner,
        detail={"name": organization.name, "currency": currency, "zone": zone},
    )
    return organization


@transaction.atomic
def rename(*, organization: Organization, name: str, actor: User | None) -> None:
    """Give an organization another name; its slug stays, and so do its addresses."""
    before = organization.name
    organization.name = names.clean(name, field="name", length_max=200)
    organization.save(update_fields=["name"])
    audit.record(
        "organization.renamed",
        subject=organization.slug,
        organization=organization,
        actor=actor,
        detail={"before": before, "after": organization.name},
    )


@transaction.atomic
def update_billing_details(
    *, organization: Organization, actor: User | None, **details: Unpack[BillingDetails]
) -> None:
    """Set what the next invoices say about the buyer. Issued ones keep what they say."""
    changed: dict[str, object] = {}
    for field, text in details.items():
        value = _detail(field, str(text))
        if value != getattr(organization, field):
            changed[field] = {"before": getattr(organization, field), "after": value}
            setattr(organization, field, value)
    if not changed:
        return
    organization.save(update_fields=list(changed))
    audit.record(
        "organization.billing_details_changed",
        subject=organization.slug,
        organization=organization,
        actor=actor,
        detail=changed,
    )


def suspend(*, organization: Organization, reason: str, actor: User | None) -> bool:
    """Stop taking usage and API calls. False: it was suspended already."""
    return _move(organization, Organization.State.SUSPENDED, "suspended", reason, actor)


def activate(*, organization: Organization, reason: str, actor: User | None) -> bool:
    """Take usage and API calls again. False: it was active already."""
    return _move(organization, Organization.State.ACTIVE, "activated", reason, actor)


@cache
def currencies() -> dict[str, str]:
    """The ISO 4217 currencies in circulation, and their English names."""
    named = Locale("en").currencies
    ever = (entry for entries in get_global("territory_currencies").values() for entry in entries)
    today = {code for code, _, ends, is_tender in ever if ends is None and is_tender}
    return {code: named[code] for code in sorted(today)}


@cache
def zones() -> frozenset[str]:
    """The IANA time zones known here."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


@cache
def countries() -> dict[str, str]:
    """The ISO 3166-1 alpha-2 countries, and their English names."""
    territories = Locale("en").territories
    used = get_global("territory_currencies")
    return {code: name for code, name in territories.items() if len(code) == 2 and code in used}


def _insert(name: str, currency: str, zone: str, now: datetime) -> Organization:
    for slug in names.slugs(name, otherwise="org"):
        if Organization.objects.filter(slug=slug).exists():
            continue
        try:
            with transaction.atomic():
                return Organization.objects.create(
                    slug=slug, name=name, currency=currency, zone=zone, created_at=now
                )
        except IntegrityError as error:
            if "slug" not in str(error):
                raise
    raise AssertionError("slugs never run out")


def _currency(code: str) -> str:
    if code not in currencies():
        raise Refusal("currency", f"{code!r} is no ISO 4217 currency code; write one such as USD.")
    return code


def _zone(zone: str) -> str:
    if zone not in zones():
        raise Refusal("zone", f"{zone!r} is no IANA time zone; write one such as Asia/Shanghai.")
    return zone


def _detail(field: str, text: str) -> str:
    length_max = LENGTHS_MAX[field]
    value = names.clean(text, field=field, length_max=length_max, required=False)
    if field == "country":
        value = value.upper()
        if value and value not in countries():
            raise Refusal(field, f"{value!r} is no ISO 3166 country code; write one such as DE.")
    if field == "billing_email" and value:
        try:
            validate_email(value)
        except ValidationError:
            raise Refusal(field, "This is not an e-mail address.") from None
    return value


@transaction.atomic
def _move(
    organization: Organization, state: str, done: str, reason: str, actor: User | None
) -> bool:
    reason = names.clean(reason, field="reason", length_max=500)
    others = Organization.objects.filter(pk=organization.pk).exclude(state=state)
    if others.update(state=state) == 0:
        return False
    organization.state = state
    audit.record(
        f"organization.{done}",
        subject=organization.slug,
        organization=organization,
        actor=actor,
        detail={"reason": reason},
    )
    return True
