"""Credit and debit notes: documents of their own kind, each of an issued invoice."""

import billing.instants
import django.contrib.postgres.constraints
import django.db.models.deletion
from django.db import migrations, models


CREATE = """
-- FOR SHARE: an invoice that is being voided at this moment is waited for, then seen as void.
CREATE FUNCTION billing_note_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE invoice record;
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.kind, NEW.corrects_id) IS DISTINCT FROM (OLD.kind, OLD.corrects_id) THEN
        PERFORM billing_refuse('document_keeps_its_kind', 'draft another document instead');
    END IF;
    IF NEW.corrects_id IS NOT NULL AND NEW.status <> 'void' THEN
        SELECT kind, status, number, organization_id, subscription_id, currency, zone,
            period_start, period_end
            INTO invoice FROM billing_invoice WHERE id = NEW.corrects_id FOR SHARE;
        IF (invoice.kind, invoice.status, invoice.organization_id, invoice.subscription_id,
                invoice.currency, invoice.zone, invoice.period_start, invoice.period_end)
            IS DISTINCT FROM
            ('invoice', 'issued', NEW.organization_id, NEW.subscription_id,
                NEW.currency, NEW.zone, NEW.period_start, NEW.period_end) THEN
            PERFORM billing_refuse('note_is_of_an_issued_invoice', format(
                '%s %s: a note is of an issued invoice, and of its period',
                invoice.kind, invoice.number));
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.kind = 'invoice' AND NEW.status = 'void' AND OLD.status = 'issued'
        AND EXISTS (SELECT FROM billing_invoice
            WHERE corrects_id = NEW.id AND status <> 'void') THEN
        PERFORM billing_refuse('invoice_is_voided_with_its_notes', format(
            'invoice %s is corrected by a note; void that first', OLD.number));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER note_is_of_an_issued_invoice BEFORE INSERT OR UPDATE ON billing_invoice
    FOR EACH ROW EXECUTE FUNCTION billing_note_guard();

-- A note's lines are of the period that it corrects: nothing else is billed by it.
CREATE FUNCTION billing_note_lines_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE note record;
BEGIN
    SELECT document.id, line.usage_start INTO note
        FROM added AS line JOIN billing_invoice AS document ON document.id = line.invoice_id
        WHERE document.kind <> 'invoice' AND (line.usage_start, line.usage_end)
            IS DISTINCT FROM (document.period_start, document.period_end) LIMIT 1;
    IF FOUND THEN
        PERFORM billing_refuse('note_lines_are_of_its_period', format(
            'note %s has a line of the period from %s on', note.id, note.usage_start));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_lines_are_of_its_period AFTER INSERT ON billing_invoiceline
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_note_lines_guard();
"""

DROP = """
DROP TRIGGER note_lines_are_of_its_period ON billing_invoiceline;
DROP TRIGGER note_is_of_an_issued_invoice ON billing_invoice;
DROP FUNCTION billing_note_lines_guard(), billing_note_guard();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_key_limits'),
        ('billing', '0007_tariff_offered'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='invoice',
            name='invoice_one_per_period',
        ),
        migrations.AddField(
            model_name='invoice',
            name='corrects',
            field=models.ForeignKey(blank=True, help_text='the invoice that a credit or debit note is of', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='notes', to='billing.invoice'),
        ),
        migrations.AddField(
            model_name='invoice',
            name='kind',
            field=models.CharField(choices=[('invoice', 'Invoice'), ('credit_note', 'Credit note'), ('debit_note', 'Debit note')], default='invoice', max_length=11),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=django.contrib.postgres.constraints.ExclusionConstraint(condition=models.Q(('kind', 'invoice'), models.Q(('status', 'void'), _negated=True)), expressions=[('subscription', '='), (billing.instants.InstantRange('period_start', 'period_end'), '&&')], name='invoice_one_per_period'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('corrects', None), ('kind', 'invoice')), models.Q(models.Q(('kind', 'invoice'), _negated=True), ('corrects__isnull', False), ('replaces', None)), _connector='OR'), name='note_names_what_it_corrects'),
        ),
        migrations.AddConstraint(
            model_name='invoice',
            constraint=models.CheckConstraint(condition=models.Q(('kind', 'invoice'), models.Q(('kind', 'credit_note'), ('subtotal_minor__lt', 0)), models.Q(('kind', 'debit_note'), ('subtotal_minor__gt', 0)), _connector='OR'), name='note_is_of_its_sign'),
        ),
        migrations.RunSQL(CREATE, DROP),
    ]
