"""How much was put into quarantine each day, so that nobody can fill the disk with rubbish."""

from django.db import migrations, models

CREATE = """
CREATE TABLE metering_quarantineday (
    organization_id bigint  NOT NULL,
    day             date    NOT NULL,
    kept            integer NOT NULL DEFAULT 0,
    kept_bytes      bigint  NOT NULL DEFAULT 0,
    left_out        bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, day),
    CONSTRAINT quarantine_day_counts_up CHECK (kept >= 0 AND kept_bytes >= 0 AND left_out >= 0)
);
CREATE INDEX metering_quarantineday_by_day ON metering_quarantineday (day);
"""


class Migration(migrations.Migration):
    dependencies = [('metering', '0007_voids_in_any_order')]
    operations = [
        migrations.RunSQL(CREATE, "DROP TABLE metering_quarantineday;"),
        migrations.CreateModel(
            name='QuarantineDay',
            fields=[
                ('pk', models.CompositePrimaryKey('organization_id', 'day', blank=True, editable=False, primary_key=True, serialize=False)),
                ('organization_id', models.BigIntegerField()),
                ('day', models.DateField()),
                ('kept', models.IntegerField()),
                ('kept_bytes', models.BigIntegerField()),
                ('left_out', models.BigIntegerField()),
            ],
            options={'db_table': 'metering_quarantineday', 'managed': False},
        ),
    ]
