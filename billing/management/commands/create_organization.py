"""Make an organization that can send usage and is billed for it; JSON on stdout."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from accounts import api_keys, names, organizations, projects
from accounts.models import ApiKey, Organization, Project, User
from accounts.refusals import Refusal
from billing import catalog, subscriptions
from billing.models import Subscription, Tariff
from billing.rating.period import calendar_month

SCOPES = [ApiKey.Scope.INGEST, ApiKey.Scope.READ]


class Command(BaseCommand):
    help = "Make an organization on a tariff, and if asked a project, an owner and an API key."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--currency", default="USD", help="ISO 4217 code")
        parser.add_argument("--zone", default="UTC", help="IANA time zone: days and months")
        parser.add_argument("--tariff", help="a tariff's code; standard-<currency> if left out")
        parser.add_argument("--project", help="a project to make; the key is bound to it")
        parser.add_argument("--owner-email", help="who owns it; made without password if new")
        parser.add_argument("--with-key", action="store_true", help="make a key, print its secret")
        parser.add_argument(
            "--starts-at",
            help="when billing starts, as 2026-11-01 (local midnight) or an instant with offset; "
            "the first of this month if left out",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            made = _make(options, timezone.now())
        except Refusal as refusal:
            field = f"{refusal.field}: " if refusal.field else ""
            raise CommandError(f"{field}{refusal.sentence}") from refusal
        except subscriptions.SubscriptionRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(json.dumps(made, ensure_ascii=False))


@transaction.atomic
def _make(options: dict[str, Any], now: datetime) -> dict[str, object]:
    _refuse_existing(options["name"])
    catalog.ensure_presets(now)
    tariff = _tariff(options["tariff"] or f"standard-{options['currency'].lower()}")
    organization = organizations.create(
        name=options["name"],
        currency=options["currency"],
        zone=options["zone"],
        owner=_owner(options["owner_email"]),
        now=now,
    )
    starts_at = _starts_at(options["starts_at"], ZoneInfo(organization.zone), now)
    subscription = subscriptions.subscribe(organization, tariff, starts_at)
    project = _project(organization, options["project"])
    key = _key(organization, project) if options["with_key"] else None
    return _answer(organization, subscription, project, key)


def _refuse_existing(name: str) -> None:
    """The same name again is a mistake more often than a wish for a second organization."""
    slug = next(names.slugs(name, otherwise="org"))
    if Organization.objects.filter(slug=slug).exists():
        raise CommandError(
            f"There is an organization {slug} already. Choose another name, or use that one."
        )


def _tariff(code: str) -> Tariff:
    tariff = Tariff.objects.filter(code=code).first()
    if tariff is None:
        known = ", ".join(Tariff.objects.values_list("code", flat=True))
        raise CommandError(f"There is no tariff {code}. There are: {known}.")
    return tariff


def _owner(email: str | None) -> User | None:
    if not email:
        return None
    try:
        validate_email(email)
    except ValidationError:
        raise CommandError(f"{email} is not an e-mail address.") from None
    known = User.objects.filter(email=email.lower()).first()
    return known or User.objects.create_user(email)


def _starts_at(text: str | None, zone: ZoneInfo, now: datetime) -> datetime:
    if text is None:
        return calendar_month(zone, now).start
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--starts-at {text} is no date or instant; write 2026-11-01.") from None
    if moment.tzinfo is not None:
        return moment
    if len(text) > len("2026-11-01"):
        raise CommandError(f"--starts-at {text} has no offset; write {text}Z or a date alone.")
    return moment.replace(tzinfo=zone)


def _project(organization: Organization, name: str | None) -> Project:
    if name is None or name == organizations.DEFAULT_PROJECT_SLUG:
        return organization.projects.get(slug=organizations.DEFAULT_PROJECT_SLUG)
    return projects.create(organization=organization, name=name)


def _key(organization: Organization, project: Project) -> str:
    """A key of the default project speaks for every project; another one for its own alone."""
    bound = None if project.slug == organizations.DEFAULT_PROJECT_SLUG else project
    _, new = api_keys.issue(
        organization=organization, name="made on creation", scopes=SCOPES, project=bound
    )
    return new.text


def _answer(
    organization: Organization, subscription: Subscription, project: Project, key: str | None
) -> dict[str, object]:
    return {
        "organization": {
            "id": organization.pk,
            "slug": organization.slug,
            "name": organization.name,
            "currency": organization.currency,
            "zone": organization.zone,
            "tariff": subscription.tariff.code,
            "starts_at": subscription.starts_at.isoformat(),
        },
        "project": project.slug,
        "key": key,
    }
