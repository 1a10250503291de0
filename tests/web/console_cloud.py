"""The console of a cloud with one customer: who works in it, and what there is to see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys, memberships, organizations, people, projects
from accounts.models import Organization, Role, User
from billing import allowance, invoicing, negotiations, proposals, upstream
from billing.feeds.listing import Listed, Listing
from billing.models import Subscription
from billing.rating.period import Period
from tests import build
from tests.meter import plant_event

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
CANARY = "canary-of-acme"


@pytest.fixture(autouse=True)
def _at_the_moment(now: datetime) -> Iterator[None]:
    with time_machine.travel(now, tick=False):
        yield


@pytest.fixture
def root(db: None) -> User:
    return people.create_verified("root@cloud.example", "correct horse battery", staff=True)


@pytest.fixture
def clerk(db: None) -> User:
    """Staff without superuser: may look."""
    user = build.make_user(email="clerk@cloud.example")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


@pytest.fixture
def operator(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def cloud(acme: Organization, alice: User, root: User, now: datetime) -> Subscription:
    """Acme on a tariff since September, with rows of every kind; October is due."""
    organizations.update_billing_details(organization=acme, actor=alice, billing_name=CANARY)
    project = projects.create(organization=acme, name=CANARY, actor=alice)
    api_keys.issue(organization=acme, name=CANARY, scopes=["read"], project=project, actor=alice)
    memberships.invite(
        organization=acme, email="dora@acme.example", role=Role.VIEWER, invited_by=alice, now=now
    )
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER)
    for day in (SEPTEMBER + timedelta(days=3), OCTOBER + timedelta(days=3)):
        build.make_reading(organization=acme, starts_at=day, quantity=2_500_000, model=CANARY)
    allowance.set_quota(acme, 1_000_000, project=project, actor=alice)
    negotiations.agree(subscription, {}, OCTOBER, now, reference=CANARY)
    proposals.propose(
        subscription, {"discounts": [{"code": "d", "percent": "95"}]}, OCTOBER, "continue",
        reason=CANARY, source=CANARY, actor=root, now=now,
    )  # fmt: skip
    cost = Listed("up", CANARY, "input", Decimal(1))
    listing = Listing("list", "1", "d" * 64, (cost,), (), ())
    made = upstream.propose(listing, actor=root, now=now)
    upstream.approve([made.proposals.get().pk], actor=root, now=now)
    september = invoicing.draft(subscription, Period(SEPTEMBER, OCTOBER))
    invoicing.issue(september, now)
    Subscription.objects.filter(pk=subscription.pk).update(next_close_at=NOVEMBER)
    make_batch(acme, 1, "applied")
    return subscription


def make_batch(organization: Organization, number: int, state: str, received_at=None) -> None:
    """A batch with one event, as ingestion and the roll-up leave it."""
    received_at = received_at or timezone.now()
    project = organization.projects.first()
    assert project
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO metering_ingestbatch (organization_id, id, received_at, api_key_id,"
            " submitted, accepted, duplicate, conflict, rejected, state, attempts, last_error,"
            " applied_at, occurred_first, occurred_last)"
            " VALUES (%s, %s, %s, 1, 4, 1, 1, 1, 1, %s, 5, %s, %s, %s, %s)",
            [
                *(organization.pk, number, received_at, state),
                *("boom" if state == "failed" else "", received_at if state == "applied" else None),
                *(received_at, received_at),
            ],
        )
        plant_event(
            cursor, organization.pk, number, received_at, event_id=f"evt-{number}",
            project_id=project.pk, model=CANARY, agent="planner", usage={"input": 77123},
        )  # fmt: skip


def text(response) -> str:
    return response.content.decode()


def errors(response) -> str:
    """The words of the page's own part, so that a failed test says what the page says."""
    page = text(response).partition('id="content"')[2]
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def managed(*inlines: str) -> dict[str, object]:
    """What a browser sends along for the inlines of a page."""
    return {f"{name}-{end}": 0 for name in inlines for end in ("TOTAL_FORMS", "INITIAL_FORMS")}


MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
IDS = [model._meta.label for model in MODELS]


def url(model, page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)
