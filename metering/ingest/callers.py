"""Who signs a request: the key, its organization and the projects it may report for.

What was read is believed for two seconds, so a revoked key is refused, and a suspended organization
stopped, within that time in every process. With it comes the database's clock, by which the door
tells whether an event lies in the future.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from django.conf import settings
from psycopg import Connection

from accounts import keys
from accounts.problems import Problem
from metering.ingest.decode import Refusal
from metering.ingest.limits import UNLIMITED, Allowed
from metering.ingest.plain import Labels
from metering.ingest.pool import connected

BELIEVED_S = 2.0
MARGIN_S = 0.1  # so that what is remembered is still believed when it is asked for
REMEMBERED_MAX = 10_000
USED_EVERY = timedelta(minutes=1)
DEFAULT_PROJECT = "default"

FIND = """
    SELECT k.id, k.digest, k.scopes, k.organization_id, o.state, p.slug, clock_timestamp(),
           k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - %s,
           k.events_per_s_max, k.bytes_per_s_max,
           (SELECT max(ends_at) FROM metering_closedperiod c
            WHERE c.organization_id = k.organization_id)
    FROM accounts_apikey k
    JOIN accounts_organization o ON o.id = k.organization_id
    LEFT JOIN accounts_project p ON p.id = k.project_id
    WHERE k.prefix = %s AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
"""
PROJECTS = """
    SELECT slug, id FROM accounts_project
    WHERE organization_id = %s AND archived_at IS NULL AND slug = ANY(%s)
"""
USED = """
    UPDATE accounts_apikey SET last_used_at = clock_timestamp() WHERE id = (
        SELECT id FROM accounts_apikey
        WHERE id = %s AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - %s)
        FOR NO KEY UPDATE SKIP LOCKED)
"""

Numbers = tuple[int, int]  # of a source, and of an attribution

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Caller:
    """A live key, and what was known of its organization when it was looked up."""

    api_key_id: int
    digest: bytes
    scopes: tuple[str, ...]
    organization_id: int
    active: bool
    own_project: str | None  # a key made for one project reports for no other
    database_time: datetime
    looked_up_at: float
    use_is_news: bool
    closed_until: datetime | None = None  # usage from then on is of no closed period
    allowed: Allowed = UNLIMITED
    projects: dict[str, int] = field(default_factory=dict)
    numbers: dict[Labels, Numbers] = field(default_factory=dict)  # of committed names

    def now(self) -> datetime:
        """The database's clock, carried on by ours."""
        return self.database_time + timedelta(seconds=time.monotonic() - self.looked_up_at)

    def learn_projects(self, connection: Connection[Any], slugs: Iterable[str | None]) -> None:
        """Look up those that are not known; one look for all of them."""
        unknown = [name for name in map(self.project_of, slugs) if name not in self.projects]
        if unknown:
            found = connection.execute(PROJECTS, [self.organization_id, unknown])
            self.projects.update(found.fetchall())

    def project_of(self, slug: str | None) -> str:
        """The project an event belongs to, by name."""
        return slug or self.own_project or DEFAULT_PROJECT

    def project_id(self, slug: str | None) -> int | None:
        """The project's row, or None where this caller may not report for it."""
        name = self.project_of(slug)
        if self.own_project is not None and name != self.own_project:
            return None
        return self.projects.get(name)

    def note_use(self, connection: Connection[Any]) -> None:
        """Write down that the key was used, at most once a minute; never fail a request for it."""
        if not self.use_is_news:
            return
        self.use_is_news = False
        try:
            connection.execute(USED, [self.api_key_id, USED_EVERY])
        except psycopg.Error as error:
            logger.warning("the use of a key was not noted: %s", error)


class Callers:
    """The callers of this process, remembered for a moment."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Caller | None]] = {}
        self._lock = threading.Lock()

    def find(self, text: str, *, renew: bool = False) -> Caller | None:
        """The live caller whose key this is. Unknown, revoked and expired look the same.

        With `renew` the database is asked for whom `remembers` does not know any more.
        """
        prefix = keys.prefix_of(text)
        if prefix is None:
            return None
        caller = self._lookup(prefix, BELIEVED_S - MARGIN_S if renew else BELIEVED_S)
        stored = caller.digest if caller else bytes(32)
        good = hmac.compare_digest(keys.digest(text, settings.KEY_PEPPER), stored)
        return caller if good else None

    def remembers(self, text: str) -> bool:
        """Whether `find` answers without asking the database."""
        prefix = keys.prefix_of(text)
        entry = self._known.get(prefix) if prefix else None
        return prefix is None or (
            entry is not None and time.monotonic() - entry[0] <= BELIEVED_S - MARGIN_S
        )

    def _lookup(self, prefix: str, believed_s: float) -> Caller | None:
        """From memory, or else from the database."""
        asked_at = time.monotonic()
        entry = self._known.get(prefix)
        if entry is not None and asked_at - entry[0] <= believed_s:
            return entry[1]
        with connected() as connection:
            row = connection.execute(FIND, [USED_EVERY, prefix]).fetchone()
        caller = _caller(row, asked_at) if row else None
        with self._lock:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[prefix] = (asked_at, caller)
        return caller

    def forget(self) -> None:
        """Believe nothing any more."""
        with self._lock:
            self._known.clear()


def _caller(row: Any, asked_at: float) -> Caller:
    key_id, digest, scopes, organization_id, state, project, database_time, use_is_news = row[:8]
    events_per_s, bytes_per_s, closed_until = row[8:]
    return Caller(
        api_key_id=key_id,
        digest=bytes(digest),
        scopes=tuple(scopes),
        organization_id=organization_id,
        active=state == "active",
        own_project=project,
        database_time=database_time,
        looked_up_at=asked_at,
        use_is_news=use_is_news,
        closed_until=closed_until,
        allowed=Allowed(
            events_per_s or settings.INGEST_EVENTS_PER_S or None,
            bytes_per_s or settings.INGEST_BYTES_PER_S or None,
        ),
    )


def may_report(caller: Caller | None) -> Caller:
    """The caller, if it may send usage; else the refusal. A suspended organization still may."""
    if caller is None:
        raise Refusal(Problem("invalid_api_key", "No valid API key reads like the one sent."))
    if "ingest" not in caller.scopes:
        raise Refusal(Problem("scope_missing", "This needs an API key with the scope 'ingest'."))
    return caller
