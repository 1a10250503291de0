"""Rings for the roll-up after a commit: never slows, never fails the request that rang.

The batch row is the work; this only shortens the wait for it. A thread of its own sends at most
one message every fifth of a second, and none while a heap of them lies unread. A broker that is
down is said once, and again only after it was up.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from celery import Celery
from django.conf import settings
from kombu import Connection

TASK = "metering.tasks.apply_pending_batches"
PAUSE_S = 0.2
UNREAD_MAX = 20
PATIENCE_S = 1

logger = logging.getLogger(__name__)

_rung = threading.Event()
_lock = threading.Lock()
_owner = 0


def ring() -> None:
    """Ask for the roll-up to look; returns at once."""
    if _owner != os.getpid():
        _start()
    _rung.set()


def _start() -> None:
    global _owner
    with _lock:
        if _owner != os.getpid():
            _owner = os.getpid()
            threading.Thread(target=_listen, name="doorbell", daemon=True).start()


def _listen() -> None:
    """Send what was rung for, and rest."""
    app = Celery("doorbell", broker=settings.CELERY_BROKER_URL, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        broker_transport_options=settings.CELERY_BROKER_TRANSPORT_OPTIONS,
        broker_connection_timeout=PATIENCE_S,
    )
    works = True
    line: Connection | None = None  # made anew for every message it would be most of the cost
    while True:
        _rung.wait()
        _rung.clear()
        try:
            line = _sent(app, line)
            works = True
        except Exception as error:  # whatever it is, the sweeper finds the batch
            if works:
                logger.warning("the broker cannot be rung (%s); beat sweeps", type(error).__name__)
            works, line = False, None
        time.sleep(PAUSE_S if works else PATIENCE_S)


def _sent(app: Celery, line: Connection | None) -> Connection:
    """Send over the connection of the last time, or over a new one; what may be used again."""
    if line is not None:
        try:
            _send(app, line)
        except Exception:  # it may have been cut since, which says nothing of the broker
            line.release()
        else:
            return line
    line = app.connection_for_write(connect_timeout=PATIENCE_S)
    try:
        _send(app, line)
    except BaseException:
        line.release()
        raise
    return line


def _send(app: Celery, line: Connection) -> None:
    line.ensure_connection(max_retries=1, timeout=PATIENCE_S)
    queue = app.conf.task_default_queue
    if _unread(line, queue) < UNREAD_MAX:
        app.send_task(TASK, connection=line, retry=False, expires=60)


def _unread(line: Connection, queue: str) -> int:
    """How many messages wait in the queue; a queue that is not there yet holds none."""
    try:
        channel = line.default_channel  # type: ignore[attr-defined]
        return int(channel.queue_declare(queue, passive=True).message_count)
    except Exception:  # each transport has its own way of saying that there is no such queue
        return 0
