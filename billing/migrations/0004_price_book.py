"""Negotiated terms, and prices that wait for a second person: both only grow."""

import billing.instants
import django.contrib.postgres.constraints
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

CREATE = """
CREATE FUNCTION billing_negotiated_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM billing_refuse('negotiated_terms_stay', format(
            'terms %s of subscription %s may have been billed; publish later ones instead',
            OLD.number, OLD.subscription_id));
    END IF;
    IF to_jsonb(OLD) - '{valid_to,withdrawn_at}'::text[]
        IS DISTINCT FROM to_jsonb(NEW) - '{valid_to,withdrawn_at}'::text[] THEN
        PERFORM billing_refuse('negotiated_terms_are_never_edited', format(
            'terms %s of subscription %s were published; publish new ones',
            OLD.number, OLD.subscription_id));
    END IF;
    IF OLD.valid_to IS NOT NULL AND (NEW.valid_to IS NULL OR NEW.valid_to > OLD.valid_to) THEN
        PERFORM billing_refuse('negotiated_terms_are_never_prolonged', format(
            'terms %s of subscription %s ended at %s; publish new ones',
            OLD.number, OLD.subscription_id, OLD.valid_to));
    END IF;
    IF OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at THEN
        PERFORM billing_refuse('negotiated_terms_stay_withdrawn', format(
            'terms %s of subscription %s were withdrawn; publish new ones',
            OLD.number, OLD.subscription_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER negotiated_terms_stay BEFORE UPDATE OR DELETE ON billing_negotiatedterms
    FOR EACH ROW EXECUTE FUNCTION billing_negotiated_guard();
CREATE TRIGGER negotiated_terms_are_never_emptied BEFORE TRUNCATE ON billing_negotiatedterms
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
ALTER TABLE billing_negotiatedterms ADD CONSTRAINT negotiated_terms_start_on_a_quarter_hour CHECK (
    date_bin('15 minutes', valid_from, '2000-01-01T00:00Z') = valid_from
    AND date_bin('15 minutes', valid_to, '2000-01-01T00:00Z') = valid_to);

CREATE FUNCTION billing_proposal_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM billing_refuse('proposal_stays', format(
            'proposal %s is on record; refuse or withdraw it instead', OLD.id));
    END IF;
    IF OLD.state <> 'proposed' THEN
        PERFORM billing_refuse('proposal_is_decided_once', format(
            'proposal %s is %s; propose again', OLD.id, OLD.state));
    END IF;
    IF to_jsonb(OLD) - '{state,decided_by_id,decided_at,decision}'::text[]
        IS DISTINCT FROM to_jsonb(NEW) - '{state,decided_by_id,decided_at,decision}'::text[] THEN
        PERFORM billing_refuse('proposal_is_never_edited', format(
            'proposal %s may have been read; propose again', OLD.id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER proposals_stay BEFORE UPDATE OR DELETE ON billing_priceproposal
    FOR EACH ROW EXECUTE FUNCTION billing_proposal_guard();
CREATE TRIGGER proposals_are_never_emptied BEFORE TRUNCATE ON billing_priceproposal
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
"""

DROP = """
DROP TRIGGER proposals_are_never_emptied ON billing_priceproposal;
DROP TRIGGER proposals_stay ON billing_priceproposal;
ALTER TABLE billing_negotiatedterms DROP CONSTRAINT negotiated_terms_start_on_a_quarter_hour;
DROP TRIGGER negotiated_terms_are_never_emptied ON billing_negotiatedterms;
DROP TRIGGER negotiated_terms_stay ON billing_negotiatedterms;
DROP FUNCTION billing_proposal_guard(), billing_negotiated_guard();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0003_lines_of_every_shape'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='NegotiatedTerms',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('valid_from', models.DateTimeField()),
                ('valid_to', models.DateTimeField(blank=True, help_text='empty: until further notice', null=True)),
                ('known_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('withdrawn_at', models.DateTimeField(blank=True, help_text='when later terms replaced the whole of it', null=True)),
                ('document', models.JSONField(help_text='docs/reference/negotiated.md says what may stand here')),
                ('reference', models.CharField(help_text='the agreement it follows from', max_length=200)),
                ('subscription', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='negotiated', to='billing.subscription')),
            ],
            options={
                'verbose_name': 'negotiated terms',
                'verbose_name_plural': 'negotiated terms',
                'ordering': ['subscription', 'number'],
                'constraints': [models.UniqueConstraint(fields=('subscription', 'number'), name='negotiated_terms_number_once'), models.CheckConstraint(condition=models.Q(('valid_to', None), ('valid_to__gt', models.F('valid_from')), _connector='OR'), name='negotiated_terms_run_forward'), models.CheckConstraint(condition=models.Q(('reference', ''), _negated=True), name='negotiated_terms_name_the_agreement'), django.contrib.postgres.constraints.ExclusionConstraint(condition=models.Q(('withdrawn_at', None)), expressions=[('subscription', '='), (billing.instants.InstantRange('valid_from', 'valid_to'), '&&')], name='negotiated_terms_never_overlap')],
            },
        ),
        migrations.CreateModel(
            name='PriceProposal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('how', models.CharField(choices=[('continue', 'Continue'), ('correct', 'Correct')], max_length=8)),
                ('valid_from', models.DateTimeField()),
                ('document', models.JSONField()),
                ('digest', models.CharField(help_text='SHA-256 of what would be published', max_length=64)),
                ('after_number', models.PositiveIntegerField(help_text='the last version or terms published before: another one makes this stale')),
                ('source', models.CharField(blank=True, help_text='address or agreement', max_length=200)),
                ('reason', models.CharField(max_length=500)),
                ('changes', models.JSONField(help_text='what it changes, in sentences')),
                ('jumps', models.JSONField(help_text='why it takes a second person')),
                ('state', models.CharField(choices=[('proposed', 'Proposed'), ('approved', 'Approved'), ('refused', 'Refused'), ('withdrawn', 'withdrawn by its author'), ('superseded', 'superseded by another proposal')], default='proposed', max_length=10)),
                ('proposed_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('decision', models.CharField(blank=True, help_text='why it was decided so', max_length=500)),
                ('decided_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('proposed_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='price_proposals', to=settings.AUTH_USER_MODEL)),
                ('subscription', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='proposals', to='billing.subscription')),
                ('tariff', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='proposals', to='billing.tariff')),
            ],
            options={
                'ordering': ['-proposed_at', '-id'],
                'permissions': [('publish_prices', 'May publish prices, and propose those that take a second person'), ('approve_prices', 'May approve prices that somebody else proposed')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('subscription__isnull', False), ('tariff', None)), models.Q(('subscription', None), ('tariff__isnull', False)), _connector='OR'), name='proposal_is_for_one_thing'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'approved'), _negated=True), models.Q(('decided_by', models.F('proposed_by')), _negated=True), _connector='OR'), name='proposal_is_approved_by_another'), models.CheckConstraint(condition=models.Q(models.Q(('decided_at', None), ('decided_by', None), ('state', 'proposed')), models.Q(models.Q(('state', 'proposed'), _negated=True), ('decided_at__isnull', False), ('decided_by__isnull', False)), _connector='OR'), name='proposal_decided_says_by_whom'), models.UniqueConstraint(condition=models.Q(('state', 'proposed')), fields=('tariff',), name='proposal_one_open_per_tariff'), models.UniqueConstraint(condition=models.Q(('state', 'proposed')), fields=('subscription',), name='proposal_one_open_per_subscription')],
            },
        ),
        migrations.RunSQL(CREATE, DROP),
    ]
