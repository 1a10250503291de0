"""Voids and backfills: what takes usage back, and what adds usage of long ago.

A void is a row of its own, at most one for an event, and takes an identity as an event does. A
backfill's batches are held until it is closed; where it is reverted, they count no more.
docs/decisions/0013 says why. Valid on PostgreSQL 15 to 18.
"""

from django.db import migrations, models

CREATE = """
CREATE TABLE metering_void (
    organization_id    bigint      NOT NULL,
    target_batch_id    bigint      NOT NULL,
    target_received_at timestamptz NOT NULL,
    target_ordinal     smallint    NOT NULL,
    batch_id           bigint      NOT NULL,
    received_at        timestamptz NOT NULL,
    ordinal            smallint    NOT NULL,
    is_amendment       boolean     NOT NULL,
    reaches_back_to    timestamptz NOT NULL,
    api_key_id         bigint      NOT NULL,
    reason             text,
    CONSTRAINT event_is_voided_once PRIMARY KEY (organization_id, target_batch_id, target_ordinal),
    CONSTRAINT void_takes_one_event_back UNIQUE (organization_id, batch_id, ordinal),
    CONSTRAINT void_comes_after_its_event
        CHECK ((target_batch_id, target_ordinal) < (batch_id, ordinal))
);
CREATE INDEX metering_void_by_arrival ON metering_void (organization_id, received_at);
CREATE TRIGGER voids_are_append_only BEFORE UPDATE OR DELETE ON metering_void
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER voids_are_never_emptied BEFORE TRUNCATE ON metering_void
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();

CREATE SEQUENCE metering_backfill_id_seq;
CREATE TABLE metering_backfill (
    organization_id bigint      NOT NULL,
    id              bigint      NOT NULL DEFAULT nextval('metering_backfill_id_seq'),
    state           text        NOT NULL DEFAULT 'open',
    reason          text        NOT NULL,
    starts_at       timestamptz NOT NULL,
    ends_at         timestamptz NOT NULL,
    opened_by       text        NOT NULL,
    opened_at       timestamptz NOT NULL,
    closed_at       timestamptz,
    reverted_at     timestamptz,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT backfill_says_why CHECK (reason <> ''),
    CONSTRAINT backfill_runs_forward CHECK (starts_at < ends_at),
    CONSTRAINT backfill_state_is_known CHECK (CASE state
        WHEN 'open' THEN closed_at IS NULL AND reverted_at IS NULL
        WHEN 'closed' THEN closed_at IS NOT NULL AND reverted_at IS NULL
        WHEN 'reverted' THEN reverted_at IS NOT NULL
        ELSE false END)
);
CREATE INDEX metering_backfill_open ON metering_backfill (opened_at) WHERE state = 'open';

-- How far back a replay of rejected events reached, where that was further than events may be late.
CREATE TABLE metering_reach (
    organization_id bigint      NOT NULL,
    noted_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    reaches_back_to timestamptz NOT NULL,
    PRIMARY KEY (organization_id, noted_at, reaches_back_to)
);

-- A batch of a backfill: which one, when that was closed or reverted, and the sums of its events.
ALTER TABLE metering_ingestbatch
    ADD backfill_id bigint,
    ADD released_at timestamptz,
    ADD sums jsonb,
    DROP CONSTRAINT ingest_batch_state_is_known,
    ADD CONSTRAINT ingest_batch_state_is_known CHECK (state IN ('pending', 'applied', 'failed')
        OR (state IN ('held', 'reverting', 'reverted') AND backfill_id IS NOT NULL)),
    DROP CONSTRAINT ingest_batch_applied_has_instant,
    ADD CONSTRAINT ingest_batch_applied_has_instant CHECK (state = 'reverted'
        OR (state IN ('applied', 'reverting')) = (applied_at IS NOT NULL));
CREATE INDEX metering_ingestbatch_by_backfill ON metering_ingestbatch (organization_id, backfill_id)
    WHERE backfill_id IS NOT NULL;
-- What is held or reverted is no work, and is not in the work list.
DROP INDEX metering_ingestbatch_open;
CREATE INDEX metering_ingestbatch_open ON metering_ingestbatch (id)
    WHERE state IN ('pending', 'failed', 'reverting');
"""
DROP = """
DROP INDEX metering_ingestbatch_open, metering_ingestbatch_by_backfill;
CREATE INDEX metering_ingestbatch_open ON metering_ingestbatch (id) WHERE state <> 'applied';
ALTER TABLE metering_ingestbatch
    DROP CONSTRAINT ingest_batch_state_is_known,
    ADD CONSTRAINT ingest_batch_state_is_known CHECK (state IN ('pending', 'applied', 'failed')),
    DROP CONSTRAINT ingest_batch_applied_has_instant,
    ADD CONSTRAINT ingest_batch_applied_has_instant CHECK ((state = 'applied') = (applied_at IS NOT NULL)),
    DROP backfill_id, DROP released_at, DROP sums;
DROP TABLE metering_backfill, metering_void, metering_reach;
DROP SEQUENCE metering_backfill_id_seq;
"""

STATES = [('pending', 'Pending'), ('applied', 'Applied'), ('failed', 'Failed'), ('held', 'Held'), ('reverting', 'Reverting'), ('reverted', 'Reverted')]


class Migration(migrations.Migration):
    dependencies = [('metering', '0005_segments')]
    operations = [
        migrations.RunSQL(CREATE, DROP),
        migrations.CreateModel(
            name='Backfill',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('id', models.BigIntegerField()),
                ('state', models.TextField(choices=[('open', 'Open'), ('closed', 'Closed'), ('reverted', 'Reverted')])),
                ('reason', models.TextField()),
                ('starts_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('opened_by', models.TextField()),
                ('opened_at', models.DateTimeField()),
                ('closed_at', models.DateTimeField(null=True)),
                ('reverted_at', models.DateTimeField(null=True)),
            ],
            options={'db_table': 'metering_backfill', 'managed': False},
        ),
        migrations.CreateModel(
            name='Void',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'target_batch_id', 'target_ordinal', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('target_batch_id', models.BigIntegerField()),
                ('target_received_at', models.DateTimeField()),
                ('target_ordinal', models.SmallIntegerField()),
                ('batch_id', models.BigIntegerField()),
                ('received_at', models.DateTimeField()),
                ('ordinal', models.SmallIntegerField()),
                ('is_amendment', models.BooleanField()),
                ('reaches_back_to', models.DateTimeField()),
                ('api_key_id', models.BigIntegerField()),
                ('reason', models.TextField(null=True)),
            ],
            options={'db_table': 'metering_void', 'managed': False},
        ),
        migrations.AddField('ingestbatch', 'backfill_id', models.BigIntegerField(null=True)),
        migrations.AddField('ingestbatch', 'released_at', models.DateTimeField(null=True)),
        migrations.AddField('ingestbatch', 'sums', models.JSONField(null=True)),
        migrations.AlterField('ingestbatch', 'state', models.CharField(choices=STATES, max_length=9)),
    ]
