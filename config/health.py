"""Whether this process lives, and whether the whole is ready for work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from config.celery import app
from metering.models import Heartbeat

HEARTBEAT_AGE_MAX = timedelta(seconds=30)


@csrf_exempt  # it changes nothing; a wrong method is told so, not asked for a token
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Alive: this process answers. Asks nobody else."""
    return JsonResponse({"status": "alive"})


@csrf_exempt  # it changes nothing; a wrong method is told so, not asked for a token
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Ready: database, migrations, broker and a background worker, each by itself."""
    checks = {
        "database": _asks(_database),
        "migrations": _asks(_migrations),
        "broker": _asks(_broker),
        "worker": _asks(_worker),
    }
    ready = all(state == "ok" for state in checks.values())
    return JsonResponse(
        {"status": "ready" if ready else "not ready", "checks": checks},
        status=200 if ready else 503,
    )


def _asks(check: Callable[[], str]) -> str:
    """What a check says; a failure is an answer, by the name of its kind, without its details."""
    try:
        return check()
    except Exception as error:  # whatever fails here means "not ready"
        return f"failed: {type(error).__name__}"


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        (value,) = cursor.fetchone()
    return "ok" if value == "on" else f"synchronous_commit is {value}, must be on"


def _migrations() -> str:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return f"{len(missing)} not applied" if missing else "ok"


def _broker() -> str:
    if settings.CELERY_BROKER_URL.startswith("memory:"):
        return "ok"
    with app.connection_for_write(connect_timeout=1) as broker:
        broker.ensure_connection(max_retries=1, timeout=1)
    return "ok"


def _worker() -> str:
    alive = Heartbeat.objects.filter(seen_at__gt=Now() - HEARTBEAT_AGE_MAX)
    return "ok" if alive.exists() else f"no worker seen for {HEARTBEAT_AGE_MAX.seconds} s"
