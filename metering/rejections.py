"""Events that were not taken: which, why, and sent again once the cause is mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection
from django.db.models import Count, Q, QuerySet, Sum

from accounts.models import ApiKey, Organization
from accounts.refusals import Refusal as Refused
from metering.ingest import boxes, cloudevents, decode, doorbell
from metering.ingest.callers import Caller
from metering.ingest.decode import Refusal, Sent
from metering.ingest.take import take
from metering.models import IngestBatch, QuarantineDay, Rejection
from metering.usage import correction
from metering.usage.correction import Reported, Span
from metering.usage.event import AGE_MAX, Rejected, UsageEvent

KEPT_FOR = timedelta(days=30)
PAGE_MAX = 200
REPLAYED_MAX = 1_000  # at a time: one batch
PURGED_MAX = 10_000

PURGE = """
    DELETE FROM metering_rejection WHERE (organization_id, id) IN (
        SELECT organization_id, id FROM metering_rejection WHERE received_at < %s LIMIT %s)
"""


NOTE_REACH = """
    INSERT INTO metering_reach (organization_id, reaches_back_to) VALUES (%s, %s)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Which:
    """Which of an organization's rejections; what is None does not matter."""

    code: str | None = None
    start: datetime | None = None  # of received_at, half-open
    end: datetime | None = None
    ids: Sequence[int] | None = None
    before: int | None = None  # the cursor: older than this one
    own_project_id: int | None = None  # only what came with keys made for this project


@dataclass(slots=True)
class Replayed:
    """What became of a replay."""

    taken: int = 0  # accepted, or stored before
    rejected: int = 0  # for the same reason or for another
    left: int = 0  # masked: something is missing, so they cannot be sent again
    codes: dict[str, int] = field(default_factory=dict)


def find(organization_id: int, which: Which, *, limit: int = PAGE_MAX) -> list[Rejection]:
    """The newest that match and were not replayed, newest first."""
    return list(_matching(organization_id, which).order_by("-id")[: min(limit, PAGE_MAX)])


def counts(organization_id: int, which: Which) -> dict[str, int]:
    """How many are kept for each code, the most first; repetitions are counted."""
    rows = (
        _matching(organization_id, which)
        .values("code")
        .annotate(kept=Count("id"), seen_sum=Sum("seen"))
        .order_by("-seen_sum", "code")
    )
    return {row["code"]: row["seen_sum"] for row in rows}


def _matching(organization_id: int, which: Which) -> QuerySet[Rejection]:
    wanted = Q(organization_id=organization_id, replayed_at=None)
    for lookup, value in (
        ("code", which.code), ("received_at__gte", which.start), ("received_at__lt", which.end),
        ("id__in", which.ids), ("id__lt", which.before),
    ):  # fmt: skip
        if value is not None:
            wanted &= Q(**{lookup: value})
    if which.own_project_id is not None:
        keys = ApiKey.objects.filter(
            organization_id=organization_id, project_id=which.own_project_id
        )
        wanted &= Q(api_key_id__in=keys.values("id"))
    return Rejection.objects.filter(wanted)


def replay(
    organization_id: int,
    which: Which,
    *,
    now: datetime,
    api_key_id: int | None = None,
) -> Replayed:
    """Send what matches once more, the oldest first; safe to repeat, because the ids are the same.

    A person replays with the key that each event came with, a machine with its own. Whoever does,
    an event belongs to the project of the key it came with, and to no other if that has one. What
    was sent into a backfill goes there, or stays where that is not open any more. Refused while the
    organization is suspended: nothing it reports is counted then.
    """
    if Organization.objects.filter(pk=organization_id, state=Organization.State.SUSPENDED).exists():
        raise Refused("", "The organization is suspended. Replay once it is active again.")
    done = Replayed()
    rows = list(_matching(organization_id, which).order_by("id")[:REPLAYED_MAX])
    whole = [row for row in rows if not row.masked]
    done.left = len(rows) - len(whole)
    came_with = ApiKey.objects.filter(organization_id=organization_id)
    projects = dict(
        came_with.filter(id__in={row.api_key_id for row in whole}).values_list(
            "id", "project__slug"
        )
    )
    into = _backfills_of(organization_id, whole)
    sent_as = {row.id: (row.api_key_id, into.get(row.batch_id, 0)) for row in whole}
    for key_id, backfill_id in sorted(set(sent_as.values())):
        own = [row for row in whole if sent_as[row.id] == (key_id, backfill_id)]
        caller = Caller(
            api_key_id=api_key_id or key_id,
            digest=b"",
            scopes=("ingest",),
            organization_id=organization_id,
            active=True,
            own_project=projects.get(key_id),
            database_time=now,
            looked_up_at=0.0,
            use_is_news=False,
        )
        try:
            _replay(caller, own, done, now=now, backfill_id=backfill_id or None)
        except Refusal as refusal:  # of the backfill, and so of all of them
            done.rejected += len(own)
            code = refusal.problem.code
            done.codes[code] = done.codes.get(code, 0) + len(own)
    if done.taken:
        doorbell.ring()
    return done


def _backfills_of(organization_id: int, rows: Sequence[Rejection]) -> dict[int, int]:
    """Which backfill each batch was sent into; batches that were sent into none are not in it."""
    batches = IngestBatch.objects.filter(
        organization_id=organization_id, id__in={row.batch_id for row in rows}
    )
    found = batches.values_list("id", "backfill_id")
    return {batch_id: number for batch_id, number in found if number is not None}


def _replay(
    caller: Caller,
    rows: Sequence[Rejection],
    done: Replayed,
    *,
    now: datetime,
    backfill_id: int | None,
) -> None:
    span = boxes.span_of(caller, backfill_id)
    events = [_read_again(row, now, span) for row in rows]
    sent = Sent(events, single=False, keep_faults=False)
    if span is None:
        _note_reach(caller.organization_id, sent, now)
    if all(isinstance(event, Rejected) for event in sent.events):
        verdicts: Sequence[Any] = sent.events
    else:
        verdicts = take(caller, sent, atomic=False, backfill_id=backfill_id).verdicts
    taken = []
    for row, verdict in zip(rows, verdicts, strict=True):
        code = verdict.code if isinstance(verdict, Rejected) else verdict.status.value
        done.codes[code] = done.codes.get(code, 0) + 1
        if code in ("accepted", "duplicate"):
            taken.append(row.id)
    done.taken += len(taken)
    done.rejected += len(rows) - len(taken)
    Rejection.objects.filter(organization_id=caller.organization_id, id__in=taken).update(
        replayed_at=now
    )


def _note_reach(organization_id: int, sent: Sent, now: datetime) -> None:
    """Say, before anything is stored, how far back it reaches, if that is further than usual."""
    moments = [one.occurred_at for one in sent.events if isinstance(one, UsageEvent)]
    if moments and min(moments) < now - AGE_MAX:
        with connection.cursor() as cursor:
            cursor.execute(NOTE_REACH, [organization_id, min(moments)])


def _read_again(row: Rejection, now: datetime, span: Span | None) -> Reported | Rejected:
    """The event, judged anew; how old it may be is told by when it came, or by its backfill."""
    form = cloudevents.read if row.form == cloudevents.FORM else correction.read
    read = partial(form, backfill=span)
    try:
        value = decode.parse(row.raw)
    except Refusal as refusal:
        return Rejected(refusal.problem.code, "", refusal.problem.detail)
    event = decode.judged(value, now, "", "", read)
    if isinstance(event, Rejected) and event.code == "timestamp_too_old":
        event = decode.judged(value, row.received_at, "", "", read)
    return event


def today(organization_id: int, now: datetime) -> QuarantineDay:
    """What was put into quarantine today, in UTC, and how much found no room."""
    day = now.astimezone(UTC).date()
    row = QuarantineDay.objects.filter(organization_id=organization_id, day=day).first()
    return row or QuarantineDay(organization_id=organization_id, day=day, left_out=0)


def full_quarantines(now: datetime) -> list[tuple[int, int]]:
    """Organizations whose rejections found no room today, and how many of them; the most first."""
    days = QuarantineDay.objects.filter(day=now.astimezone(UTC).date(), left_out__gt=0)
    return list(days.order_by("-left_out").values_list("organization_id", "left_out"))


def purge(now: datetime) -> int:
    """Let go of what was kept long enough; how many there were."""
    gone = 0
    QuarantineDay.objects.filter(day__lt=(now - KEPT_FOR).astimezone(UTC).date()).delete()
    while True:
        with connection.cursor() as cursor:
            cursor.execute(PURGE, [now - KEPT_FOR, PURGED_MAX])
            purged = int(cursor.rowcount)
        gone += purged
        if purged < PURGED_MAX:
            return gone
