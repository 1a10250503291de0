"""Re-rating: jobs and their items, which keep what was asked, shown and issued."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


CREATE = """
CREATE FUNCTION billing_rerating_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM billing_refuse('rerating_stays', format(
            're-rating %s is on record; refuse or withdraw it instead', OLD.id));
    END IF;
    IF OLD.state IN ('done', 'refused', 'withdrawn') THEN
        PERFORM billing_refuse('rerating_ends_once', format(
            're-rating %s is %s; start another', OLD.id, OLD.state));
    END IF;
    IF (NEW.tariff_id, NEW.first, NEW.last, NEW.reason, NEW.started_by_id, NEW.started_at)
        IS DISTINCT FROM
        (OLD.tariff_id, OLD.first, OLD.last, OLD.reason, OLD.started_by_id, OLD.started_at) THEN
        PERFORM billing_refuse('rerating_is_never_edited', format(
            're-rating %s may have been read; start another', OLD.id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER reratings_stay BEFORE UPDATE OR DELETE ON billing_reratingjob
    FOR EACH ROW EXECUTE FUNCTION billing_rerating_guard();
CREATE TRIGGER reratings_are_never_emptied BEFORE TRUNCATE ON billing_reratingjob
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();

-- What is issued is what was shown: to whom, for which invoice, and how much.
CREATE FUNCTION billing_rerating_item_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM billing_refuse('rerating_item_stays', format(
            're-rating %s has looked at invoice %s', OLD.job_id, OLD.invoice_id));
    END IF;
    IF (NEW.job_id, NEW.organization_id, NEW.invoice_id, NEW.currency)
        IS DISTINCT FROM (OLD.job_id, OLD.organization_id, OLD.invoice_id, OLD.currency)
        OR OLD.state = 'issued' THEN
        PERFORM billing_refuse('rerating_item_is_frozen', format(
            'invoice %s in re-rating %s stays as it is', OLD.invoice_id, OLD.job_id));
    END IF;
    IF NEW.state = 'issued' AND (
        OLD.state <> 'differs'
        OR (NEW.before_minor, NEW.difference_minor, NEW.lines, NEW.digest)
            IS DISTINCT FROM (OLD.before_minor, OLD.difference_minor, OLD.lines, OLD.digest)
        OR NOT EXISTS (SELECT FROM billing_reratingjob WHERE id = NEW.job_id AND state = 'issuing')
        OR NOT EXISTS (SELECT FROM billing_invoice WHERE id = NEW.note_id AND status = 'issued'
            AND corrects_id = NEW.invoice_id AND total_minor = NEW.difference_minor)
    ) THEN
        PERFORM billing_refuse('rerating_issues_what_was_approved', format(
            'invoice %s in re-rating %s: what is issued must be what was approved',
            NEW.invoice_id, NEW.job_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER rerating_items_stay BEFORE UPDATE OR DELETE ON billing_reratingitem
    FOR EACH ROW EXECUTE FUNCTION billing_rerating_item_guard();
CREATE TRIGGER rerating_items_are_never_emptied BEFORE TRUNCATE ON billing_reratingitem
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
"""

DROP = """
DROP TRIGGER rerating_items_are_never_emptied ON billing_reratingitem;
DROP TRIGGER rerating_items_stay ON billing_reratingitem;
DROP TRIGGER reratings_are_never_emptied ON billing_reratingjob;
DROP TRIGGER reratings_stay ON billing_reratingjob;
DROP FUNCTION billing_rerating_item_guard(), billing_rerating_guard();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_key_limits'),
        ('billing', '0008_notes'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ReratingJob',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('first', models.DateField(help_text='periods that begin on this local day or later')),
                ('last', models.DateField(help_text='and before this one')),
                ('reason', models.CharField(max_length=500)),
                ('state', models.CharField(choices=[('comparing', 'Comparing'), ('compared', 'Waits for approval'), ('issuing', 'Issuing'), ('done', 'Done'), ('refused', 'Refused'), ('withdrawn', 'Withdrawn')], default='comparing', max_length=10)),
                ('digest', models.CharField(blank=True, help_text='SHA-256 of what is shown', max_length=64)),
                ('takes_second_person', models.BooleanField(default=False)),
                ('started_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('decision', models.CharField(blank=True, help_text='why it was decided so', max_length=500)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('worked_at', models.DateTimeField(help_text='when a worker last finished an organization of it')),
                ('decided_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('organizations', models.ManyToManyField(blank=True, help_text='only theirs; empty: of all', related_name='reratings', to='accounts.organization')),
                ('started_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reratings', to=settings.AUTH_USER_MODEL)),
                ('tariff', models.ForeignKey(blank=True, help_text='only what was billed by it; empty: by any tariff', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reratings', to='billing.tariff')),
            ],
            options={
                'verbose_name': 're-rating',
                'ordering': ['-started_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='ReratingItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('currency', models.CharField(max_length=3)),
                ('state', models.CharField(choices=[('waiting', 'Not compared yet'), ('unchanged', 'Unchanged'), ('differs', 'Differs'), ('changed', 'Changed since it was approved'), ('issued', 'Issued'), ('void', 'Its invoice is void'), ('failed', 'Could not be rated')], default='waiting', max_length=9)),
                ('before_minor', models.BigIntegerField(default=0, help_text='on all documents')),
                ('difference_minor', models.BigIntegerField(default=0, help_text='below zero: to give back')),
                ('lines', models.JSONField(default=list, help_text='what its note carries, as it is shown')),
                ('digest', models.CharField(blank=True, help_text='SHA-256 of what is shown', max_length=64)),
                ('failure', models.TextField(blank=True)),
                ('invoice', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reratings', to='billing.invoice')),
                ('note', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rerated_by', to='billing.invoice')),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.organization')),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='items', to='billing.reratingjob')),
            ],
            options={
                'ordering': ['job', 'id'],
            },
        ),
        migrations.AddConstraint(
            model_name='reratingjob',
            constraint=models.CheckConstraint(condition=models.Q(('first__lt', models.F('last'))), name='rerating_days_run_forward'),
        ),
        migrations.AddConstraint(
            model_name='reratingjob',
            constraint=models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='rerating_says_why'),
        ),
        migrations.AddConstraint(
            model_name='reratingjob',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['issuing', 'refused', 'withdrawn']), _negated=True), models.Q(('decided_at__isnull', False), ('decided_by__isnull', False)), _connector='OR'), name='rerating_decided_says_by_whom'),
        ),
        migrations.AddConstraint(
            model_name='reratingjob',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['issuing', 'done']), _negated=True), ('takes_second_person', False), ('decided_by', None), models.Q(('decided_by', models.F('started_by')), _negated=True), _connector='OR'), name='rerating_is_approved_by_another'),
        ),
        migrations.AddIndex(
            model_name='reratingitem',
            index=models.Index(fields=['job', 'state', 'organization', 'id'], name='rerating_item_claim'),
        ),
        migrations.AddConstraint(
            model_name='reratingitem',
            constraint=models.UniqueConstraint(fields=('job', 'invoice'), name='rerating_item_once'),
        ),
        migrations.AddConstraint(
            model_name='reratingitem',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('note__isnull', False), ('state', 'issued')), models.Q(models.Q(('state', 'issued'), _negated=True), ('note', None)), _connector='OR'), name='rerating_item_issued_has_note'),
        ),
        migrations.RunSQL(CREATE, DROP),
    ]
