"""The heavy tables, in SQL: Django cannot say partitions, and their shape is their speed.

Valid on PostgreSQL 15 to 18. Every primary and unique key begins with organization_id and no table
has a foreign key, so that `create_distributed_table(..., 'organization_id')` takes them as they are.
"""

from django.db import migrations, models
from django.utils import timezone
import django.db.models.functions.datetime

from metering import partitions

CREATE = """
CREATE SEQUENCE metering_ingestbatch_id_seq;
CREATE TABLE metering_ingestbatch (
    organization_id bigint      NOT NULL,
    id              bigint      NOT NULL DEFAULT nextval('metering_ingestbatch_id_seq'),
    received_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    api_key_id      bigint      NOT NULL,
    submitted       integer     NOT NULL,
    accepted        integer     NOT NULL,
    duplicate       integer     NOT NULL,
    conflict        integer     NOT NULL,
    rejected        integer     NOT NULL,
    state           text        NOT NULL DEFAULT 'pending',
    attempts        smallint    NOT NULL DEFAULT 0,
    lease_token     uuid,
    lease_until     timestamptz,
    last_error      text        NOT NULL DEFAULT '',
    applied_at      timestamptz,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT ingest_batch_counts_add_up
        CHECK (submitted = accepted + duplicate + conflict + rejected AND least(
            accepted, duplicate, conflict, rejected) >= 0),
    CONSTRAINT ingest_batch_state_is_known CHECK (state IN ('pending', 'applied', 'failed')),
    CONSTRAINT ingest_batch_applied_has_instant CHECK ((state = 'applied') = (applied_at IS NOT NULL))
);
-- The work list: only what is not done yet is in this index, so it stays small for ever.
CREATE INDEX metering_ingestbatch_open ON metering_ingestbatch (id) WHERE state <> 'applied';
-- The console's last 24 hours: batches lie in the order in which they came, so the first and the last
-- moment of each stretch of pages are index enough (40 kB for 1.2 million batches; a B-tree has 27 MB).
CREATE INDEX metering_ingestbatch_by_arrival ON metering_ingestbatch
    USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);
ALTER TABLE metering_ingestbatch SET (autovacuum_vacuum_scale_factor = 0.02, fillfactor = 80);

CREATE TABLE metering_eventkey (
    organization_id bigint   NOT NULL,
    source          text     NOT NULL COLLATE "C",
    event_id        text     NOT NULL COLLATE "C",
    batch_id        bigint   NOT NULL,
    ordinal         smallint NOT NULL,
    fingerprint     bytea    NOT NULL,
    PRIMARY KEY (organization_id, source, event_id)
);
-- From an event back to its source and id; equal entries share space, so this costs 7 bytes a row.
CREATE INDEX metering_eventkey_by_batch ON metering_eventkey (organization_id, batch_id);

CREATE TABLE metering_event (
    received_at     timestamptz NOT NULL,
    occurred_at     timestamptz NOT NULL,
    organization_id bigint      NOT NULL,
    batch_id        bigint      NOT NULL,
    project_id      bigint      NOT NULL,
    input           bigint,
    cache_read      bigint,
    cache_write     bigint,
    output          bigint,
    reasoning       bigint,
    ordinal         smallint    NOT NULL,
    model           text        NOT NULL,
    api_key         text,
    agent           text,
    session         text,
    region          text,
    service_class   text,
    other           jsonb,
    CONSTRAINT usage_event_quantities_are_sane CHECK (
        coalesce(input, 0) BETWEEN 0 AND 1000000000000
        AND coalesce(cache_read, 0) BETWEEN 0 AND 1000000000000
        AND coalesce(cache_write, 0) BETWEEN 0 AND 1000000000000
        AND coalesce(output, 0) BETWEEN 0 AND 1000000000000
        AND coalesce(reasoning, 0) BETWEEN 0 AND 1000000000000)
) PARTITION BY RANGE (received_at);
CREATE INDEX metering_event_by_batch ON metering_event (organization_id, batch_id);
-- What no partition was made for still has a place; the console says when anything lies here.
CREATE TABLE metering_event_overflow PARTITION OF metering_event DEFAULT;

CREATE SEQUENCE metering_ratingkey_id_seq;
CREATE TABLE metering_ratingkey (
    organization_id bigint NOT NULL,
    id              bigint NOT NULL DEFAULT nextval('metering_ratingkey_id_seq'),
    project_id      bigint NOT NULL,
    model           text   NOT NULL COLLATE "C",
    api_key         text   NOT NULL COLLATE "C",
    agent           text   NOT NULL COLLATE "C",
    region          text   NOT NULL COLLATE "C",
    service_class   text   NOT NULL COLLATE "C",
    PRIMARY KEY (organization_id, id),
    CONSTRAINT rating_key_once
        UNIQUE (organization_id, project_id, model, api_key, agent, region, service_class)
);

CREATE TABLE metering_reading (
    organization_id bigint      NOT NULL,
    starts_at       timestamptz NOT NULL,
    rating_key_id   bigint      NOT NULL,
    register        text        NOT NULL COLLATE "C",
    quantity        bigint      NOT NULL,
    PRIMARY KEY (organization_id, starts_at, rating_key_id, register),
    CONSTRAINT reading_starts_on_a_quarter_hour
        CHECK (date_bin('15 minutes', starts_at, '2000-01-01T00:00Z') = starts_at),
    CONSTRAINT reading_is_not_negative CHECK (quantity >= 0)
);
ALTER TABLE metering_reading SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- An event, once accepted, is a fact: corrections are new events.
CREATE FUNCTION metering_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: correct it with a new event', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER usage_events_are_append_only BEFORE UPDATE OR DELETE ON metering_event
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER event_keys_are_append_only BEFORE UPDATE OR DELETE ON metering_eventkey
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
"""

DROP = """
DROP TABLE metering_reading, metering_ratingkey, metering_event, metering_eventkey,
    metering_ingestbatch;
DROP FUNCTION metering_refuse_change();
DROP SEQUENCE metering_ratingkey_id_seq, metering_ingestbatch_id_seq;
"""


def make_partitions(apps, schema_editor):
    """This week's partition and the next ones, so that the first event has a place of its own."""
    partitions.ensure(schema_editor.connection, timezone.now(), table="metering_event")


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.RunSQL(CREATE, DROP),
        migrations.RunPython(make_partitions, migrations.RunPython.noop),
        migrations.CreateModel(
            name='EventKey',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'source', 'event_id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('source', models.TextField()),
                ('event_id', models.TextField()),
                ('batch_id', models.BigIntegerField()),
                ('ordinal', models.SmallIntegerField()),
                ('fingerprint', models.BinaryField()),
            ],
            options={
                'db_table': 'metering_eventkey',
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='IngestBatch',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('id', models.BigIntegerField()),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('api_key_id', models.BigIntegerField()),
                ('submitted', models.IntegerField()),
                ('accepted', models.IntegerField()),
                ('duplicate', models.IntegerField()),
                ('conflict', models.IntegerField()),
                ('rejected', models.IntegerField()),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('applied', 'Applied'), ('failed', 'Failed')], max_length=8)),
                ('attempts', models.SmallIntegerField(default=0)),
                ('lease_token', models.UUIDField(null=True)),
                ('lease_until', models.DateTimeField(null=True)),
                ('last_error', models.TextField(blank=True, default='')),
                ('applied_at', models.DateTimeField(null=True)),
            ],
            options={
                'db_table': 'metering_ingestbatch',
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='RatingKey',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('id', models.BigIntegerField()),
                ('project_id', models.BigIntegerField()),
                ('model', models.TextField()),
                ('api_key', models.TextField()),
                ('agent', models.TextField()),
                ('region', models.TextField()),
                ('service_class', models.TextField()),
            ],
            options={
                'db_table': 'metering_ratingkey',
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='Reading',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'starts_at', 'rating_key_id', 'register', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('starts_at', models.DateTimeField()),
                ('rating_key_id', models.BigIntegerField()),
                ('register', models.TextField()),
                ('quantity', models.BigIntegerField()),
            ],
            options={
                'db_table': 'metering_reading',
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='UsageEvent',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'batch_id', 'ordinal', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('batch_id', models.BigIntegerField()),
                ('ordinal', models.SmallIntegerField()),
                ('received_at', models.DateTimeField()),
                ('occurred_at', models.DateTimeField()),
                ('project_id', models.BigIntegerField()),
                ('model', models.TextField()),
                ('api_key', models.TextField(null=True)),
                ('agent', models.TextField(null=True)),
                ('session', models.TextField(null=True)),
                ('region', models.TextField(null=True)),
                ('service_class', models.TextField(null=True)),
                ('input', models.BigIntegerField(null=True)),
                ('cache_read', models.BigIntegerField(null=True)),
                ('cache_write', models.BigIntegerField(null=True)),
                ('output', models.BigIntegerField(null=True)),
                ('reasoning', models.BigIntegerField(null=True)),
                ('other', models.JSONField(null=True)),
            ],
            options={
                'db_table': 'metering_event',
                'managed': False,
            },
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('worker', models.CharField(max_length=120, primary_key=True, serialize=False)),
                ('seen_at', models.DateTimeField()),
            ],
        ),
    ]
