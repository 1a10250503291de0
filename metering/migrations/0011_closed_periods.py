"""Periods that are closed, so that the door can say that an event came late.

Billing writes them (docs/decisions/0025). Valid on PostgreSQL 15 to 18.
"""

from django.db import migrations

CREATE = """
CREATE TABLE metering_closedperiod (
    organization_id bigint      NOT NULL,
    ends_at         timestamptz NOT NULL,
    starts_at       timestamptz NOT NULL,
    closed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (organization_id, ends_at, starts_at),
    CONSTRAINT closed_period_runs_forward CHECK (starts_at < ends_at)
);
"""
DROP = "DROP TABLE metering_closedperiod;"


class Migration(migrations.Migration):
    dependencies = [("metering", "0010_batch_times")]
    operations = [migrations.RunSQL(CREATE, DROP)]
