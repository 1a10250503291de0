"""Backfills: usage of long ago, sent into a box that is then closed or taken back as a whole.

While a backfill is open its batches are held: stored and deduplicated, and in no reading. Closing
it releases all of them in one transaction; reverting it makes every event in it count nowhere, for
good, whether it was closed before or not. Both are safe to repeat, and a request that is just
sending events ends first: it holds the backfill's row until its own commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, When

from accounts import audit
from accounts.models import ApiKey, Organization, User
from metering.models import Backfill
from metering.usage.correction import CORRECTION_AGE_MAX
from metering.usage.event import text_fault

OPEN_MAX = 10  # at a time, per organization
OPEN_FOR = timedelta(days=7)  # then somebody has probably forgotten it
PAGE_MAX = 100
REASON_MAX = 200
CLOCKS_APART = timedelta(days=1)  # the end may be tonight's midnight, wherever that is


class BackfillRefused(Exception):
    """Nothing was changed; the code is one of accounts.problems, the message says why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Counts:
    """What was sent into a backfill and what became of it, in events."""

    submitted: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    by_state: Mapping[str, int] = field(default_factory=dict)  # accepted ones, by batch state
    voided: int = 0  # of those in applied batches: taken back one by one

    @property
    def not_taken(self) -> int:
        """How many have to be looked at."""
        return self.conflict + self.rejected

    @property
    def applied(self) -> int:
        """How many are in the readings now."""
        in_batches = self.by_state.get("applied", 0) + self.by_state.get("reverting", 0)
        return in_batches - self.voided


_OPENING = 0x6B75_0000_0000_0000  # a lock per organization; its number is added


@transaction.atomic
def open_backfill(
    organization: Organization,
    *,
    reason: str,
    start: datetime,
    end: datetime,
    now: datetime,
    actor: User | None = None,
    key: ApiKey | None = None,
) -> Backfill:
    """Open a backfill for events that happened in [start, end); BackfillRefused if it cannot be."""
    _refuse_what_cannot_be(reason, start, end, now)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_OPENING + organization.pk])
    of_organization = Backfill.objects.filter(organization_id=organization.pk)
    if of_organization.filter(state=Backfill.State.OPEN).count() >= OPEN_MAX:
        raise BackfillRefused(
            "too_many_backfills",
            f"{OPEN_MAX} backfills are open, and no more can be. Close or revert one of them.",
        )
    number = _next_number()
    made = Backfill.objects.create(
        organization_id=organization.pk,
        id=number,
        state=Backfill.State.OPEN,
        reason=reason,
        starts_at=start,
        ends_at=end,
        opened_by=_who(actor, key),
        opened_at=now,
    )
    said = {"reason": reason, "start": start, "end": end}
    _record("backfill.opened", made, organization, actor, key, said)
    return made


def _refuse_what_cannot_be(reason: str, start: datetime, end: datetime, now: datetime) -> None:
    if not 0 < len(reason) <= REASON_MAX or text_fault(reason):
        raise BackfillRefused(
            "invalid_parameter",
            f"reason must be 1 to {REASON_MAX} visible characters without a space at either end: "
            "it stands in the record.",
        )
    if not start < end:
        raise BackfillRefused("invalid_parameter", "end must lie after start, and is not included.")
    if start >= now or end > now + CLOCKS_APART:
        raise BackfillRefused(
            "invalid_parameter", "A backfill is for what has happened: it cannot be in the future."
        )
    if start < now - CORRECTION_AGE_MAX:
        raise BackfillRefused(
            "invalid_parameter",
            f"start lies more than {CORRECTION_AGE_MAX.days} days back, and usage that old is "
            "corrected no more.",
        )


def _next_number() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('metering_backfill_id_seq')")
        return int(cursor.fetchone()[0])


RELEASE = """
    UPDATE metering_ingestbatch SET state = 'pending', released_at = clock_timestamp()
    WHERE organization_id = %s AND backfill_id = %s AND state = 'held'
"""
TAKE_BACK = """
    UPDATE metering_ingestbatch
    SET state = CASE state WHEN 'applied' THEN 'reverting' ELSE 'reverted' END,
        released_at = clock_timestamp(), attempts = 0, lease_token = NULL, lease_until = NULL,
        last_error = ''
    WHERE (organization_id, id) IN (
        SELECT organization_id, id FROM metering_ingestbatch
        WHERE organization_id = %s AND backfill_id = %s
          AND state IN ('held', 'pending', 'failed', 'applied')
        ORDER BY id FOR UPDATE)
"""


@transaction.atomic
def close(
    organization: Organization,
    number: int,
    *,
    now: datetime,
    actor: User | None = None,
    key: ApiKey | None = None,
) -> bool:
    """Let everything in the backfill count. False: it was closed before."""
    if not _move(organization, number, ["open"], state=Backfill.State.CLOSED, closed_at=now):
        backfill = get(organization.pk, number)
        if backfill.state == Backfill.State.REVERTED:
            raise BackfillRefused(
                "backfill_not_open",
                f"Backfill {number} was reverted at {backfill.reverted_at:%Y-%m-%dT%H:%M:%SZ}, "
                "for good. Open another one and send the events with new ids.",
            )
        return False
    _update(RELEASE, organization, number)
    _record("backfill.closed", get(organization.pk, number), organization, actor, key, {})
    return True


@transaction.atomic
def revert(
    organization: Organization,
    number: int,
    *,
    now: datetime,
    actor: User | None = None,
    key: ApiKey | None = None,
) -> bool:
    """Let nothing in the backfill count any more. False: it was reverted before."""
    changed = {"state": Backfill.State.REVERTED, "reverted_at": now}
    if not _move(organization, number, ["open", "closed"], **changed):
        get(organization.pk, number)
        return False
    _update(TAKE_BACK, organization, number)
    _record("backfill.reverted", get(organization.pk, number), organization, actor, key, {})
    return True


def _move(organization: Organization, number: int, states: Sequence[str], **values: object) -> bool:
    """Move it on if it is in one of these states; waits for whoever is sending into it."""
    rows = Backfill.objects.filter(organization_id=organization.pk, id=number, state__in=states)
    return rows.update(**values) == 1


def _update(statement: str, organization: Organization, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [organization.pk, number])


def _who(actor: User | None, key: ApiKey | None) -> str:
    return actor.email if actor else f"kt_{key.prefix}" if key else "system"


def _record(
    action: str,
    backfill: Backfill,
    organization: Organization,
    actor: User | None,
    key: ApiKey | None,
    detail: Mapping[str, object],
) -> None:
    by_key = {"api_key": key.prefix} if key else {}
    audit.record(
        action,
        subject=f"backfill {backfill.id}",
        organization=organization,
        actor=actor,
        detail={**detail, **by_key},
    )


def get(organization_id: int, number: int) -> Backfill:
    """One of the organization's backfills; BackfillRefused where it has none of that number."""
    found = Backfill.objects.filter(organization_id=organization_id, id=number).first()
    if found is None:
        raise BackfillRefused("unknown_backfill", "There is no backfill of that number here.")
    return found


def find(
    organization_id: int,
    *,
    state: str | None = None,
    before: int | None = None,
    limit: int = PAGE_MAX,
) -> list[Backfill]:
    """The organization's backfills, the newest first."""
    rows = Backfill.objects.filter(organization_id=organization_id)
    if state is not None:
        rows = rows.filter(state=state)
    if before is not None:
        rows = rows.filter(id__lt=before)
    return list(rows.order_by("-id")[: min(limit, PAGE_MAX)])


def everywhere(*, limit: int = PAGE_MAX) -> list[Backfill]:
    """The backfills of all organizations: open ones first, those open longest before the others."""
    is_open = Case(When(state=Backfill.State.OPEN, then=0), default=1)
    since = Case(When(state=Backfill.State.OPEN, then="opened_at"))
    return list(Backfill.objects.order_by(is_open, since, "-opened_at")[:limit])


def forgotten(now: datetime) -> int:
    """How many backfills are open for so long that nobody may be thinking of them."""
    rows = Backfill.objects.filter(state=Backfill.State.OPEN, opened_at__lt=now - OPEN_FOR)
    return rows.count()


COUNTS = """
    SELECT batch.organization_id, batch.backfill_id, batch.state, sum(batch.submitted),
           sum(batch.accepted), sum(batch.duplicate), sum(batch.conflict), sum(batch.rejected)
    FROM unnest(%s::bigint[], %s::bigint[]) AS asked (organization_id, id)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = asked.organization_id AND batch.backfill_id = asked.id
    GROUP BY batch.organization_id, batch.backfill_id, batch.state
"""
VOIDED = """
    SELECT batch.organization_id, batch.backfill_id, count(*)
    FROM unnest(%s::bigint[], %s::bigint[]) AS asked (organization_id, id)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = asked.organization_id AND batch.backfill_id = asked.id
     AND batch.state IN ('applied', 'reverting')
    JOIN metering_void void
      ON void.organization_id = batch.organization_id AND void.target_batch_id = batch.id
    JOIN metering_ingestbatch taker
      ON taker.organization_id = void.organization_id AND taker.id = void.batch_id
     AND taker.state = 'applied'
    GROUP BY batch.organization_id, batch.backfill_id
"""
USAGE = """
    SELECT one.key, sum(one.value::numeric)
    FROM metering_ingestbatch batch
    CROSS JOIN LATERAL jsonb_each_text(batch.sums) AS one
    WHERE batch.organization_id = %s AND batch.backfill_id = %s
    GROUP BY one.key ORDER BY one.key
"""


def counts(of: Sequence[Backfill]) -> dict[tuple[int, int], Counts]:
    """What became of the events sent into each, by organization and number."""
    keys = [(backfill.organization_id, backfill.id) for backfill in of]
    totals = dict.fromkeys(keys, (0, 0, 0, 0, 0))
    by_state: dict[tuple[int, int], dict[str, int]] = {key: {} for key in keys}
    columns = [list(column) for column in zip(*keys, strict=True)] or [[], []]
    for organization_id, number, state, *sums in _rows(COUNTS, columns):
        key = organization_id, number
        submitted, accepted, duplicate, conflict, rejected = (
            have + int(more) for have, more in zip(totals[key], sums, strict=True)
        )
        totals[key] = (submitted, accepted, duplicate, conflict, rejected)
        by_state[key][state] = int(sums[1])
    voided = {(row[0], row[1]): int(row[2]) for row in _rows(VOIDED, columns)}
    return {
        key: Counts(*totals[key], by_state=by_state[key], voided=voided.get(key, 0)) for key in keys
    }


def usage(organization_id: int, number: int) -> dict[str, int]:
    """What the accepted events add up to, register by register."""
    return {name: int(total) for name, total in _rows(USAGE, [organization_id, number])}


def _rows(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
