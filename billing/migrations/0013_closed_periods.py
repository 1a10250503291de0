"""The periods of invoices that are issued already are closed, as metering learns of those to come."""

from django.db import migrations

TELL = """
INSERT INTO metering_closedperiod (organization_id, ends_at, starts_at, closed_at)
SELECT organization_id, period_end, period_start, issued_at FROM billing_invoice
WHERE status = 'issued' AND kind = 'invoice'
ON CONFLICT DO NOTHING;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0012_lines_have_one_index"),
        ("metering", "0011_closed_periods"),
    ]
    operations = [migrations.RunSQL(TELL, migrations.RunSQL.noop)]
