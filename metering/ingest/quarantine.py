"""What was not taken is kept, raw, so that nothing is lost on a sender that reads no answers.

Once per organization, code and text: a sender that repeats the same mistake adds to a count. No
secret is kept, nor what was said to or by a model: such an event is kept masked. An organization
has room for so many events and bytes a day; what finds none is told and counted as ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from psycopg import Connection, Cursor

from metering.ingest.decode import Refusal, Sent, id_of, parse
from metering.store import Outcome, Status
from metering.usage.credentials import hidden, reads_like_one
from metering.usage.event import CONTENT, NAME_MAX, Rejected

RAW_BYTES_MAX = 8_192  # an event that can be accepted is far smaller
KEPT_PER_DAY_MAX = 100_000  # events of one organization
KEPT_BYTES_PER_DAY_MAX = 64 * 1024 * 1024  # so at most 1.9 GiB in the thirty days
ROW_BYTES = 300  # what a row costs besides its texts, indexes included
LEFT_OUT = "(left out)"
TEXT_MAX = 2 * NAME_MAX  # nothing longer can belong into an event: it may be what was said

OPEN = """
    INSERT INTO metering_ingestbatch (organization_id, api_key_id, submitted, accepted, duplicate,
        conflict, rejected, backfill_id, state, applied_at)
    VALUES (%(organization_id)s, %(api_key_id)s, %(rejected)s, 0, 0, 0, %(rejected)s,
        %(backfill_id)s, 'applied', clock_timestamp())
    RETURNING id
"""
# Taking the day's row makes an organization's rejections wait for each other, and no one else's.
DAY = """
    INSERT INTO metering_quarantineday AS today (organization_id, day)
    VALUES (%(organization_id)s, (clock_timestamp() AT TIME ZONE 'UTC')::date)
    ON CONFLICT (organization_id, day) DO UPDATE SET kept = today.kept
    RETURNING day, kept, kept_bytes
"""
KNOWN = """
    SELECT digest FROM metering_rejection
    WHERE organization_id = %(organization_id)s AND digest = ANY(%(digests)s)
"""
NOTE = """
    UPDATE metering_quarantineday
    SET kept = %(kept)s, kept_bytes = %(kept_bytes)s, left_out = left_out + %(left_out)s
    WHERE organization_id = %(organization_id)s AND day = %(day)s
"""
KEEP = """
    INSERT INTO metering_rejection AS known (organization_id, digest, batch_id, api_key_id, form,
        code, pointer, detail, event_id, raw, masked)
    VALUES (%(organization_id)s, %(digest)s, %(batch_id)s, %(api_key_id)s, %(form)s, %(code)s,
        %(pointer)s, %(detail)s, %(event_id)s, %(raw)s, %(masked)s)
    ON CONFLICT (organization_id, digest) DO UPDATE SET seen = known.seen + 1,
        batch_id = excluded.batch_id, received_at = excluded.received_at, replayed_at = NULL
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One event that was not taken, and why."""

    code: str
    pointer: str
    detail: str
    event_id: str | None
    raw: str


def faults(sent: Sent, verdicts: Sequence[Outcome | Rejected]) -> list[Fault]:
    """The events of a request that were rejected or are in conflict."""
    bad = [
        (index, verdict)
        for index, verdict in enumerate(verdicts)
        if isinstance(verdict, Rejected) or verdict.status is Status.CONFLICT
    ]
    return list(_faults(sent, bad)) if bad else []


def _faults(sent: Sent, bad: Iterable[tuple[int, Outcome | Rejected]]) -> Iterable[Fault]:
    raws = sent.raws()
    for index, verdict in bad:
        event_id = id_of(sent.events[index])
        if isinstance(verdict, Rejected):
            code, pointer, detail = verdict.code, verdict.pointer, verdict.detail
        else:
            code, pointer = "event_conflict", sent.pointer(index)
            detail = verdict.detail or ""
        raw = raws[index] if index < len(raws) else ""
        yield Fault(code, _inside(pointer, sent, index), detail, event_id, raw)


def _inside(pointer: str, sent: Sent, index: int) -> str:
    """A pointer into the event itself: it is kept without its neighbours."""
    return pointer.removeprefix(sent.pointer(index))


def keep(
    connection: Connection[Any],
    organization_id: int,
    api_key_id: int,
    found: Sequence[Fault],
    *,
    form: str,
    batch_id: int | None,
    backfill_id: int | None = None,
) -> int:
    """Keep them, in one transaction; the batch that says so, made where nothing was stored."""
    with connection.transaction(), connection.cursor() as cursor:
        who: dict[str, object] = {"organization_id": organization_id, "api_key_id": api_key_id}
        if batch_id is None:
            of_batch = {**who, "rejected": len(found), "backfill_id": backfill_id}
            row = cursor.execute(OPEN, of_batch).fetchone()
            assert row is not None
            batch_id = int(row[0])
        rows = [_row(fault, form) | who | {"batch_id": batch_id} for fault in found]
        rows.sort(key=lambda row: bytes(row["digest"]))  # one order for everybody
        cursor.executemany(KEEP, _with_room(cursor, organization_id, rows))
    return batch_id


def _with_room(
    cursor: Cursor[Any], organization_id: int, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Those the day has room for; one that is kept already only counts, and needs none."""
    whose = {"organization_id": organization_id}
    today = cursor.execute(DAY, whose).fetchone()
    assert today is not None
    day, kept, kept_bytes = today
    digests = [row["digest"] for row in rows]
    known = {bytes(row[0]) for row in cursor.execute(KNOWN, {**whose, "digests": digests})}
    found, left_out = [], 0
    for row in rows:
        if row["digest"] not in known:
            size = ROW_BYTES + sum(len(row[name].encode()) for name in ("raw", "detail", "pointer"))
            if kept >= KEPT_PER_DAY_MAX or kept_bytes + size > KEPT_BYTES_PER_DAY_MAX:
                left_out += 1
                continue
            kept, kept_bytes = kept + 1, kept_bytes + size
            known.add(row["digest"])
        found.append(row)
    counts = {"day": day, "kept": kept, "kept_bytes": kept_bytes, "left_out": left_out}
    cursor.execute(NOTE, {**whose, **counts})
    return found


def _row(fault: Fault, form: str) -> dict[str, Any]:
    raw, is_masked = _kept(fault.raw)
    text = f"{form}\x1f{fault.code}\x1f{fault.raw}"
    return {
        "digest": blake2b(text.encode(errors="replace"), digest_size=16).digest(),
        "form": form,
        "code": fault.code,
        "pointer": fault.pointer,
        "detail": hidden(fault.detail),
        "event_id": fault.event_id,
        "raw": raw,
        "masked": is_masked,
    }


def _kept(raw: str) -> tuple[str, bool]:
    """What may be kept of an event's text, and whether something is missing from it."""
    shown = hidden(_without_content(raw)).replace("\x00", "\\u0000")
    cut = shown.encode(errors="replace")[:RAW_BYTES_MAX].decode(errors="ignore")
    return cut, cut != raw


def _without_content(raw: str) -> str:
    """The text, with what was said and what opens doors taken out of it.

    A text that is not strict JSON is cut short, or left out where an escape may hide something.
    """
    try:
        value = parse(raw)
    except Refusal:
        return LEFT_OUT if "\\u" in raw else raw[:TEXT_MAX]
    return json.dumps(_silent(value)) if _speaks(value) else raw


def _speaks(value: object) -> bool:
    if isinstance(value, dict):
        return any(name in CONTENT or _speaks(name) or _speaks(one) for name, one in value.items())
    if isinstance(value, list):
        return any(_speaks(one) for one in value)
    return isinstance(value, str) and (len(value) > TEXT_MAX or reads_like_one(value))


def _silent(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            hidden(name[:TEXT_MAX]): LEFT_OUT if name in CONTENT else _silent(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_silent(one) for one in value]
    if isinstance(value, str):
        return LEFT_OUT if len(value) > TEXT_MAX else hidden(value)
    return value
