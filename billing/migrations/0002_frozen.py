"""What was issued or published stays as it is: rules as triggers, valid on PostgreSQL 15 to 18.

Every refusal names its rule, as a constraint would, in the message and as CONSTRAINT NAME.
"""

from django.db import migrations

CREATE = """
CREATE FUNCTION billing_refuse(rule text, detail text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: %', rule, detail USING ERRCODE = 'restrict_violation', CONSTRAINT = rule;
END $$;

-- A tariff's code stands on every line billed by it; its currency is that of every document.
CREATE FUNCTION billing_tariff_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.code IS DISTINCT FROM OLD.code OR NEW.currency IS DISTINCT FROM OLD.currency THEN
        PERFORM billing_refuse('tariff_code_and_currency_stay', format(
            'tariff %s keeps its code and its currency; make another tariff', OLD.code));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tariff_code_and_currency_stay BEFORE UPDATE ON billing_tariff
    FOR EACH ROW EXECUTE FUNCTION billing_tariff_guard();

CREATE FUNCTION billing_tariff_version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM billing_refuse('tariff_version_stays', format(
            'version %s of tariff %s may have been billed; withdraw it instead',
            OLD.number, OLD.tariff_id));
    END IF;
    IF to_jsonb(OLD) - '{valid_to,withdrawn_at}'::text[]
        IS DISTINCT FROM to_jsonb(NEW) - '{valid_to,withdrawn_at}'::text[] THEN
        PERFORM billing_refuse('tariff_version_is_never_edited', format(
            'version %s of tariff %s was published; add a new version', OLD.number, OLD.tariff_id));
    END IF;
    IF OLD.valid_to IS NOT NULL AND (NEW.valid_to IS NULL OR NEW.valid_to > OLD.valid_to) THEN
        PERFORM billing_refuse('tariff_version_is_never_prolonged', format(
            'version %s of tariff %s ended at %s; add a new version',
            OLD.number, OLD.tariff_id, OLD.valid_to));
    END IF;
    IF OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at THEN
        PERFORM billing_refuse('tariff_version_stays_withdrawn', format(
            'version %s of tariff %s was withdrawn; add a new version', OLD.number, OLD.tariff_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tariff_versions_stay BEFORE UPDATE OR DELETE ON billing_tariffversion
    FOR EACH ROW EXECUTE FUNCTION billing_tariff_version_guard();

-- Readings are quarter-hours: a price or a period that changed within one could not be rated.
ALTER TABLE billing_tariffversion ADD CONSTRAINT tariff_version_starts_on_a_quarter_hour CHECK (
    date_bin('15 minutes', valid_from, '2000-01-01T00:00Z') = valid_from
    AND date_bin('15 minutes', valid_to, '2000-01-01T00:00Z') = valid_to);
ALTER TABLE billing_subscription ADD CONSTRAINT subscription_starts_on_a_quarter_hour CHECK (
    date_bin('15 minutes', starts_at, '2000-01-01T00:00Z') = starts_at
    AND date_bin('15 minutes', ends_at, '2000-01-01T00:00Z') = ends_at);

-- Periods are computed from these, so they must not move under the documents cut by them.
CREATE FUNCTION billing_subscription_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE billed_until timestamptz;
BEGIN
    SELECT max(period_end) INTO billed_until FROM billing_invoice
        WHERE subscription_id = OLD.id AND status <> 'draft';
    IF billed_until IS NULL THEN
        RETURN NEW;
    END IF;
    IF (NEW.organization_id, NEW.tariff_id, NEW.starts_at, NEW.anchor_day, NEW.zone)
        IS DISTINCT FROM
        (OLD.organization_id, OLD.tariff_id, OLD.starts_at, OLD.anchor_day, OLD.zone) THEN
        PERFORM billing_refuse('subscription_billed_stays', format(
            'subscription %s has invoices; end it and start another', OLD.id));
    END IF;
    IF NEW.ends_at < billed_until AND NEW.ends_at IS DISTINCT FROM OLD.ends_at THEN
        PERFORM billing_refuse('subscription_ends_after_billed', format(
            'subscription %s is billed until %s', OLD.id, billed_until));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER subscription_billed_stays BEFORE UPDATE ON billing_subscription
    FOR EACH ROW EXECUTE FUNCTION billing_subscription_guard();

CREATE FUNCTION billing_series_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM billing_refuse('invoice_series_stays', 'a counter of invoice numbers stays');
    ELSIF TG_OP = 'INSERT' THEN
        IF NEW.last_number NOT IN (0, 1) THEN
            PERFORM billing_refuse('invoice_numbers_are_gapless', 'a series starts at 1');
        END IF;
    ELSIF (NEW.prefix, NEW.year) IS DISTINCT FROM (OLD.prefix, OLD.year)
        OR NEW.last_number <> OLD.last_number + 1 OR NEW.last_issued_at < OLD.last_issued_at THEN
        PERFORM billing_refuse('invoice_numbers_are_gapless', format(
            '%s-%s goes from %s to %s, one by one', OLD.prefix, OLD.year, OLD.last_number,
            OLD.last_number + 1));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_numbers_are_gapless BEFORE INSERT OR UPDATE OR DELETE
    ON billing_invoiceseries FOR EACH ROW EXECUTE FUNCTION billing_series_guard();

CREATE FUNCTION billing_invoice_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE lines_minor numeric;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'draft' THEN
            PERFORM billing_refuse('invoice_begins_as_draft', 'issue a draft instead');
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF OLD.status <> 'draft' THEN
            PERFORM billing_refuse('invoice_issued_is_frozen', format(
                'invoice %s was issued; void it instead', OLD.number));
        END IF;
        RETURN OLD;
    END IF;
    IF OLD.status = 'draft' AND NEW.status = 'draft' THEN
        RETURN NEW;
    END IF;
    IF OLD.status = 'draft' AND NEW.status = 'issued' THEN
        SELECT coalesce(sum(amount_minor), 0) INTO lines_minor
            FROM billing_invoiceline WHERE invoice_id = OLD.id;
        IF NEW.subtotal_minor <> lines_minor THEN
            PERFORM billing_refuse('invoice_is_the_sum_of_its_lines', format(
                'invoice %s: subtotal %s, lines %s', NEW.number, NEW.subtotal_minor, lines_minor));
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.status = 'issued' AND NEW.status = 'void'
        AND NEW.voided_at IS NOT NULL AND NEW.void_reason <> ''
        AND to_jsonb(OLD) - '{status,voided_at,void_reason}'::text[]
            = to_jsonb(NEW) - '{status,voided_at,void_reason}'::text[] THEN
        RETURN NEW;
    END IF;
    PERFORM billing_refuse('invoice_issued_is_frozen', format(
        'invoice %s was issued; it can only be voided, with an instant and a reason', OLD.number));
END $$;
CREATE TRIGGER invoice_issued_is_frozen BEFORE INSERT OR UPDATE OR DELETE ON billing_invoice
    FOR EACH ROW EXECUTE FUNCTION billing_invoice_guard();

-- FOR SHARE: an invoice that is being issued at this moment is waited for, then seen as issued.
CREATE FUNCTION billing_line_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE invoice record;
BEGIN
    FOR invoice IN
        SELECT number, status FROM billing_invoice
        WHERE (TG_OP <> 'INSERT' AND id = OLD.invoice_id)
            OR (TG_OP <> 'DELETE' AND id = NEW.invoice_id)
        FOR SHARE
    LOOP
        IF invoice.status <> 'draft' THEN
            PERFORM billing_refuse('invoice_lines_are_frozen', format(
                'invoice %s was issued; its lines stay as they are', invoice.number));
        END IF;
    END LOOP;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER invoice_lines_are_frozen BEFORE INSERT OR UPDATE OR DELETE ON billing_invoiceline
    FOR EACH ROW EXECUTE FUNCTION billing_line_guard();

CREATE FUNCTION billing_truncate_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM billing_refuse(TG_NAME, format('%s is never emptied', TG_TABLE_NAME));
    RETURN NULL;
END $$;
CREATE TRIGGER invoices_are_never_emptied BEFORE TRUNCATE ON billing_invoice
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
CREATE TRIGGER invoice_lines_are_never_emptied BEFORE TRUNCATE ON billing_invoiceline
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
CREATE TRIGGER invoice_series_is_never_emptied BEFORE TRUNCATE ON billing_invoiceseries
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
CREATE TRIGGER tariff_versions_are_never_emptied BEFORE TRUNCATE ON billing_tariffversion
    FOR EACH STATEMENT EXECUTE FUNCTION billing_truncate_guard();
"""

DROP = """
DROP TRIGGER invoices_are_never_emptied ON billing_invoice;
DROP TRIGGER invoice_lines_are_never_emptied ON billing_invoiceline;
DROP TRIGGER invoice_series_is_never_emptied ON billing_invoiceseries;
DROP TRIGGER tariff_versions_are_never_emptied ON billing_tariffversion;
DROP TRIGGER invoice_lines_are_frozen ON billing_invoiceline;
DROP TRIGGER invoice_issued_is_frozen ON billing_invoice;
DROP TRIGGER invoice_numbers_are_gapless ON billing_invoiceseries;
DROP TRIGGER subscription_billed_stays ON billing_subscription;
DROP TRIGGER tariff_versions_stay ON billing_tariffversion;
DROP TRIGGER tariff_code_and_currency_stay ON billing_tariff;
ALTER TABLE billing_tariffversion DROP CONSTRAINT tariff_version_starts_on_a_quarter_hour;
ALTER TABLE billing_subscription DROP CONSTRAINT subscription_starts_on_a_quarter_hour;
DROP FUNCTION billing_truncate_guard(), billing_line_guard(), billing_invoice_guard(), billing_series_guard(),
    billing_subscription_guard(), billing_tariff_version_guard(), billing_tariff_guard(),
    billing_refuse(text, text);
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
