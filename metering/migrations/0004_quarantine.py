"""Where rejected and conflicting events are kept, raw, for thirty days."""

from django.db import migrations, models

CREATE = """
CREATE SEQUENCE metering_rejection_id_seq;
CREATE TABLE metering_rejection (
    organization_id bigint      NOT NULL,
    id              bigint      NOT NULL DEFAULT nextval('metering_rejection_id_seq'),
    digest          bytea       NOT NULL,
    received_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen            integer     NOT NULL DEFAULT 1,
    batch_id        bigint      NOT NULL,
    api_key_id      bigint      NOT NULL,
    form            text        NOT NULL,
    code            text        NOT NULL COLLATE "C",
    pointer         text        NOT NULL,
    detail          text        NOT NULL,
    event_id        text,
    raw             text        NOT NULL,
    masked          boolean     NOT NULL,
    replayed_at     timestamptz,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT rejection_once UNIQUE (organization_id, digest),
    CONSTRAINT rejection_is_small CHECK (octet_length(raw) <= 8192)
);
CREATE INDEX metering_rejection_by_code ON metering_rejection (organization_id, code, id);
CREATE INDEX metering_rejection_by_age ON metering_rejection (received_at);
"""
DROP = "DROP TABLE metering_rejection; DROP SEQUENCE metering_rejection_id_seq;"


class Migration(migrations.Migration):
    dependencies = [('metering', '0003_events_are_never_emptied')]
    operations = [
        migrations.RunSQL(CREATE, DROP),
        migrations.CreateModel(
            name='Rejection',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('id', models.BigIntegerField()),
                ('digest', models.BinaryField()),
                ('received_at', models.DateTimeField()),
                ('seen', models.IntegerField()),
                ('batch_id', models.BigIntegerField()),
                ('api_key_id', models.BigIntegerField()),
                ('form', models.TextField()),
                ('code', models.TextField()),
                ('pointer', models.TextField()),
                ('detail', models.TextField()),
                ('event_id', models.TextField(null=True)),
                ('raw', models.TextField()),
                ('masked', models.BooleanField()),
                ('replayed_at', models.DateTimeField(null=True)),
            ],
            options={'db_table': 'metering_rejection', 'managed': False},
        ),
    ]
