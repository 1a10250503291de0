"""The demo of the first start: three organizations, five weeks of usage, an invoice each.

Everything is found again by its name and every event has a fixed id, so that an interrupted demo
goes on where it was. It is made of the same steps that an operator takes, and its usage enters by
the ingestion API.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction

from accounts import api_keys, audit, organizations, people, projects
from accounts.models import ApiKey, AuditEntry, Member, Organization, Role, User
from accounts.organizations import BillingDetails
from billing import allowance, invoicing, subscriptions
from billing.models import Invoice, Tariff
from billing.rating.period import calendar_month, local_day
from console.simulating import Simulation
from metering import readings
from metering.usage.event import AGE_MAX
from workloads.shape import Mix

SEED = 2026
# Events may be 35 days old when they arrive; this much is left for making the demo.
MARGIN = timedelta(hours=2)
COMPLETED = "demo.completed"
STAFF_EMAIL = "operator@kilotoken.example"


@dataclass(frozen=True, slots=True)
class Person:
    """Who signs in, and as what."""

    email: str
    role: Role
    name: str


@dataclass(frozen=True, slots=True)
class Cast:
    """One organization of the demo, its people, and what its machines do."""

    name: str
    currency: str
    zone: str
    tariff: str
    people: tuple[Person, ...]
    projects: tuple[str, ...]
    details: BillingDetails
    mix: Mix
    quota_percent: int  # how far its quota is to be used up by now


CAST = (
    Cast(
        name="Northwind Robotics",
        currency="USD",
        zone="America/New_York",
        tariff="standard-usd",
        people=(
            Person("dana@northwind.example", Role.OWNER, "Dana Whitfield"),
            Person("ravi@northwind.example", Role.DEVELOPER, "Ravi Menon"),
            Person("june@northwind.example", Role.BILLING, "June Castillo"),
        ),
        projects=("Warehouse Vision", "Fleet Copilot"),
        details={
            "billing_name": "Northwind Robotics Inc.",
            "billing_email": "ap@northwind.example",
            "address_line1": "410 Harbor Street",
            "postal_code": "02210",
            "city": "Boston",
            "country": "US",
        },
        mix=Mix(
            models=("gpt-5", "claude-sonnet-4-5", "llama-3.1-70b"),
            reasoning_models=("deepseek-v4-pro",),
            regions=("us-east-1", "us-west-2"),
            zones=("America/New_York", "America/New_York", "America/Los_Angeles"),
            clients=40,
            requests_per_day=800,
        ),
        quota_percent=85,
    ),
    Cast(
        name="Helios Analytics GmbH",
        currency="EUR",
        zone="Europe/Berlin",
        tariff="standard-eur",
        people=(
            Person("klara@helios.example", Role.OWNER, "Klara Lindqvist"),
            Person("tom@helios.example", Role.ADMIN, "Tom Brandt"),
            Person("ines@helios.example", Role.VIEWER, "Inês Duarte"),
        ),
        projects=("Forecasting", "Report Writer"),
        details={
            "billing_name": "Helios Analytics GmbH",
            "billing_email": "rechnung@helios.example",
            "address_line1": "Lindenallee 12",
            "postal_code": "10115",
            "city": "Berlin",
            "country": "DE",
            "tax_id": "DE000000000",
        },
        mix=Mix(
            models=("qwen-max", "qwen-plus", "kimi-k2"),
            reasoning_models=("deepseek-r1",),
            regions=("eu-central-1", "eu-west-1"),
            zones=("Europe/Berlin", "Europe/Berlin", "Europe/London"),
            clients=30,
            requests_per_day=500,
        ),
        quota_percent=42,
    ),
    Cast(
        name="云岚科技 Yunlan",
        currency="CNY",
        zone="Asia/Shanghai",
        tariff="standard-cny",
        people=(
            Person("lin@yunlan.example", Role.OWNER, "林晓"),
            Person("zhao@yunlan.example", Role.DEVELOPER, "赵一鸣"),
        ),
        projects=("Customer Service 客服", "Agents 智能体"),
        details={
            "billing_name": "云岚科技有限公司",
            "billing_email": "finance@yunlan.example",
            "address_line1": "云栖路 8 号",
            "postal_code": "310000",
            "city": "杭州",
            "country": "CN",
        },
        mix=Mix(
            models=("qwen-plus", "qwen-max", "qwen-turbo", "deepseek-v4-pro"),
            reasoning_models=("deepseek-r1",),
            regions=("cn-hangzhou", "cn-beijing"),
            zones=("Asia/Shanghai", "Asia/Shanghai", "Asia/Singapore"),
            clients=35,
            requests_per_day=600,
        ),
        quota_percent=61,
    ),
)


@dataclass(frozen=True, slots=True)
class SignIn:
    """One line a person can sign in with."""

    email: str
    password: str
    what: str


def password() -> str:
    """The demo's password, drawn once per installation and kept beside its other secrets."""
    path = settings.HOME / "secrets" / "demo_password"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(path, "-".join(secrets.token_hex(2) for _ in range(4)) + "\n")
    text: str = path.read_text()
    return text.strip()


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def sign_ins() -> list[SignIn]:
    """Everybody who can sign in, the operator first."""
    word = password()
    found = [SignIn(STAFF_EMAIL, word, "operator: the console at /console/")]
    for cast in CAST:
        found += [SignIn(one.email, word, f"{one.role} of {cast.name}") for one in cast.people]
    return found


def make_cast(now: datetime) -> list[tuple[Cast, Organization]]:
    """Make who is not there yet: people, organizations, projects, keys, billing details."""
    _person(STAFF_EMAIL, "Operator", staff=True)
    return [(cast, _organization(cast, now)) for cast in CAST]


def _person(email: str, name: str, *, staff: bool = False) -> User:
    user = User.objects.filter(email=email).first()
    if user is None:
        user = people.create_verified(email, password(), staff=staff)
        first, _, last = name.partition(" ")
        User.objects.filter(pk=user.pk).update(first_name=first, last_name=last)
    elif not user.check_password(password()):  # the installation has a new home
        user.set_password(password())
        user.save(update_fields=["password"])
    return user


@transaction.atomic
def _organization(cast: Cast, now: datetime) -> Organization:
    members = [(_person(one.email, one.name), one.role) for one in cast.people]
    owner, _ = members[0]
    found = Organization.objects.filter(name=cast.name, members__user=owner).first()
    if found is not None:
        return found
    made = organizations.create(
        name=cast.name, currency=cast.currency, zone=cast.zone, owner=owner, now=now
    )
    for user, role in members[1:]:
        Member.objects.create(organization=made, user=user, role=role)
    for name in cast.projects:
        project = projects.create(organization=made, name=name, actor=owner)
        api_keys.issue(
            organization=made,
            name=f"{name}, gateway",
            scopes=[ApiKey.Scope.INGEST],
            project=project,
            actor=owner,
        )
    api_keys.issue(organization=made, name="Reporting", scopes=[ApiKey.Scope.READ], actor=owner)
    organizations.update_billing_details(organization=made, actor=owner, **cast.details)
    return made


def simulation(cast: Cast, organization: Organization) -> Simulation:
    """The usage of an organization of the demo: the five weeks before it was made."""
    end = organization.created_at.replace(second=0, microsecond=0)
    slugs = organization.projects.order_by("pk").values_list("slug", flat=True)
    mix = Mix(
        models=cast.mix.models,
        reasoning_models=cast.mix.reasoning_models,
        projects=tuple(slugs),
        regions=cast.mix.regions,
        zones=cast.mix.zones,
        clients=cast.mix.clients,
        requests_per_day=cast.mix.requests_per_day,
    )
    return Simulation(organization, mix, SEED, end - AGE_MAX + MARGIN, end)


def is_complete(organization: Organization) -> bool:
    """Whether an earlier run got to the end with this organization."""
    return AuditEntry.objects.filter(organization=organization, action=COMPLETED).exists()


@transaction.atomic
def complete(cast: Cast, organization: Organization, now: datetime) -> list[Invoice]:
    """Bill what is in the readings and set the quota.

    The subscription begins before the usage but is made after it: its first period has ended,
    and would otherwise be closed at once, and empty.
    """
    if not organization.subscriptions.exists():
        first = simulation(cast, organization).start
        subscriptions.subscribe(
            organization,
            Tariff.objects.get(code=cast.tariff),
            local_day(ZoneInfo(cast.zone), first).start,
        )
    subscription = organization.subscriptions.get()
    issued = invoicing.close_period(subscription.pk, now)
    _set_quota(cast, organization, now)
    audit.record(COMPLETED, subject=organization.slug, organization=organization, actor=None)
    return issued


def _set_quota(cast: Cast, organization: Organization, now: datetime) -> None:
    month = calendar_month(ZoneInfo(cast.zone), now)
    used = readings.tokens_in(organization.pk, month.start, now)
    tokens = max(used * 100 // cast.quota_percent, 1_000_000)
    coarse = 10 ** max(len(str(tokens)) - 3, 0)  # people choose round numbers
    owner = organization.members.select_related("user").get(role=Role.OWNER).user
    allowance.set_quota(organization, tokens // coarse * coarse, actor=owner)


def invoices(organization: Organization) -> Iterator[Invoice]:
    """What was issued to an organization of the demo, oldest first."""
    yield from organization.invoices.filter(status=Invoice.Status.ISSUED).order_by("period_end")
