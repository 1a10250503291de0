"""The pipeline page: batches that wait or failed, readings summed anew, workers, partitions.

And putting back what is stuck.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import audit
from accounts.models import Organization, User
from accounts.refusals import Refusal
from console import health
from console.entrance import may_act, staff_only
from console.steps import ask
from metering import reaggregation, reverting, rollup
from metering.models import IngestBatch


@require_GET
@staff_only
def pipeline(request: HttpRequest) -> HttpResponse:
    """Show how events become readings, and what needs a person."""
    context = {
        **admin.site.each_context(request),
        "title": "Pipeline",
        "health": health.look(timezone.now()),
        "failed": health.open_batches(IngestBatch.State.FAILED),
        "pending": health.open_batches(IngestBatch.State.PENDING),
        "reverting": health.open_batches(IngestBatch.State.REVERTING),
        "attempts_max": rollup.ATTEMPTS_MAX,
        "full_quarantines": health.full_quarantines(timezone.now()),
        "partitions": health.partitions(),
        "reaggregations": health.reaggregations(),
        "may_act": may_act(request),
    }
    return render(request, "console/pipeline.html", context)


@require_http_methods(["GET", "POST"])
@staff_only
def retry(request: HttpRequest, organization_id: int, batch_id: int) -> HttpResponse:
    """Put a failed batch back to work."""
    organization = get_object_or_404(Organization, pk=organization_id)

    def do(values: dict[str, Any], actor: User, now: object) -> str:
        if not rollup.retry_failed(organization_id, batch_id):
            raise Refusal("", "This batch is not failed: somebody put it back before.")
        audit.record(
            "batch.retried", subject=f"batch {batch_id}", organization=organization, actor=actor
        )
        return f"Batch {batch_id} is pending again."

    return ask(
        request,
        title=f"Try batch {batch_id} again",
        explanation=f"Of {organization}. Its events are stored; they are added to the readings "
        "once, however often this is tried.",
        button="Try again",
        back=reverse("console:pipeline"),
        do=do,
    )


@require_http_methods(["GET", "POST"])
@staff_only
def retry_revert(request: HttpRequest, organization_id: int, batch_id: int) -> HttpResponse:
    """Let a batch of a reverted backfill leave that was given up."""
    organization = get_object_or_404(Organization, pk=organization_id)

    def do(values: dict[str, Any], actor: User, now: object) -> str:
        if not reverting.retry(organization_id, batch_id):
            raise Refusal("", "It is not stuck: somebody put it back before, or it is done.")
        audit.record(
            "batch.retried", subject=f"batch {batch_id}", organization=organization, actor=actor
        )
        return f"Batch {batch_id} leaves the readings."

    return ask(
        request,
        title=f"Revert batch {batch_id} again",
        explanation=f"Of {organization}. Its backfill was reverted; its events leave the readings "
        "once, however often this is tried. Where they are not in them as they should be, make the "
        "readings anew first: manage.py rebuild_readings.",
        button="Try again",
        back=reverse("console:pipeline"),
        do=do,
    )


@require_http_methods(["GET", "POST"])
@staff_only
def retry_reaggregation(request: HttpRequest, organization_id: int, task_id: int) -> HttpResponse:
    """Go on with a re-aggregation that is stuck."""
    organization = get_object_or_404(Organization, pk=organization_id)

    def do(values: dict[str, Any], actor: User, now: object) -> str:
        if not reaggregation.retry(organization_id, task_id):
            raise Refusal("", "It is not stuck: somebody put it back before, or it is done.")
        audit.record(
            "readings.retried", subject=str(organization), organization=organization, actor=actor
        )
        return f"The readings of {organization} are summed anew again."

    return ask(
        request,
        title=f"Sum the readings of {organization} anew again",
        explanation="It goes on where it stopped. What the readings add up to stays as it is.",
        button="Try again",
        back=reverse("console:pipeline"),
        do=do,
    )
