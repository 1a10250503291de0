"""Addresses, not brains: a finder looks for work, a doer takes an id and is safe to repeat."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from billing import allowance, invoicing, rerating


@shared_task
def close_due_periods() -> None:
    """Find the subscriptions with a period to close; one small task each."""
    for subscription_id in invoicing.due(now=timezone.now()):
        close_period.delay(subscription_id)


@shared_task
def close_period(subscription_id: int) -> None:
    """Close what is due of one subscription."""
    invoicing.close_period(subscription_id, now=timezone.now())


@shared_task
def continue_reratings() -> None:
    """Find the re-ratings that lost their worker; one task each."""
    for job_id in rerating.waiting(now=timezone.now()):
        work_rerating.delay(job_id)


@shared_task
def work_rerating(job_id: int) -> None:
    """Do what is left of one re-rating, organization by organization."""
    rerating.work(job_id, timezone.now)


@shared_task
def watch_quotas() -> None:
    """Find the quotas; one small task each."""
    for quota_id in allowance.quota_ids():
        watch_quota.delay(quota_id)


@shared_task
def watch_quota(quota_id: int) -> None:
    """Record and mail the thresholds that one quota has crossed."""
    allowance.watch_quota(quota_id, now=timezone.now())
