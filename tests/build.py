"""Rows for tests: plain functions, keyword only, every value visible to the reader."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.db import connection

from accounts import keys, people
from accounts.models import ApiKey, Member, Organization, Project, Role, User
from billing import catalog, subscriptions
from billing.models import Subscription, Tariff


def make_user(*, email: str, password: str = "correct horse battery") -> User:
    """A person whose address is verified, as after sign-up."""
    return people.create_verified(email, password)


def make_organization(
    *,
    name: str,
    slug: str,
    owner: User | None = None,
    currency: str = "USD",
    zone: str = "UTC",
) -> Organization:
    organization = Organization.objects.create(name=name, slug=slug, currency=currency, zone=zone)
    make_project(organization=organization)
    if owner:
        make_member(organization=organization, user=owner, role=Role.OWNER)
    return organization


def make_member(*, organization: Organization, user: User, role: str) -> Member:
    return Member.objects.create(organization=organization, user=user, role=role)


def make_project(*, organization: Organization, slug: str = "default") -> Project:
    return Project.objects.create(organization=organization, slug=slug, name=slug.title())


def make_key(
    *,
    organization: Organization,
    scopes: tuple[str, ...] = ("ingest", "read"),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """The row and the key's text."""
    new = keys.make(settings.KEY_PEPPER)
    row = ApiKey.objects.create(
        organization=organization,
        name="test",
        prefix=new.prefix,
        digest=new.digest,
        scopes=list(scopes),
        expires_at=expires_at,
    )
    return row, new.text


def make_reading(
    *,
    organization: Organization,
    starts_at: datetime,
    quantity: int,
    model: str = "gpt-5",
    register: str = "input",
    region: str = "",
    service_class: str = "",
    api_key: str = "",
    project: Project | None = None,
) -> None:
    """Add a quantity to one quarter-hour, as the roll-up would."""
    project = project or organization.projects.get(slug="default")
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH made AS (
                INSERT INTO metering_ratingkey
                    (organization_id, project_id, model, api_key, agent, region, service_class)
                VALUES (%s, %s, %s, %s, '', %s, %s)
                ON CONFLICT ON CONSTRAINT rating_key_once
                    DO UPDATE SET model = excluded.model
                RETURNING id
            ), used (organization_id, starts_at, register, quantity) AS (
                VALUES (%s::bigint, %s::timestamptz, %s, %s::bigint)
            ), into_hours AS (
                INSERT INTO metering_readinghour AS reading
                SELECT organization_id, date_bin('1 hour', starts_at, '2000-01-01T00:00Z'),
                       made.id, register, quantity FROM used, made
                ON CONFLICT (organization_id, starts_at, rating_key_id, register)
                    DO UPDATE SET quantity = reading.quantity + excluded.quantity
            )
            INSERT INTO metering_reading AS reading
            SELECT organization_id, starts_at, made.id, register, quantity FROM used, made
            ON CONFLICT (organization_id, starts_at, rating_key_id, register)
                DO UPDATE SET quantity = reading.quantity + excluded.quantity
            """,
            [
                *(organization.pk, project.pk, model, api_key, region, service_class),
                *(organization.pk, starts_at, register, quantity),
            ],
        )


def flat_document(*, currency: str = "USD", price: str = "1.00") -> dict[str, object]:
    """One price for every token of every model, per million."""
    registers = ["input", "cache_read", "cache_write", "output", "reasoning"]
    component = {"code": "all", "models": ["*"], "registers": registers, "shape": "flat"}
    return {"currency": currency, "components": [{**component, "per": 1_000_000, "price": price}]}


def make_tariff(
    *,
    code: str = "flat",
    currency: str = "USD",
    document: dict[str, object] | None = None,
    valid_from: datetime = datetime(2025, 1, 1, tzinfo=UTC),
) -> Tariff:
    document = document or flat_document(currency=currency)
    return catalog.create_tariff(code, code.title(), currency, document, valid_from, valid_from)


def make_subscription(
    *,
    organization: Organization,
    starts_at: datetime,
    tariff: Tariff | None = None,
    anchor_day: int = 1,
    grace_hours: int = 0,
) -> Subscription:
    tariff = tariff or make_tariff(currency=organization.currency)
    return subscriptions.subscribe(
        organization, tariff, starts_at, anchor_day, grace_hours=grace_hours
    )
