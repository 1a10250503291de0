"""The pipeline in the console: what waits or failed, and putting it back."""

from __future__ import annotations

from datetime import datetime

from django.db import connection
from django.test import Client

from accounts.models import AuditEntry, User
from billing.models import Subscription
from console import health
from metering.models import IngestBatch
from tests.web.console_cloud import (
    _at_the_moment,
    cloud,
    errors,
    make_batch,
    operator,
    root,
    text,
)

__all__ = ["_at_the_moment", "cloud", "operator", "root"]


def test_a_failed_batch_is_shown_and_put_back_once(
    operator: Client, cloud: Subscription, root: User
):
    make_batch(cloud.organization, 2, "failed")
    assert "boom" in text(operator.get("/console/pipeline/"))
    assert "1 batch failed for good and needs a person" in errors(operator.get("/console/"))
    page = f"/console/pipeline/{cloud.organization_id}/2/retry/"
    operator.get(page)
    assert IngestBatch.objects.get(id=2).state == "failed"
    assert operator.post(page).status_code == 302
    assert IngestBatch.objects.get(id=2).state == "pending"
    assert AuditEntry.objects.filter(action="batch.retried", actor=root).count() == 1
    assert operator.post(page).status_code == 422


def test_the_dashboard_counts_what_arrived_by_outcome(operator: Client, cloud: Subscription):
    response = operator.get("/console/")
    found = response.context["health"]
    assert (found.accepted, found.duplicate, found.conflict, found.rejected) == (1, 1, 1, 1)
    assert len(found.hours) == 24
    assert found.hours[-1].accepted == 1
    assert found.billing.periods_due == 1
    assert found.billing.issued == [("USD", 1, 250)]
    assert "No background worker has been seen" in text(response)


def test_a_revert_that_was_given_up_is_shown_and_taken_up_once(
    operator: Client, cloud: Subscription, root: User
):
    make_batch(cloud.organization, 2, "applied")
    page = f"/console/pipeline/{cloud.organization_id}/2/revert/"
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE metering_ingestbatch SET state = 'reverting', backfill_id = 9, attempts = 1,"
            " last_error = 'readings are missing' WHERE id = 2"
        )
    shown = text(operator.get("/console/pipeline/"))
    assert "Batches of reverted backfills" in shown
    assert "readings are missing" in shown
    assert page not in shown
    assert operator.post(page).status_code == 422
    with connection.cursor() as cursor:
        cursor.execute("UPDATE metering_ingestbatch SET attempts = 5 WHERE id = 2")
    assert page in text(operator.get("/console/pipeline/"))
    operator.get(page)
    assert IngestBatch.objects.get(id=2).attempts == 5
    assert operator.post(page).status_code == 302
    assert IngestBatch.objects.get(id=2).attempts == 0
    assert AuditEntry.objects.filter(action="batch.retried", actor=root).count() == 1
    assert operator.post(page).status_code == 422


def test_what_arrived_lately_is_found_without_reading_every_batch(db: None, now: datetime):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {health.BY_HOUR}", {"now": now})
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "metering_ingestbatch_by_arrival" in plan
