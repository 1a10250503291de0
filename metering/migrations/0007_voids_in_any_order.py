"""A batch takes its number when it begins, so a void may have a lower one than the event it names.

That an event cannot take itself back is all that the numbers can tell.
"""

from django.db import migrations

CHANGE = """
ALTER TABLE metering_void
    DROP CONSTRAINT void_comes_after_its_event,
    ADD CONSTRAINT void_is_not_its_own_event
        CHECK ((target_batch_id, target_ordinal) <> (batch_id, ordinal));
"""
BACK = """
ALTER TABLE metering_void
    DROP CONSTRAINT void_is_not_its_own_event,
    ADD CONSTRAINT void_comes_after_its_event
        CHECK ((target_batch_id, target_ordinal) < (batch_id, ordinal)) NOT VALID;
"""


class Migration(migrations.Migration):
    dependencies = [('metering', '0006_corrections')]
    operations = [migrations.RunSQL(CHANGE, BACK)]
