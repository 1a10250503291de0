"""Readings by the hour, so that a page need not add up a month of quarter-hours.

The same quantities as metering_reading, written in the same statement of the roll-up; here they are
made for the readings that there are. docs/decisions/0011 says why. Valid on PostgreSQL 15 to 18.
"""

from django.db import migrations, models

CREATE = """
CREATE TABLE metering_readinghour (
    organization_id bigint      NOT NULL,
    starts_at       timestamptz NOT NULL,
    rating_key_id   bigint      NOT NULL,
    register        text        NOT NULL COLLATE "C",
    quantity        bigint      NOT NULL,
    PRIMARY KEY (organization_id, starts_at, rating_key_id, register),
    CONSTRAINT reading_hour_starts_on_an_hour
        CHECK (date_bin('1 hour', starts_at, '2000-01-01T00:00Z') = starts_at),
    CONSTRAINT reading_hour_is_not_negative CHECK (quantity >= 0)
);
ALTER TABLE metering_readinghour SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- No roll-up may come between the sum and the commit.
LOCK TABLE metering_reading IN SHARE MODE;
INSERT INTO metering_readinghour
    SELECT organization_id, date_bin('1 hour', starts_at, '2000-01-01T00:00Z'), rating_key_id,
           register, sum(quantity)::bigint
    FROM metering_reading GROUP BY 1, 2, 3, 4;
"""
DROP = "DROP TABLE metering_readinghour;"


class Migration(migrations.Migration):
    dependencies = [("metering", "0001_initial")]
    operations = [
        migrations.RunSQL(CREATE, DROP),
        migrations.CreateModel(
            name="ReadingHour",
            fields=[
                ("pk", models.CompositePrimaryKey("organization_id", "starts_at", "rating_key_id", "register", blank=True, editable=False, primary_key=True, serialize=False)),
                ("organization_id", models.BigIntegerField()),
                ("starts_at", models.DateTimeField()),
                ("rating_key_id", models.BigIntegerField()),
                ("register", models.TextField()),
                ("quantity", models.BigIntegerField()),
            ],
            options={"db_table": "metering_readinghour", "managed": False},
        ),
    ]
