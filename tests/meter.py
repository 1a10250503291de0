"""Usage for tests: events as a sender writes them, a way through the door, an empty meter."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.models import ApiKey, Organization
from metering import names, reaggregation, reverting, rollup, segments, store
from metering.ingest import app, doorbell, pool
from metering.ingest import door as the_door
from metering.segments import Columns
from metering.store import Incoming, Stored
from metering.usage.event import UsageEvent, read
from metering.usage.identity import packed
from tests import build


def make_body(*, occurred_at: str = "2026-11-18T10:07:30Z", **fields: Any) -> dict[str, Any]:
    """An event as it is sent; a field set to ... is left out."""
    body = {
        "id": "evt-1",
        "source": "gateway-1",
        "occurred_at": occurred_at,
        "model": "deepseek-v4",
        "usage": {"input": 1200, "output": 80},
    }
    return {name: value for name, value in {**body, **fields}.items() if value is not ...}


def make_event(*, now: datetime, **fields: Any) -> UsageEvent:
    return read(make_body(**fields), now=now)


def store_events(
    connection: psycopg.Connection[Any],
    organization: Organization,
    events: list[UsageEvent],
    *,
    api_key_id: int = 1,
    rejected: int = 0,
    atomic: bool = False,
) -> Stored:
    """Store events under the organization's default project."""
    project_id = organization.projects.get(slug="default").pk
    incoming = [Incoming(ordinal, event, project_id) for ordinal, event in enumerate(events)]
    return store.store(
        connection, organization.pk, api_key_id, incoming, rejected=rejected, atomic=atomic
    )


def plant_event(
    cursor: Any,
    organization_id: int,
    batch_id: int,
    received_at: datetime,
    *,
    event_id: str,
    project_id: int,
    model: str,
    agent: str,
    usage: dict[str, int],
) -> None:
    """One event in the tables, past the door; its batch is the caller's."""
    own = cursor.connection  # psycopg's, beneath Django's
    source = names.source_ids(own, organization_id, ["test"])["test"]
    attribution = (project_id, model, "", agent, "", "")
    numbers = names.attribution_ids(own, organization_id, [attribution])
    cursor.execute(
        "INSERT INTO metering_identity VALUES (%s, %s, %s, 0, %s)",
        [organization_id, batch_id, source, packed(event_id)],
    )
    columns = Columns([0], [received_at.isoformat()], [numbers[attribution]], [None], [usage])
    segments.write(own, organization_id, batch_id, received_at, columns)


@pytest.fixture(autouse=True)
def no_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door rings for nobody; for every test of a module that imports this."""
    monkeypatch.setattr(doorbell, "ring", lambda: None)


@pytest.fixture
def key(empty_meter: None, acme: Organization) -> tuple[ApiKey, str]:
    """A key of Acme that may send and read: its row and its text."""
    return build.make_key(organization=acme)


@pytest.fixture
def door(key: tuple[ApiKey, str]) -> Door:
    """The ingestion door, for whoever holds that key."""
    return Door(key[1])


class Door:
    """Sends requests to the ingestion door as a WSGI server would."""

    def __init__(self, key: str) -> None:
        self.key = key

    def post(
        self,
        body: Any,
        *,
        query: str = "",
        media_type: str = "application/json",
        **environ: Any,
    ) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call({
            "REQUEST_METHOD": "POST",
            "PATH_INFO": the_door.EVENTS_PATH,
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(data)),
            "CONTENT_TYPE": media_type,
            "HTTP_AUTHORIZATION": f"Bearer {self.key}",
            "wsgi.input": io.BytesIO(data),
            **environ,
        })  # fmt: skip

    def call(self, environ: dict[str, Any]) -> Reply:
        reply = Reply()
        reply.body = b"".join(app.application(environ, reply.start))
        return reply


class Reply:
    """What came back."""

    body = b""
    status = 0
    headers: dict[str, str]

    def start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status, self.headers = int(status[:3]), dict(headers)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """What each event was told: its code, or else its status."""
        return [event.get("code", event["status"]) for event in self.json["events"]]


TABLES = (
    "metering_reading, metering_readinghour, metering_ratingkey, metering_segment,"
    " metering_identity, metering_attribution, metering_source, metering_ingestbatch,"
    " metering_rejection, metering_void, metering_backfill, metering_reach, metering_quarantineday,"
    " metering_reaggregation, metering_closedperiod,"
    " metering_tallyblock, metering_minute, metering_minuteneed"
)


@pytest.fixture
def empty_meter(transactional_db: None) -> Iterator[None]:
    """Django flushes only tables it manages; the meter's are emptied here, and the pool closed."""
    empty()
    yield
    pool.close()
    empty()


def empty() -> None:
    """As after the migrations; of the limits of input the first set stays."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT limits, reason FROM metering_inputlimits WHERE version = 1")
        first = cursor.fetchone()
        cursor.execute(f"TRUNCATE {TABLES}, metering_inputlimits")
        cursor.execute("INSERT INTO metering_inputlimits VALUES (1, %s, DEFAULT, %s)", first)
    the_door.callers.forget()
    the_door.allowances.forget()
    names.forget()


@pytest.fixture
def database(empty_meter: None) -> Iterator[psycopg.Connection[Any]]:
    """A connection of one's own, as the ingestion door has it."""
    with psycopg.connect(pool.conninfo(), autocommit=True) as own:
        yield own


def connect() -> psycopg.Connection[Any]:
    """One more connection."""
    return psycopg.connect(pool.conninfo(), autocommit=True)


def apply_all() -> None:
    """Run the roll-up until nothing is open."""
    while rollup.apply_pending() or reverting.apply_reverts() or reaggregation.step():
        pass


def readings_of(organization: Organization) -> list[tuple[Any, ...]]:
    """Every reading with its key, in one order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.starts_at, k.project_id, k.model, k.api_key, k.agent, k.region,"
            " k.service_class, k.input_band, k.thinking, k.attributes, r.register, r.quantity"
            " FROM metering_reading r"
            " JOIN metering_ratingkey k ON (k.organization_id, k.id)"
            " = (r.organization_id, r.rating_key_id)"
            " WHERE r.organization_id = %s ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
            [organization.pk],
        )
        return cursor.fetchall()
