"""TRUNCATE passes row triggers by, so the tables of facts refuse it by triggers of their own.

Old partitions are detached or dropped whole, which this leaves free.
"""

from django.db import migrations

CREATE = """
CREATE TRIGGER usage_events_are_never_emptied BEFORE TRUNCATE ON metering_event
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();
CREATE TRIGGER event_keys_are_never_emptied BEFORE TRUNCATE ON metering_eventkey
    FOR EACH STATEMENT EXECUTE FUNCTION metering_refuse_change();
"""
DROP = """
DROP TRIGGER usage_events_are_never_emptied ON metering_event;
DROP TRIGGER event_keys_are_never_emptied ON metering_eventkey;
"""


class Migration(migrations.Migration):
    dependencies = [("metering", "0002_reading_hours")]
    operations = [migrations.RunSQL(CREATE, DROP)]
