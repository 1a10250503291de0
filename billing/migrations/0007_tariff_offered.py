"""Tariffs that every organization may see; those that were shipped are offered."""

from django.db import migrations, models

SHIPPED = (
    "UPDATE billing_tariff SET offered = TRUE WHERE code = ANY("
    "'{standard-usd,standard-eur,standard-cny,deepseek-tou-usd}'::text[])"
)


class Migration(migrations.Migration):
    dependencies = [("billing", "0006_cost_book")]
    operations = [
        migrations.AddField(
            model_name="tariff",
            name="offered",
            field=models.BooleanField(
                default=False,
                help_text="every organization may see its prices and ask what it would pay on it",
            ),
        ),
        migrations.RunSQL(SHIPPED, migrations.RunSQL.noop),
    ]
