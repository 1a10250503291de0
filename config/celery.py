"""The Celery application: a post box for doorbells. What there is to do stands in rows."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("kilotoken")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = {
    "apply-pending-batches": {"task": "metering.tasks.apply_pending_batches", "schedule": 5.0},
    "say-alive": {"task": "metering.tasks.say_alive", "schedule": 5.0},
    "make-event-partitions": {"task": "metering.tasks.make_event_partitions", "schedule": 3600.0},
    "purge-rejections": {"task": "metering.tasks.purge_rejections", "schedule": 3600.0},
    "purge-tally-blocks": {"task": "metering.tasks.purge_tally_blocks", "schedule": 3600.0},
    "close-due-periods": {"task": "billing.tasks.close_due_periods", "schedule": 60.0},
    "continue-reratings": {"task": "billing.tasks.continue_reratings", "schedule": 60.0},
    "watch-quotas": {"task": "billing.tasks.watch_quotas", "schedule": 60.0},
    "continue-comparisons": {"task": "billing.tasks.continue_comparisons", "schedule": 60.0},
    "purge-comparisons": {"task": "billing.tasks.purge_comparisons", "schedule": 3600.0},
}
