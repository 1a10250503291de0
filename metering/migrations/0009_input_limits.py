"""Limits of input are rows: sets that only grow, and for each batch the set it was told apart by.

What was summed under a smaller set is summed anew where a tariff asks for more, batch by batch.
docs/decisions/0018 says why. Valid on PostgreSQL 15 to 18.
"""

from django.db import migrations, models

CREATE = """
CREATE TABLE metering_inputlimits (
    version         smallint    NOT NULL PRIMARY KEY,
    limits          bigint[]    NOT NULL,
    takes_effect_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason          text        NOT NULL,
    CONSTRAINT input_limits_are_few CHECK (cardinality(limits) BETWEEN 1 AND 64),
    CONSTRAINT input_limits_are_sizes CHECK (0 < ALL (limits) AND array_position(limits, NULL) IS NULL)
);
CREATE FUNCTION metering_limits_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last metering_inputlimits;
BEGIN
    SELECT * INTO last FROM metering_inputlimits ORDER BY version DESC LIMIT 1;
    IF new.version <> coalesce(last.version, 0) + 1 THEN
        RAISE EXCEPTION 'the next set of limits is number %, not %', coalesce(last.version, 0) + 1,
            new.version USING ERRCODE = 'restrict_violation';
    END IF;
    IF NOT new.limits @> coalesce(last.limits, '{}') OR new.limits <@ coalesce(last.limits, '{}') THEN
        RAISE EXCEPTION 'a set of limits adds to the one before it and takes nothing away'
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF new.limits <> ARRAY(SELECT DISTINCT one FROM unnest(new.limits) AS one ORDER BY one) THEN
        RAISE EXCEPTION 'limits rise' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER input_limits_only_grow BEFORE INSERT ON metering_inputlimits
    FOR EACH ROW EXECUTE FUNCTION metering_limits_only_grow();
CREATE TRIGGER input_limits_are_append_only BEFORE UPDATE OR DELETE ON metering_inputlimits
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER input_limits_are_never_emptied BEFORE TRUNCATE ON metering_inputlimits
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();
-- Both the decimal and the binary reading of "128K", because sellers do not say which they mean.
INSERT INTO metering_inputlimits (version, limits, reason) VALUES (1, '{
    16000, 16384, 32000, 32768, 64000, 65536, 128000, 131072, 200000, 204800, 252000, 256000,
    258048, 262144, 272000, 278528, 512000, 524288, 1000000, 1048576}', 'sizes that sellers price by');

-- The set by which a batch's events are told apart in the readings, once they are in them.
ALTER TABLE metering_ingestbatch ADD limits_version smallint NOT NULL DEFAULT 1;

CREATE SEQUENCE metering_reaggregation_id_seq;
CREATE TABLE metering_reaggregation (
    organization_id bigint      NOT NULL,
    id              bigint      NOT NULL DEFAULT nextval('metering_reaggregation_id_seq'),
    version         smallint    NOT NULL,
    starts_at       timestamptz NOT NULL,
    asked_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    reached_id      bigint      NOT NULL DEFAULT 0,
    stepped_at      timestamptz,
    attempts        smallint    NOT NULL DEFAULT 0,
    retry_at        timestamptz,
    last_error      text        NOT NULL DEFAULT '',
    finished_at     timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX metering_reaggregation_open ON metering_reaggregation (organization_id, starts_at)
    WHERE finished_at IS NULL;
"""
DROP = """
DROP TABLE metering_reaggregation;
DROP SEQUENCE metering_reaggregation_id_seq;
ALTER TABLE metering_ingestbatch DROP limits_version;
DROP TABLE metering_inputlimits;
DROP FUNCTION metering_limits_only_grow();
"""


class Migration(migrations.Migration):
    dependencies = [("metering", "0008_quarantine_days")]
    operations = [
        migrations.RunSQL(CREATE, DROP),
        migrations.AddField("ingestbatch", "limits_version", models.SmallIntegerField(db_default=1)),
        migrations.CreateModel(
            name="Reaggregation",
            fields=[
                ("pk", models.CompositePrimaryKey("organization_id", "id", blank=True, editable=False, primary_key=True, serialize=False)),
                ("organization_id", models.BigIntegerField()),
                ("id", models.BigIntegerField()),
                ("version", models.SmallIntegerField()),
                ("starts_at", models.DateTimeField()),
                ("asked_at", models.DateTimeField()),
                ("reached_id", models.BigIntegerField()),
                ("stepped_at", models.DateTimeField(null=True)),
                ("attempts", models.SmallIntegerField()),
                ("retry_at", models.DateTimeField(null=True)),
                ("last_error", models.TextField()),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "metering_reaggregation", "managed": False},
        ),
    ]
