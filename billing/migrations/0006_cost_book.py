"""What upstreams charge, proposed by imports; and the models they serve. Costs only grow."""

import billing.instants
import django.contrib.postgres.constraints
import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

CREATE = """
CREATE FUNCTION billing_cost_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM billing_refuse('cost_stays', format(
            'cost %s may stand behind a margin; approve another one instead', OLD.id));
    END IF;
    IF to_jsonb(OLD) - '{valid_to,withdrawn_at}'::text[]
        IS DISTINCT FROM to_jsonb(NEW) - '{valid_to,withdrawn_at}'::text[]
        OR (OLD.valid_to IS NOT NULL AND (NEW.valid_to IS NULL OR NEW.valid_to > OLD.valid_to))
        OR (OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at)
    THEN
        PERFORM billing_refuse('cost_is_never_edited', format(
            'cost %s was approved; approve another one', OLD.id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER costs_stay BEFORE UPDATE OR DELETE ON billing_providercost
    FOR EACH ROW EXECUTE FUNCTION billing_cost_guard();
CREATE TRIGGER costs_are_never_emptied BEFORE TRUNCATE ON billing_providercost
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();

-- A name leads to one model: as its own, or as an alias. The lock lines up who adds the same name.
CREATE FUNCTION billing_model_name_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('billing_model_name:' || NEW.name, 0));
    IF (TG_TABLE_NAME = 'billing_modelalias'
            AND EXISTS (SELECT FROM billing_catalogmodel WHERE name = NEW.name))
        OR (TG_TABLE_NAME = 'billing_catalogmodel'
            AND EXISTS (SELECT FROM billing_modelalias WHERE name = NEW.name)) THEN
        PERFORM billing_refuse('model_name_leads_to_one_model', format(
            'the name %s is taken by another model', NEW.name));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER model_names_lead_to_one_model BEFORE INSERT OR UPDATE OF name
    ON billing_catalogmodel FOR EACH ROW EXECUTE FUNCTION billing_model_name_guard();
CREATE TRIGGER model_aliases_lead_to_one_model BEFORE INSERT OR UPDATE OF name
    ON billing_modelalias FOR EACH ROW EXECUTE FUNCTION billing_model_name_guard();
"""

DROP = """
DROP TRIGGER model_aliases_lead_to_one_model ON billing_modelalias;
DROP TRIGGER model_names_lead_to_one_model ON billing_catalogmodel;
DROP TRIGGER costs_are_never_emptied ON billing_providercost;
DROP TRIGGER costs_stay ON billing_providercost;
DROP FUNCTION billing_model_name_guard(), billing_cost_guard();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0005_lines_are_checked_together'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='CatalogModel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='as events name it', max_length=200, unique=True)),
                ('provider', models.CharField(help_text='whom it is bought from', max_length=100)),
                ('title', models.CharField(blank=True, max_length=200)),
                ('context_tokens', models.PositiveIntegerField(blank=True, null=True)),
                ('modalities', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=16), blank=True, default=list, size=None)),
                ('released_on', models.DateField(blank=True, null=True)),
                ('deprecated_on', models.DateField(blank=True, null=True)),
                ('retired_on', models.DateField(blank=True, null=True)),
                ('source', models.CharField(blank=True, max_length=200)),
            ],
            options={
                'verbose_name': 'model',
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('deprecated_on', None), ('retired_on', None), ('retired_on__gte', models.F('deprecated_on')), _connector='OR'), name='catalog_model_retires_after_its_notice')],
            },
        ),
        migrations.CreateModel(
            name='CostImport',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=40)),
                ('version', models.CharField(blank=True, max_length=80)),
                ('digest', models.CharField(help_text='SHA-256 of what was read', max_length=64)),
                ('imported_at', models.DateTimeField()),
                ('priced', models.PositiveIntegerField(help_text='prices in the list')),
                ('faults', models.JSONField(default=list, help_text='entries that were not taken, and why')),
                ('imported_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-imported_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='CostProposal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('source', models.CharField(max_length=40)),
                ('provider', models.CharField(max_length=200)),
                ('model', models.CharField(max_length=200)),
                ('register', models.CharField(max_length=40)),
                ('above', models.PositiveIntegerField(default=0, help_text="of a request's whole input")),
                ('price', models.DecimalField(decimal_places=12, help_text='USD a million', max_digits=24)),
                ('price_before', models.DecimalField(blank=True, decimal_places=12, max_digits=24, null=True)),
                ('valid_from', models.DateTimeField()),
                ('title', models.CharField(blank=True, max_length=200)),
                ('context_tokens', models.PositiveIntegerField(blank=True, null=True)),
                ('aliases', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), blank=True, default=list, size=None)),
                ('jump', models.CharField(blank=True, max_length=200)),
                ('state', models.CharField(choices=[('proposed', 'Proposed'), ('approved', 'Approved'), ('refused', 'Refused'), ('superseded', 'superseded by a later import')], default='proposed', max_length=10)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('cost_import', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='proposals', to='billing.costimport')),
                ('decided_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('proposed_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['provider', 'model', 'register', 'above'],
            },
        ),
        migrations.CreateModel(
            name='ModelAlias',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200, unique=True)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='aliases', to='billing.catalogmodel')),
            ],
            options={
                'verbose_name_plural': 'model aliases',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='ProviderCost',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(max_length=200)),
                ('model', models.CharField(max_length=200)),
                ('register', models.CharField(max_length=40)),
                ('above', models.PositiveIntegerField(default=0, help_text="of a request's whole input")),
                ('price', models.DecimalField(decimal_places=12, help_text='USD a million', max_digits=24)),
                ('valid_from', models.DateTimeField()),
                ('valid_to', models.DateTimeField(blank=True, null=True)),
                ('known_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('withdrawn_at', models.DateTimeField(blank=True, null=True)),
                ('proposal', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='cost', to='billing.costproposal')),
            ],
            options={
                'verbose_name': 'cost',
                'ordering': ['provider', 'model', 'register', 'above', 'valid_from'],
            },
        ),
        migrations.AddConstraint(
            model_name='costproposal',
            constraint=models.CheckConstraint(condition=models.Q(('price__gte', 0)), name='cost_proposal_is_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='costproposal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'approved'), _negated=True), ('jump', ''), models.Q(('decided_by', models.F('proposed_by')), _negated=True), _connector='OR'), name='cost_jump_is_approved_by_another'),
        ),
        migrations.AddConstraint(
            model_name='costproposal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['approved', 'refused']), _negated=True), models.Q(('decided_at__isnull', False), ('decided_by__isnull', False)), _connector='OR'), name='cost_decided_says_by_whom'),
        ),
        migrations.AddConstraint(
            model_name='costproposal',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'proposed')), fields=('source', 'provider', 'model', 'register', 'above'), name='cost_one_open_per_source'),
        ),
        migrations.AddConstraint(
            model_name='providercost',
            constraint=models.CheckConstraint(condition=models.Q(('valid_to', None), ('valid_to__gt', models.F('valid_from')), _connector='OR'), name='cost_runs_forward'),
        ),
        migrations.AddConstraint(
            model_name='providercost',
            constraint=models.CheckConstraint(condition=models.Q(('price__gte', 0)), name='cost_is_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='providercost',
            constraint=django.contrib.postgres.constraints.ExclusionConstraint(condition=models.Q(('withdrawn_at', None)), expressions=[('provider', '='), ('model', '='), ('register', '='), ('above', '='), (billing.instants.InstantRange('valid_from', 'valid_to'), '&&')], name='costs_never_overlap'),
        ),
        migrations.RunSQL(CREATE, DROP),
    ]
