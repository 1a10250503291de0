"""Tallies of blocks of batches, so that counting the events of a period goes on where it was.

Nothing depends on them: each says what it was counted from, and whoever reads it compares. Valid on
PostgreSQL 15 to 18.
"""

from django.db import migrations

CREATE = """
CREATE TABLE metering_tallyblock (
    organization_id bigint        NOT NULL,
    starts          timestamptz[] NOT NULL,
    ends_at         timestamptz   NOT NULL,
    first_id        bigint        NOT NULL,
    last_id         bigint        NOT NULL,
    batches         integer       NOT NULL,
    limits_sum      bigint        NOT NULL,
    voids           bigint        NOT NULL,
    events          bigint        NOT NULL,
    applied_first   timestamptz   NOT NULL,
    applied_last    timestamptz   NOT NULL,
    tallies         jsonb         NOT NULL,
    counted_at      timestamptz   NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (organization_id, ends_at, starts, first_id),
    CONSTRAINT tally_block_runs_forward CHECK (first_id <= last_id)
);
CREATE INDEX metering_tallyblock_by_age ON metering_tallyblock (counted_at);
"""
DROP = "DROP TABLE metering_tallyblock;"


class Migration(migrations.Migration):
    dependencies = [("metering", "0011_closed_periods")]
    operations = [migrations.RunSQL(CREATE, DROP)]
