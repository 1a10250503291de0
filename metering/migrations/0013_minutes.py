"""Sums by the minute, for organizations whose prices ask for a peak within a quarter-hour.

A batch says whether its events are in them. docs/decisions/0023 says why. Valid on PostgreSQL 15 to
18.
"""

from django.db import migrations, models

CREATE = """
CREATE TABLE metering_minute (
    organization_id bigint      NOT NULL,
    starts_at       timestamptz NOT NULL,
    api_key         text        NOT NULL,
    register        text        NOT NULL COLLATE "C",
    quantity        bigint      NOT NULL,
    PRIMARY KEY (organization_id, starts_at, api_key, register),
    CONSTRAINT minute_starts_on_a_minute
        CHECK (date_bin('1 minute', starts_at, '2000-01-01T00:00Z') = starts_at),
    CONSTRAINT minute_is_not_negative CHECK (quantity >= 0)
);
ALTER TABLE metering_minute SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- Whose usage is summed by the minute from now on; what was used before is summed as it is asked for.
CREATE TABLE metering_minuteneed (
    organization_id bigint      NOT NULL PRIMARY KEY,
    asked_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE metering_ingestbatch ADD has_minutes boolean NOT NULL DEFAULT false;
ALTER TABLE metering_reaggregation ADD minutes boolean NOT NULL DEFAULT false;
"""
DROP = """
ALTER TABLE metering_reaggregation DROP minutes;
ALTER TABLE metering_ingestbatch DROP has_minutes;
DROP TABLE metering_minuteneed;
DROP TABLE metering_minute;
"""


class Migration(migrations.Migration):
    dependencies = [("metering", "0012_tally_blocks")]
    operations = [
        migrations.RunSQL(CREATE, DROP),
        migrations.AddField("ingestbatch", "has_minutes", models.BooleanField(db_default=False)),
        migrations.AddField("reaggregation", "minutes", models.BooleanField(db_default=False)),
        migrations.CreateModel(
            name="Minute",
            fields=[
                ("pk", models.CompositePrimaryKey("organization_id", "starts_at", "api_key", "register", blank=True, editable=False, primary_key=True, serialize=False)),
                ("organization_id", models.BigIntegerField()),
                ("starts_at", models.DateTimeField()),
                ("api_key", models.TextField()),
                ("register", models.TextField()),
                ("quantity", models.BigIntegerField()),
            ],
            options={"db_table": "metering_minute", "managed": False},
        ),
    ]
