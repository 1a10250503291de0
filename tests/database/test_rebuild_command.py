"""Readings made anew by hand, as after an upgrade that tells more apart."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import Organization
from tests.meter import apply_all, database, empty_meter, make_event, readings_of, store_events

__all__ = ["database", "empty_meter"]


def test_readings_from_before_bands_were_told_apart_learn_of_them(
    database: psycopg.Connection[Any], acme: Organization, now: datetime
) -> None:
    """As the migration leaves them: every key in the lowest band, whatever its requests were."""
    large = make_event(now=now, id="large", usage={"input": 300_000, "reasoning": 5})
    store_events(database, acme, [make_event(now=now), large])
    apply_all()
    wanted = readings_of(acme)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM metering_reading WHERE quantity IN (5, 300000)")
        cursor.execute("UPDATE metering_reading SET quantity = 301200 WHERE quantity = 1200")
    assert readings_of(acme) != wanted
    call_command("rebuild_readings", "--organization", acme.slug)
    assert readings_of(acme) == wanted
    call_command("rebuild_readings", "--all")
    assert readings_of(acme) == wanted


@pytest.mark.parametrize("arguments", [[], ["--all", "--organization", "acme"]])
def test_it_must_be_said_whose(db: None, arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="--all"):
        call_command("rebuild_readings", *arguments)
