"""Addresses, not brains: a finder looks for work, a doer takes an id and is safe to repeat."""

from __future__ import annotations

import time
from datetime import datetime

from celery import shared_task
from django.utils import timezone

from billing import allowance, comparing, fate_totals, invoicing, rerating

BUSY_S = 20.0  # then others get their turn


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


@shared_task
def continue_comparisons() -> None:
    """Find the what-if runs with work left that nobody is at; one small task each."""
    for run_id, turn in comparing.due(timezone.now()):
        work_on_comparison.delay(run_id, turn)


@shared_task
def work_on_comparison(run_id: int, turn: int) -> None:
    """Take a turn at a run, then let others have the worker before the next one."""
    stop_at = time.monotonic() + BUSY_S
    following = comparing.work(
        run_id, turn, is_time_up=lambda: time.monotonic() > stop_at, now=timezone.now()
    )
    if following is not None:
        work_on_comparison.delay(run_id, following)


@shared_task
def purge_comparisons() -> None:
    """Let go of what-if runs that were kept for thirty days."""
    comparing.purge(timezone.now())


@shared_task
def count_fates(subscription_id: int, start: str) -> None:
    """Count events of a billing period, then let others have the worker before going on."""
    stop_at = time.monotonic() + BUSY_S
    progress = fate_totals.count_on(
        subscription_id,
        datetime.fromisoformat(start),
        timezone.now(),
        is_time_up=lambda: time.monotonic() > stop_at,
    )
    if progress is not None and not progress.is_done:
        count_fates.delay(subscription_id, start)
