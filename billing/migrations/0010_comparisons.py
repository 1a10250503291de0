"""What-if runs: answers that are let go of after a while, and no billing data."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_key_limits'),
        ('billing', '0009_rerating'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Comparison',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('document', models.JSONField(blank=True, null=True)),
                ('name', models.CharField(help_text='what pages call the other tariff', max_length=160)),
                ('currency', models.CharField(max_length=3)),
                ('first', models.DateField(help_text='periods that begin on this local day or later')),
                ('last', models.DateField(help_text='and before this one')),
                ('scope', models.CharField(help_text='whose periods, in words', max_length=160)),
                ('state', models.CharField(choices=[('running', 'Running'), ('done', 'Done'), ('cancelled', 'Cancelled')], default='running', max_length=9)),
                ('turn', models.PositiveIntegerField(default=0, help_text='how often a worker was at it')),
                ('turn_until', models.DateTimeField(blank=True, help_text='when its turn is over at the latest', null=True)),
                ('asked_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('expires_at', models.DateTimeField()),
                ('asked_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tariff', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='billing.tariff')),
            ],
            options={
                'ordering': ['-asked_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='ComparedOrganization',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('verdict', models.CharField(choices=[('waiting', 'Waiting'), ('cheaper', 'less'), ('dearer', 'more'), ('same', 'the same'), ('unclear', 'not clear: some usage has no price there'), ('other_currency', 'billed in another currency'), ('no_period', 'no billing period that begins then has ended'), ('no_prices', 'the other tariff had no prices then'), ('not_told_apart', 'whose readings do not tell apart the sizes of requests at which its prices change'), ('failed', 'could not be rated')], default='waiting', max_length=14)),
                ('periods', models.PositiveIntegerField(default=0)),
                ('old_minor', models.BigIntegerField(default=0)),
                ('new_minor', models.BigIntegerField(default=0)),
                ('unpriced', models.BigIntegerField(default=0, help_text='units that only the other tariff has no price for')),
                ('newly_priced', models.BigIntegerField(default=0, help_text='units that only the other tariff has a price for')),
                ('notes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), default=list, size=None)),
                ('old_curve', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('new_curve', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('organization', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.organization')),
                ('comparison', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rows', to='billing.comparison')),
            ],
        ),
        migrations.AddConstraint(
            model_name='comparison',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('document__isnull', False), ('tariff', None)), models.Q(('document__isnull', True), ('tariff__isnull', False)), _connector='OR'), name='comparison_is_with_one_tariff'),
        ),
        migrations.AddConstraint(
            model_name='comparison',
            constraint=models.CheckConstraint(condition=models.Q(('first__lt', models.F('last'))), name='comparison_runs_forward'),
        ),
        migrations.AddConstraint(
            model_name='comparison',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('finished_at', None), ('state', 'running')), models.Q(models.Q(('state', 'running'), _negated=True), ('finished_at__isnull', False)), _connector='OR'), name='comparison_finished_says_when'),
        ),
        migrations.AddConstraint(
            model_name='comparison',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'running')), fields=('asked_by',), name='comparison_one_running_per_person'),
        ),
        migrations.AddConstraint(
            model_name='comparedorganization',
            constraint=models.UniqueConstraint(fields=('comparison', 'organization'), name='compared_organization_once'),
        ),
    ]
