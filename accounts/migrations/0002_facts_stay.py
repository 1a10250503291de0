"""What the rows of this room must never do, said by the database itself.

The audit log is append-only, and an organization that has members keeps an owner. The second is a
deferred trigger: within one transaction ownership may change hands in either order. One person has
one address, so addresses are kept in lower case.
"""

from django.db import migrations, models
from django.db.models.functions import Lower

CREATE = """
CREATE FUNCTION accounts_refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only'
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON accounts_auditentry
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse_audit_change();
CREATE TRIGGER audit_is_never_emptied BEFORE TRUNCATE ON accounts_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_refuse_audit_change();

CREATE FUNCTION accounts_keep_an_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Taking the organization's row makes two owners who leave at the same moment wait in turn.
    PERFORM 1 FROM accounts_organization WHERE id = OLD.organization_id FOR NO KEY UPDATE;
    IF FOUND AND NOT EXISTS (
        SELECT 1 FROM accounts_member
        WHERE organization_id = OLD.organization_id AND role = 'owner'
    ) THEN
        RAISE EXCEPTION 'an organization keeps at least one owner'
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER the_last_owner_stays AFTER UPDATE OF role OR DELETE ON accounts_member
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.role = 'owner')
    EXECUTE FUNCTION accounts_keep_an_owner();
"""

DROP = """
DROP TRIGGER the_last_owner_stays ON accounts_member;
DROP FUNCTION accounts_keep_an_owner();
DROP TRIGGER audit_is_append_only ON accounts_auditentry;
DROP TRIGGER audit_is_never_emptied ON accounts_auditentry;
DROP FUNCTION accounts_refuse_audit_change();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("email", Lower("email"))), name="user_email_is_lower_case"
            ),
        ),
        migrations.AlterModelOptions(name="apikey", options={"verbose_name": "API key"}),
        migrations.AlterModelOptions(
            name="auditentry",
            options={"ordering": ["-id"], "verbose_name_plural": "audit log"},
        ),
        migrations.RunSQL(CREATE, DROP),
    ]
