"""One organization with a key for all tests of a module: thousands of requests need no new one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.models import ApiKey, Organization, Project
from metering.ingest import doorbell, pool
from metering.ingest.callers import Caller
from tests import build, meter
from tests.conftest import NOW
from tests.meter import Door


@dataclass(frozen=True)
class Standing:
    """A door, its key's organization, and a look at what was stored."""

    door: Door
    organization: Organization
    connection: psycopg.Connection[Any]
    reader: str  # keys that may not send
    revoked: str
    expired: str

    def stored(self, batch_id: int | None) -> set[str]:
        """The ids of the events of a batch."""
        return self._column(
            "SELECT event_id FROM metering_eventkey WHERE organization_id = %s AND batch_id = %s",
            batch_id,
        )

    def known(self, source: str) -> set[str]:
        """The ids stored under a source."""
        return self._column(
            "SELECT event_id FROM metering_eventkey WHERE organization_id = %s AND source = %s",
            source,
        )

    def kept(self, batch_id: int | None) -> list[tuple[str, str]]:
        """Code and pointer of what is in quarantine of a batch."""
        rows = self.connection.execute(
            "SELECT code, pointer FROM metering_rejection"
            " WHERE organization_id = %s AND batch_id = %s ORDER BY id",
            [self.organization.pk, batch_id],
        )
        return rows.fetchall()

    def _column(self, query: str, value: object) -> set[str]:
        rows = self.connection.execute(query, [self.organization.pk, value])
        return {row[0] for row in rows}


@pytest.fixture(scope="module")
def standing(django_db_setup: None, django_db_blocker: Any) -> Iterator[Standing]:
    """Acme with an archived project, Globex with a project of its own, and the clock at NOW."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        meter.empty()
        patch.setattr(doorbell, "ring", lambda: None)
        patch.setattr(Caller, "now", lambda _: NOW)
        acme = build.make_organization(name="Acme", slug="acme")
        globex = build.make_organization(name="Globex", slug="globex")
        build.make_project(organization=acme, slug="archived")
        Project.objects.filter(slug="archived").update(archived_at=timezone.now())
        build.make_project(organization=globex, slug="theirs")
        _, key = build.make_key(organization=acme)
        _, reader = build.make_key(organization=acme, scopes=("read",))
        yesterday = timezone.now() - timedelta(days=1)
        gone, revoked = build.make_key(organization=acme)
        over, expired = build.make_key(organization=acme)
        ApiKey.objects.filter(pk=gone.pk).update(revoked_at=yesterday)
        ApiKey.objects.filter(pk=over.pk).update(
            created_at=yesterday - timedelta(days=1), expires_at=yesterday
        )
        with psycopg.connect(pool.conninfo(), autocommit=True) as own:
            yield Standing(Door(key), acme, own, reader, revoked, expired)
        pool.close()
        meter.empty()
        call_command("flush", interactive=False, verbosity=0)
