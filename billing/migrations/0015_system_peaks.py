"""The whole system's peak of a billing period, found once for everybody who is billed by it."""

import django.db.models.functions.datetime
from django.db import migrations, models

CREATE = """
CREATE FUNCTION billing_system_peak_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM billing_refuse('system_peak_stays', format(
        'the peak %s may stand behind invoices of every organization', OLD.id));
    RETURN NULL;
END $$;
CREATE TRIGGER system_peaks_stay BEFORE UPDATE OR DELETE ON billing_systempeak
    FOR EACH ROW EXECUTE FUNCTION billing_system_peak_guard();
CREATE TRIGGER system_peaks_are_never_emptied BEFORE TRUNCATE ON billing_systempeak
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
"""
DROP = """
DROP TRIGGER system_peaks_are_never_emptied ON billing_systempeak;
DROP TRIGGER system_peaks_stay ON billing_systempeak;
DROP FUNCTION billing_system_peak_guard();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0014_not_told_words'),
    ]

    operations = [
        migrations.CreateModel(
            name='SystemPeak',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('period_start', models.DateTimeField()),
                ('period_end', models.DateTimeField()),
                ('window_minutes', models.PositiveSmallIntegerField()),
                ('step_minutes', models.PositiveSmallIntegerField()),
                ('starts_at', models.DateTimeField()),
                ('tokens', models.DecimalField(decimal_places=0, max_digits=30)),
                ('found_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('period_start', 'period_end', 'window_minutes', 'step_minutes'), name='system_peak_is_found_once'), models.CheckConstraint(condition=models.Q(('starts_at__gte', models.F('period_start')), ('starts_at__lt', models.F('period_end'))), name='system_peak_lies_in_its_period')],
            },
        ),
        migrations.RunSQL(CREATE, DROP),
    ]
