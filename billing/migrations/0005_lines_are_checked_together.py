"""Lines are added to a draft in one statement, and looked at once for all of them.

The rule stays: an invoice that was issued keeps its lines. Whoever changes or deletes a line is
still asked for each of them.
"""

from django.db import migrations

CREATE = """
-- FOR SHARE: an invoice that is being issued at this moment is waited for, then seen as issued.
CREATE FUNCTION billing_added_lines_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE invoice record;
BEGIN
    FOR invoice IN
        SELECT number, status FROM billing_invoice
        WHERE id IN (SELECT invoice_id FROM added) ORDER BY id FOR SHARE
    LOOP
        IF invoice.status <> 'draft' THEN
            PERFORM billing_refuse('invoice_lines_are_frozen', format(
                'invoice %s was issued; its lines stay as they are', invoice.number));
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
DROP TRIGGER invoice_lines_are_frozen ON billing_invoiceline;
CREATE TRIGGER invoice_lines_are_frozen BEFORE UPDATE OR DELETE ON billing_invoiceline
    FOR EACH ROW EXECUTE FUNCTION billing_line_guard();
CREATE TRIGGER invoice_lines_are_frozen_for_more AFTER INSERT ON billing_invoiceline
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_added_lines_guard();
"""

DROP = """
DROP TRIGGER invoice_lines_are_frozen_for_more ON billing_invoiceline;
DROP TRIGGER invoice_lines_are_frozen ON billing_invoiceline;
CREATE TRIGGER invoice_lines_are_frozen BEFORE INSERT OR UPDATE OR DELETE ON billing_invoiceline
    FOR EACH ROW EXECUTE FUNCTION billing_line_guard();
DROP FUNCTION billing_added_lines_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0004_price_book")]
    operations = [migrations.RunSQL(CREATE, DROP)]
