"""Doorbells. Each may ring twice or not at all: the rows say what there is to do."""

from __future__ import annotations

import logging
import socket
import time

from celery import shared_task
from django.db import connection, transaction
from django.utils import timezone

from metering import partitions, reaggregation, rejections, reverting, rollup, tally_blocks
from metering.models import Heartbeat

BUSY_S = 20.0  # then let others have the worker; whatever is left is found by the next ring

logger = logging.getLogger(__name__)


@shared_task
def apply_pending_batches() -> None:
    """Add to the readings whatever is pending, take out what was reverted, and tell anew what has
    to be told apart more finely, in turns, until nothing is left or the time is up."""
    stop_at = time.monotonic() + BUSY_S
    while _take_turns() and time.monotonic() < stop_at:
        pass


def _take_turns() -> bool:
    """One step of each kind: no queue makes another wait for its end. False: nothing was left."""
    return any([rollup.apply_pending(), reverting.apply_reverts(), reaggregation.step()])


@shared_task
def say_alive() -> None:
    """Leave a sign of life."""
    Heartbeat.objects.update_or_create(
        worker=socket.gethostname(), defaults={"seen_at": timezone.now()}
    )


@shared_task
def make_event_partitions() -> None:
    """Make the partitions of the weeks ahead."""
    with transaction.atomic():
        made = partitions.ensure(connection, timezone.now())
    if made:
        logger.info("made partitions %s", ", ".join(made))


@shared_task
def purge_rejections() -> None:
    """Let go of what was kept for thirty days."""
    gone = rejections.purge(timezone.now())
    if gone:
        logger.info("let go of %d rejected events", gone)


@shared_task
def purge_tally_blocks() -> None:
    """Let go of what was counted more than thirty days ago."""
    tally_blocks.purge()
