"""From requests of a workload to batches of one key each, and until they are in the readings."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.core.management.base import CommandError
from django.db.models import Count
from django.utils import timezone

from accounts import api_keys
from accounts.models import ApiKey, Organization
from console.progress import Progress
from metering.ingest.door import EVENTS_PATH
from metering.models import IngestBatch
from workloads import sender
from workloads.request import Request
from workloads.sender import (
    EVENTS_PER_BATCH_MAX,
    Answer,
    Batch,
    NotAccepted,
    NotSent,
    Sender,
    Tally,
)

PORT_DEFAULT = "8000"
POLL_S = 0.1
STALLED_S = 90  # a worker that died is replaced and its lease runs out well within this
KEY_AGE_MAX = timedelta(days=7)  # a paced replay may take days; a forgotten key does not stay


def events_url() -> str:
    """Where the running Kilotoken takes events: its own door, or the web's, on this machine."""
    port = os.environ.get("INGEST_PORT") or os.environ.get("PORT") or PORT_DEFAULT
    return f"http://127.0.0.1:{port}{EVENTS_PATH}"


@contextmanager
def keys_for(who: Iterable[Organization], *, name: str) -> Iterator[dict[int, str]]:
    """A key for each organization while the block runs; revoked whatever happens."""
    issued: list[ApiKey] = []
    texts: dict[int, str] = {}
    expires_at = timezone.now() + KEY_AGE_MAX
    try:
        for organization in who:
            api_key, new = api_keys.issue(
                organization=organization,
                name=name,
                scopes=[ApiKey.Scope.INGEST],
                expires_at=expires_at,
            )
            issued.append(api_key)
            texts[organization.pk] = new.text
        yield texts
    finally:
        for api_key in issued:
            api_keys.revoke(api_key=api_key, actor=None, now=timezone.now())


def batches(
    requests: Iterable[Request],
    *,
    key_of: Callable[[Request], str],
    source: str,
    start: datetime,
    skip: int = 0,
    linger_s: int | None = None,
) -> Iterator[Batch]:
    """Gather requests into batches of one key each.

    A batch's mark says how many requests from the front are in this batch or an earlier one, so
    that an interrupted run knows where to go on. With linger_s no request waits longer than that.
    """
    waiting: dict[str, list[tuple[int, Request]]] = {}
    since = time.monotonic()
    row = 0
    for row, request in enumerate(requests, 1):
        if row <= skip:
            continue
        key = key_of(request)
        waiting.setdefault(key, []).append((row, request))
        if len(waiting[key]) == EVENTS_PER_BATCH_MAX:
            yield _batch(key, waiting, row, source, start)
        elif linger_s is not None and time.monotonic() - since > linger_s:
            for key in list(waiting):
                yield _batch(key, waiting, row, source, start)
            since = time.monotonic()
    for key in list(waiting):
        yield _batch(key, waiting, row, source, start)


def _batch(
    key: str, waiting: dict[str, list[tuple[int, Request]]], row: int, source: str, start: datetime
) -> Batch:
    ready = waiting.pop(key)
    events = [sender.event(request, source=source, start=start) for _, request in ready]
    mark = min((rows[0][0] - 1 for rows in waiting.values()), default=row)
    return Batch(key, events, mark)


def send(
    ready: Iterable[Batch],
    *,
    url: str,
    total: int,
    on_answer: Callable[[Answer], None] = lambda _answer: None,
) -> Tally:
    """Send batches until all are answered. CommandError if one cannot be, or was not accepted."""
    try:
        with Sender(url) as sending, Progress("events sent", total) as progress:
            for answer in sending.send(ready):
                progress.at(sending.tally.submitted)
                on_answer(answer)
            return sending.tally
    except NotAccepted as error:
        raise CommandError(str(error)) from error
    except NotSent as error:
        why = str(error).rstrip(".")
        raise CommandError(f"{why}. Run this again to go on; nothing counts twice.") from error


def wait_until_applied(organization_ids: Collection[int]) -> None:
    """Return once all batches of these organizations are in the readings.

    CommandError if a batch failed for good, or if nothing moved for long: then no worker runs.
    """
    total = left = _pending(organization_ids)
    if not left:
        return
    moved_at = time.monotonic()
    with Progress("batches in the readings", total) as progress:
        while left:
            time.sleep(POLL_S)
            before, left = left, _pending(organization_ids)
            if left != before:
                moved_at = time.monotonic()
            if time.monotonic() - moved_at > STALLED_S:
                raise CommandError(
                    f"{left:,} batches are stored but not in the readings, and none was added for "
                    f"{STALLED_S} s. Is a worker running? Nothing is lost; run this again later."
                )
            progress.at(max(total - left, 0))


def _pending(organization_ids: Collection[int]) -> int:
    """How many batches are not in the readings yet."""
    rows = IngestBatch.objects.filter(organization_id__in=organization_ids)
    waiting = rows.exclude(state=IngestBatch.State.APPLIED).values_list("state")
    counts: Counter[str] = Counter(dict(waiting.annotate(count=Count("id"))))
    failed = counts[IngestBatch.State.FAILED]
    if failed:
        raise CommandError(
            f"{failed:,} batches could not be added to the readings; the console's page of "
            "batches shows why. Nothing is lost: repair the cause and let them run again."
        )
    return counts[IngestBatch.State.PENDING]
