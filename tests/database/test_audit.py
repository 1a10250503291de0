"""The audit log is append-only, whoever asks."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from accounts import audit, organizations
from accounts.keys import make
from accounts.models import AuditEntry, Organization, User
from accounts.refusals import Refusal


@pytest.fixture
def entry(acme: Organization, alice: User) -> AuditEntry:
    audit.record("test.done", subject="it", organization=acme, actor=alice)
    return AuditEntry.objects.get()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_auditentry SET action = 'nothing happened'",
        "UPDATE accounts_auditentry SET actor_id = NULL",
        "DELETE FROM accounts_auditentry",
        "TRUNCATE accounts_auditentry",
        "TRUNCATE accounts_auditentry CASCADE",
        "MERGE INTO accounts_auditentry USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_no_statement_changes_or_removes_an_entry(entry: AuditEntry, statement: str):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # no open check in the way of ALTER
        cursor.execute("ALTER TABLE accounts_auditentry ENABLE TRIGGER audit_is_never_emptied")
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            cursor.execute(statement)
    assert AuditEntry.objects.get() == entry


def test_the_orm_cannot_change_an_entry_either(entry: AuditEntry):
    entry.action = "nothing happened"
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        entry.save()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        entry.delete()


def test_people_and_organizations_in_the_log_stay(entry: AuditEntry, alice: User):
    with pytest.raises(DatabaseError), transaction.atomic():
        alice.delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        entry.organization.delete()


def test_an_entry_keeps_the_actor_as_it_read_then(entry: AuditEntry, alice: User):
    alice.email = "alice@elsewhere.example"
    alice.save(update_fields=["email"])
    entry.refresh_from_db()
    assert entry.actor_label == "alice@acme.example"


def test_an_entry_without_a_person_names_the_system(acme: Organization):
    audit.record("test.done", subject="it", organization=acme, actor=None)
    assert AuditEntry.objects.get().actor_label == "system"


def test_an_entry_and_its_change_stand_or_fall_together(acme: Organization, alice: User):
    def rename_twice() -> None:
        with transaction.atomic():
            organizations.rename(organization=acme, name="Acme Ltd", actor=alice)
            organizations.rename(organization=acme, name="", actor=alice)

    with pytest.raises(Refusal):
        rename_twice()
    assert Organization.objects.get().name == "Acme"
    assert not AuditEntry.objects.exists()


def test_a_secret_in_an_entry_is_our_mistake_and_stops_the_change(acme: Organization):
    secret = make("pepper").text
    for detail, subject in [
        ({"key": secret}, "it"),
        ({"deep": [{"key": secret}]}, "it"),
        ({}, secret),
    ]:
        with pytest.raises(AssertionError):
            audit.record("t", subject=subject, organization=acme, actor=None, detail=detail)
