"""Events lie in segments, one row per batch; names and sources are kept once; identities are packed.

What is stored is turned over as it stands, in the order in which it came, counted and summed before
and after; a difference undoes everything. There is no way back but a backup. docs/decisions/0014
says why. Valid on PostgreSQL 15 to 18.
"""

from django.db import migrations, models
from django.utils import timezone

from metering import partitions

CREATE = r"""
-- Nobody may report or sum while the events are turned over.
LOCK TABLE metering_ingestbatch, metering_event, metering_eventkey, metering_ratingkey
    IN ACCESS EXCLUSIVE MODE;

-- An id as it is kept: a canonical UUID is 0xff and its sixteen bytes, in the same order; every other
-- text is its UTF-8, which never has a byte 0xff. So no two ids are packed alike.
CREATE FUNCTION metering_packed(id text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
    THEN '\xff'::bytea || decode(replace(id, '-', ''), 'hex') ELSE convert_to(id, 'UTF8') END;
CREATE FUNCTION metering_unpacked(packed bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN get_byte(packed, 0) = 255
    THEN encode(substring(packed FROM 2), 'hex')::uuid::text ELSE convert_from(packed, 'UTF8') END;

CREATE SEQUENCE metering_source_id_seq AS integer;
CREATE TABLE metering_source (
    organization_id bigint  NOT NULL,
    id              integer NOT NULL DEFAULT nextval('metering_source_id_seq'),
    name            text    NOT NULL COLLATE "C",
    PRIMARY KEY (organization_id, id),
    CONSTRAINT source_once UNIQUE (organization_id, name)
);

-- Whatever repeats from event to event, once; the empty text stands for an absent name.
CREATE SEQUENCE metering_attribution_id_seq AS integer;
CREATE TABLE metering_attribution (
    organization_id bigint  NOT NULL,
    id              integer NOT NULL DEFAULT nextval('metering_attribution_id_seq'),
    project_id      bigint  NOT NULL,
    model           text    NOT NULL COLLATE "C",
    api_key         text    NOT NULL COLLATE "C",
    agent           text    NOT NULL COLLATE "C",
    region          text    NOT NULL COLLATE "C",
    service_class   text    NOT NULL COLLATE "C",
    PRIMARY KEY (organization_id, id),
    CONSTRAINT attribution_once
        UNIQUE (organization_id, project_id, model, api_key, agent, region, service_class)
);

-- The columns stand in this order because a row of a UUID then takes 64 bytes without a gap.
CREATE TABLE metering_identity (
    organization_id bigint   NOT NULL,
    batch_id        bigint   NOT NULL,
    source_id       integer  NOT NULL,
    ordinal         smallint NOT NULL,
    id              bytea    NOT NULL,
    PRIMARY KEY (organization_id, source_id, id)
);

-- One row per batch, one array element per event. A register is an integer here, because half the
-- bytes are half the work; the rare quantity above 2,147,483,647 lies in `extra` instead, beside the
-- registers that have no column. An array of which every element would be null is null itself.
CREATE TABLE metering_segment (
    organization_id bigint        NOT NULL,
    batch_id        bigint        NOT NULL,
    received_at     timestamptz   NOT NULL,
    ordinals        smallint[]    NOT NULL,
    occurred_at     timestamptz[] NOT NULL,
    attribution_ids integer[]     NOT NULL,
    sessions        text[],
    input           integer[],
    cache_read      integer[],
    cache_write     integer[],
    output          integer[],
    reasoning       integer[],
    extra           jsonb[],
    PRIMARY KEY (organization_id, batch_id, received_at),
    CONSTRAINT segment_is_whole CHECK (
        cardinality(ordinals) > 0
        AND array_ndims(ordinals) = 1 AND array_lower(ordinals, 1) = 1
        AND cardinality(occurred_at) = cardinality(ordinals)
        AND cardinality(attribution_ids) = cardinality(ordinals)
        AND cardinality(coalesce(sessions, ordinals::text[])) = cardinality(ordinals)
        AND cardinality(coalesce(input, attribution_ids)) = cardinality(ordinals)
        AND cardinality(coalesce(cache_read, attribution_ids)) = cardinality(ordinals)
        AND cardinality(coalesce(cache_write, attribution_ids)) = cardinality(ordinals)
        AND cardinality(coalesce(output, attribution_ids)) = cardinality(ordinals)
        AND cardinality(coalesce(reasoning, attribution_ids)) = cardinality(ordinals)
        AND (extra IS NULL OR cardinality(extra) = cardinality(ordinals))
        AND array_position(ordinals, NULL) IS NULL
        AND array_position(occurred_at, NULL) IS NULL
        AND array_position(attribution_ids, NULL) IS NULL),
    CONSTRAINT usage_event_instants_are_sane CHECK (
        '1970-01-01T00:00Z' <= ALL (occurred_at) AND '2201-01-01T00:00Z' > ALL (occurred_at)),
    CONSTRAINT usage_event_quantities_are_sane CHECK (
        0 <= ALL (input) AND 0 <= ALL (cache_read) AND 0 <= ALL (cache_write)
        AND 0 <= ALL (output) AND 0 <= ALL (reasoning))
) PARTITION BY RANGE (received_at);
-- Numbers are kept as they are: to compress them costs more than to write them.
ALTER TABLE metering_segment
    ALTER ordinals SET STORAGE EXTERNAL, ALTER occurred_at SET STORAGE EXTERNAL,
    ALTER attribution_ids SET STORAGE EXTERNAL, ALTER input SET STORAGE EXTERNAL,
    ALTER cache_read SET STORAGE EXTERNAL, ALTER cache_write SET STORAGE EXTERNAL,
    ALTER output SET STORAGE EXTERNAL, ALTER reasoning SET STORAGE EXTERNAL;
-- What no partition was made for still has a place; the console says when anything lies here.
CREATE TABLE metering_segment_overflow PARTITION OF metering_segment DEFAULT;
DO $$
DECLARE week record;
BEGIN
    FOR week IN
        SELECT child.relname, pg_get_expr(child.relpartbound, child.oid) AS bounds
        FROM pg_inherits JOIN pg_class child ON child.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = 'metering_event'::regclass
          AND child.relname <> 'metering_event_overflow'
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF metering_segment %s',
            replace(week.relname, 'metering_event', 'metering_segment'), week.bounds);
    END LOOP;
END $$;
"""

CONVERT = r"""
INSERT INTO metering_source (organization_id, name)
    SELECT DISTINCT organization_id, source FROM metering_eventkey ORDER BY 1, 2;
INSERT INTO metering_attribution
    (organization_id, project_id, model, api_key, agent, region, service_class)
    SELECT DISTINCT organization_id, project_id, model, coalesce(api_key, ''), coalesce(agent, ''),
           coalesce(region, ''), coalesce(service_class, '')
    FROM metering_event ORDER BY 1, 2, 3, 4, 5, 6, 7;
INSERT INTO metering_identity (organization_id, batch_id, source_id, ordinal, id)
    SELECT key.organization_id, key.batch_id, source.id, key.ordinal, metering_packed(key.event_id)
    FROM metering_eventkey key
    JOIN metering_source source
      ON source.organization_id = key.organization_id AND source.name = key.source
    ORDER BY key.batch_id, source.id, metering_packed(key.event_id);

CREATE FUNCTION pg_temp.unless_empty(anyarray) RETURNS anyarray LANGUAGE sql IMMUTABLE
AS 'SELECT CASE WHEN cardinality(array_remove($1, NULL)) > 0 THEN $1 END';
CREATE FUNCTION pg_temp.narrow(bigint) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE WHEN $1 <= 2147483647 THEN $1::integer END;
CREATE FUNCTION pg_temp.wide(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE WHEN $1 > 2147483647 THEN $1 END;
INSERT INTO metering_segment
    SELECT event.organization_id, event.batch_id, event.received_at,
        array_agg(event.ordinal ORDER BY event.ordinal),
        array_agg(event.occurred_at ORDER BY event.ordinal),
        array_agg(attribution.id ORDER BY event.ordinal),
        pg_temp.unless_empty(array_agg(event.session ORDER BY event.ordinal)),
        pg_temp.unless_empty(array_agg(pg_temp.narrow(event.input) ORDER BY event.ordinal)),
        pg_temp.unless_empty(array_agg(pg_temp.narrow(event.cache_read) ORDER BY event.ordinal)),
        pg_temp.unless_empty(array_agg(pg_temp.narrow(event.cache_write) ORDER BY event.ordinal)),
        pg_temp.unless_empty(array_agg(pg_temp.narrow(event.output) ORDER BY event.ordinal)),
        pg_temp.unless_empty(array_agg(pg_temp.narrow(event.reasoning) ORDER BY event.ordinal)),
        pg_temp.unless_empty(array_agg(nullif(coalesce(event.other, '{}') || jsonb_strip_nulls(
            jsonb_build_object('input', pg_temp.wide(event.input),
                'cache_read', pg_temp.wide(event.cache_read),
                'cache_write', pg_temp.wide(event.cache_write),
                'output', pg_temp.wide(event.output),
                'reasoning', pg_temp.wide(event.reasoning))), '{}') ORDER BY event.ordinal))
    FROM metering_event event
    JOIN metering_attribution attribution
      ON (attribution.organization_id, attribution.project_id, attribution.model,
          attribution.api_key, attribution.agent, attribution.region, attribution.service_class)
       = (event.organization_id, event.project_id, event.model, coalesce(event.api_key, ''),
          coalesce(event.agent, ''), coalesce(event.region, ''), coalesce(event.service_class, ''))
    GROUP BY event.batch_id, event.organization_id, event.received_at
    ORDER BY event.batch_id;
ALTER TABLE metering_event RENAME TO metering_event_before;
ALTER TABLE metering_eventkey RENAME TO metering_eventkey_before;
"""

# Once the identities are in, so that they are summed up in one go.
INDEX = """
-- A batch's identities lie side by side, so the first and last batch of each stretch of pages are
-- index enough: a B-tree here costs a fifth of the whole insert.
CREATE INDEX metering_identity_by_batch ON metering_identity
    USING brin (batch_id) WITH (pages_per_range = 64, autosummarize = on);
"""

VIEWS = """
CREATE VIEW metering_event AS
    SELECT segment.received_at, event.occurred_at, segment.organization_id, segment.batch_id,
           attribution.project_id,
           coalesce(event.input, (event.extra ->> 'input')::bigint) AS input,
           coalesce(event.cache_read, (event.extra ->> 'cache_read')::bigint) AS cache_read,
           coalesce(event.cache_write, (event.extra ->> 'cache_write')::bigint) AS cache_write,
           coalesce(event.output, (event.extra ->> 'output')::bigint) AS output,
           coalesce(event.reasoning, (event.extra ->> 'reasoning')::bigint) AS reasoning,
           event.ordinal, attribution.model, nullif(attribution.api_key, '') AS api_key,
           nullif(attribution.agent, '') AS agent, event.session,
           nullif(attribution.region, '') AS region,
           nullif(attribution.service_class, '') AS service_class,
           nullif(event.extra - '{input,cache_read,cache_write,output,reasoning}'::text[],
                  '{}') AS other,
           event.attribution_id
    FROM metering_segment segment
    CROSS JOIN LATERAL unnest(segment.ordinals, segment.occurred_at, segment.attribution_ids,
        segment.sessions, segment.input, segment.cache_read, segment.cache_write, segment.output,
        segment.reasoning, segment.extra)
        AS event (ordinal, occurred_at, attribution_id, session, input, cache_read, cache_write,
                  output, reasoning, extra)
    LEFT JOIN metering_attribution attribution
      ON attribution.organization_id = segment.organization_id
     AND attribution.id = event.attribution_id;

CREATE VIEW metering_eventkey AS
    SELECT identity.organization_id, source.name AS source,
           metering_unpacked(identity.id) AS event_id, identity.batch_id, identity.ordinal
    FROM metering_identity identity
    JOIN metering_source source
      ON source.organization_id = identity.organization_id AND source.id = identity.source_id;
"""

VERIFY = r"""
DO $$
DECLARE
    sums text := 'SELECT ROW(count(*), sum(input), sum(cache_read), sum(cache_write), sum(output),'
        ' sum(reasoning), count(session), sum(hashtextextended(ROW(received_at, occurred_at,'
        ' organization_id, batch_id, ordinal, project_id, input, cache_read, cache_write, output,'
        ' reasoning, model, api_key, agent, session, region, service_class, other)::text, 0)))::text'
        ' FROM %s';
    keys text := 'SELECT ROW(count(*), sum(hashtextextended(ROW(organization_id, source, event_id,'
        ' batch_id, ordinal)::text, 0)))::text FROM %s';
    asked text;
    was text;
    became text;
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['metering_event', 'metering_eventkey'] LOOP
        asked := CASE name WHEN 'metering_event' THEN sums ELSE keys END;
        EXECUTE format(asked, name || '_before') INTO was;
        EXECUTE format(asked, name) INTO became;
        IF was IS DISTINCT FROM became THEN
            RAISE EXCEPTION '% was %, and would become %: nothing was changed', name, was, became;
        END IF;
    END LOOP;
END $$;
DROP TABLE metering_event_before, metering_eventkey_before;
"""

GUARD = """
CREATE TRIGGER usage_events_are_append_only BEFORE UPDATE OR DELETE ON metering_segment
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER usage_events_are_never_emptied BEFORE TRUNCATE ON metering_segment
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER event_keys_are_append_only BEFORE UPDATE OR DELETE ON metering_identity
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER event_keys_are_never_emptied BEFORE TRUNCATE ON metering_identity
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER attributions_are_append_only BEFORE UPDATE OR DELETE ON metering_attribution
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER attributions_are_never_emptied BEFORE TRUNCATE ON metering_attribution
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER sources_are_append_only BEFORE UPDATE OR DELETE ON metering_source
    FOR EACH ROW EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER sources_are_never_emptied BEFORE TRUNCATE ON metering_source
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();
"""

RATING_KEYS = """
-- What cannot be told from a sum is part of the key. Readings made before know nothing of it: they are
-- of requests of the lowest band, as it were, until their organization's readings are rebuilt.
ALTER TABLE metering_ratingkey
    ADD input_band bigint  NOT NULL DEFAULT 0,
    ADD thinking   boolean NOT NULL DEFAULT false,
    ADD attributes text    NOT NULL DEFAULT '' COLLATE "C",
    DROP CONSTRAINT rating_key_once,
    ADD CONSTRAINT rating_key_once UNIQUE (organization_id, project_id, model, api_key, agent, region,
        service_class, input_band, thinking, attributes);

-- What was never tried, organization by organization, so that they take turns.
CREATE INDEX metering_ingestbatch_untried ON metering_ingestbatch (organization_id, id)
    WHERE state = 'pending' AND attempts = 0;
"""


def make_partitions(apps, schema_editor):
    """This week's partition and the next ones, so that the first event has a place of its own."""
    partitions.ensure(schema_editor.connection, timezone.now())


class Migration(migrations.Migration):
    dependencies = [("metering", "0004_quarantine")]
    operations = [
        migrations.RunSQL([CREATE, CONVERT, INDEX, VIEWS, VERIFY, GUARD, RATING_KEYS]),
        migrations.RunPython(make_partitions, migrations.RunPython.noop),
        migrations.RemoveField("eventkey", "fingerprint"),
        migrations.AddField("usageevent", "attribution_id", models.IntegerField()),
        migrations.AddField("ratingkey", "input_band", models.BigIntegerField(db_default=0)),
        migrations.AddField("ratingkey", "thinking", models.BooleanField(db_default=False)),
        migrations.AddField("ratingkey", "attributes", models.TextField(db_default="")),
    ]
