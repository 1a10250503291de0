"""Each batch says when its first and its last event happened, so that a day's events are found fast.

Batches that are there already are told by their events. A batch without events says nothing. Valid
on PostgreSQL 15 to 18.
"""

from django.db import migrations, models

CREATE = """
ALTER TABLE metering_ingestbatch
    ADD occurred_first timestamptz,
    ADD occurred_last timestamptz;
UPDATE metering_ingestbatch batch
SET occurred_first = told.first, occurred_last = told.last
FROM metering_segment segment
CROSS JOIN LATERAL (
    SELECT min(instant) AS first, max(instant) AS last FROM unnest(segment.occurred_at) AS instant
) AS told
WHERE segment.organization_id = batch.organization_id AND segment.batch_id = batch.id
  AND segment.received_at = batch.received_at;
ALTER TABLE metering_ingestbatch
    ADD CONSTRAINT ingest_batch_times_run_forward CHECK (
        (occurred_first IS NULL) = (occurred_last IS NULL) AND occurred_first <= occurred_last);

-- By the day of the first event, in UTC, and then in the order of arrival.
CREATE INDEX metering_ingestbatch_by_day ON metering_ingestbatch
    (organization_id, ((occurred_first AT TIME ZONE 'UTC')::date), id);
-- The few that reach into a later day than that.
CREATE INDEX metering_ingestbatch_of_days ON metering_ingestbatch (organization_id, id)
    WHERE (occurred_first AT TIME ZONE 'UTC')::date < (occurred_last AT TIME ZONE 'UTC')::date;
"""
DROP = """
DROP INDEX metering_ingestbatch_of_days, metering_ingestbatch_by_day;
ALTER TABLE metering_ingestbatch DROP COLUMN occurred_first, DROP COLUMN occurred_last;
"""


class Migration(migrations.Migration):
    dependencies = [("metering", "0009_input_limits")]
    operations = [
        migrations.RunSQL(
            CREATE,
            DROP,
            state_operations=[
                migrations.AddField(
                    "ingestbatch", "occurred_first", models.DateTimeField(null=True)
                ),
                migrations.AddField(
                    "ingestbatch", "occurred_last", models.DateTimeField(null=True)
                ),
            ],
        ),
    ]
