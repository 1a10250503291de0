"""Readings in the console: sizes that prices bring with them, and readings that are summed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client

from accounts import people
from accounts.models import AuditEntry, Organization, User
from metering import readings, reaggregation
from tests import build
from tests.pure.tariffs import component, tiers

PIPELINE = "/console/pipeline/"


@pytest.fixture(autouse=True)
def _at_the_moment(now: datetime) -> Iterator[None]:
    with time_machine.travel(now, tick=False):
        yield


@pytest.fixture
def root(db: None) -> User:
    return people.create_verified("ann@cloud.example", "correct horse", staff=True)


@pytest.fixture
def operator(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def test_the_form_says_which_sizes_readings_will_learn(
    operator: Client, acme: Organization
) -> None:
    tariff = build.make_tariff()
    build.make_subscription(
        organization=acme, starts_at=datetime(2026, 11, 1, tzinfo=UTC), tariff=tariff
    )
    sizes = component("all", registers=["input"], tiers=tiers((0, "1.00"), (140_000, "2")))
    values = {
        "document": json.dumps({"currency": "USD", "components": [sizes]}),
        "how": "continue",
        "valid_from_0": "2026-11-01",
        "valid_from_1": "00:00:00",
    }
    page = operator.post(f"/console/tariffs/{tariff.pk}/publish/", values).content.decode()
    assert "Readings will tell requests apart at an input of 140,000 tokens as well." in page
    assert "Usage since 2026-11-01 00:00 UTC" in page
    assert 140_000 not in readings.input_limits()


def test_readings_summed_anew_are_shown_and_taken_up_again(
    operator: Client, acme: Organization, root: User, now: datetime
) -> None:
    assert "Readings summed anew" not in operator.get(PIPELINE).content.decode()
    readings.tell_apart([140_000], {acme.pk: now - timedelta(days=3)}, reason="a test")
    page = operator.get(PIPELINE).content.decode()
    assert "Readings summed anew" in page
    assert "2026-11-15 10:07" in page
    (task,) = reaggregation.progress()
    address = f"/console/pipeline/{acme.pk}/anew/{task.id}/retry/"
    assert address not in page
    assert operator.post(address).status_code == 422
    with connection.cursor() as cursor:
        cursor.execute("UPDATE metering_reaggregation SET attempts = 5, last_error = 'boom'")
    page = operator.get(PIPELINE).content.decode()
    assert "boom" in page
    assert address in page
    assert operator.get(address).status_code == 200
    assert operator.post(address).status_code == 302
    (task,) = reaggregation.progress()
    assert task.attempts == 0
    assert AuditEntry.objects.filter(action="readings.retried", actor=root).count() == 1
