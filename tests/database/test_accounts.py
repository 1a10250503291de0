"""Organizations, projects and API keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts import api_auth, api_keys, organizations, projects
from accounts.models import ApiKey, AuditEntry, Organization, Role, User
from accounts.refusals import Refusal

FAR = datetime(2999, 1, 1, tzinfo=UTC)


def make(name: str, now: datetime, owner: User | None = None) -> Organization:
    return organizations.create(
        name=name, currency="EUR", zone="Asia/Shanghai", owner=owner, now=now
    )


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def issue(organization: Organization, **fields: object):
    return api_keys.issue(
        **{"organization": organization, "name": "k", "scopes": ["read"], **fields}
    )


# organizations


def test_an_organization_begins_with_an_owner_and_a_default_project(alice: User, now: datetime):
    made = make("Acme", now, alice)
    assert [(member.user, member.role) for member in made.members.all()] == [(alice, Role.OWNER)]
    assert [project.slug for project in made.projects.all()] == ["default"]
    assert (made.currency, made.zone, made.created_at) == ("EUR", "Asia/Shanghai", now)
    assert actions() == ["organization.created"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme GmbH & Co. KG", "acme-gmbh-co-kg"),
        ("Zürich Köln", "zurich-koln"),
        ("深度求索", "org"),
        ("Ελλάς", "org"),
        ("---", "org"),
        ("new", "new-2"),
        ("x" * 200, "x" * 56),
    ],
)
def test_a_slug_is_made_from_any_name(db: None, now: datetime, name: str, slug: str):
    assert make(name, now).slug == slug


def test_slugs_of_the_same_name_differ(db: None, now: datetime):
    slugs = [make("深度求索", now).slug for _ in range(12)]
    assert slugs[:3] == ["org", "org-2", "org-3"]
    assert len(set(slugs)) == 12


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "kt_abcdefghijkl_" + "x" * 43}, "name"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "DEM"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": ""}, "zone"),
        ({"zone": "../etc/passwd"}, "zone"),
    ],
)
def test_a_refusal_names_the_field_and_changes_nothing(
    db: None, now: datetime, change: dict[str, str], field: str
):
    asked = {"name": "Acme", "currency": "USD", "zone": "UTC", **change}
    with pytest.raises(Refusal) as refusal:
        organizations.create(**asked, now=now)
    assert refusal.value.field == field
    assert not Organization.objects.exists()
    assert not AuditEntry.objects.exists()


def test_billing_details_are_changed_with_what_stood_there_before(acme: Organization, alice: User):
    organizations.update_billing_details(
        organization=acme, actor=alice, billing_name="Acme Ltd", country="de", city=""
    )
    acme.refresh_from_db()
    assert (acme.billing_name, acme.country) == ("Acme Ltd", "DE")
    assert AuditEntry.objects.get().detail == {
        "billing_name": {"before": "", "after": "Acme Ltd"},
        "country": {"before": "", "after": "DE"},
    }


@pytest.mark.parametrize(
    "wrong", [{"country": "XQ"}, {"country": "Germany"}, {"billing_email": "not an address"}]
)
def test_wrong_billing_details_are_refused(acme: Organization, alice: User, wrong: dict[str, str]):
    with pytest.raises(Refusal) as refusal:
        organizations.update_billing_details(organization=acme, actor=alice, **wrong)
    assert [refusal.value.field] == list(wrong)


def test_a_suspension_is_recorded_with_its_reason_and_once(acme: Organization):
    assert organizations.suspend(organization=acme, reason="unpaid", actor=None)
    assert not organizations.suspend(organization=acme, reason="unpaid", actor=None)
    assert AuditEntry.objects.get().detail == {"reason": "unpaid"}
    assert organizations.activate(organization=acme, reason="paid", actor=None)
    assert actions() == ["organization.suspended", "organization.activated"]


# projects


def test_projects_of_one_organization_have_different_slugs(acme: Organization, alice: User):
    slugs = [
        projects.create(organization=acme, name=name, actor=alice).slug
        for name in ("Default", "研究", "研究")
    ]
    assert slugs == ["default-2", "project", "project-2"]


def test_a_project_keeps_its_slug_when_it_is_renamed(acme: Organization, alice: User):
    project = projects.create(organization=acme, name="Search", actor=alice)
    projects.rename(project=project, name="Find", actor=alice)
    project.refresh_from_db()
    assert (project.slug, project.name) == ("search", "Find")


def test_a_project_is_archived_once(acme: Organization, alice: User, now: datetime):
    project = projects.create(organization=acme, name="Search", actor=alice)
    assert projects.archive(project=project, actor=alice, now=now)
    assert not projects.archive(project=project, actor=alice, now=now)
    assert actions() == ["project.created", "project.archived"]


def test_the_default_project_stays(acme: Organization, alice: User, now: datetime):
    with pytest.raises(Refusal, match="default project"):
        projects.archive(project=acme.projects.get(), actor=alice, now=now)


def test_a_project_with_live_keys_stays(acme: Organization, alice: User, now: datetime):
    project = projects.create(organization=acme, name="Search", actor=alice)
    api_key, _ = issue(acme, project=project)
    with pytest.raises(Refusal, match="Revoke its 1 API key"):
        projects.archive(project=project, actor=alice, now=now)
    api_keys.revoke(api_key=api_key, actor=alice, now=now)
    assert projects.archive(project=project, actor=alice, now=now)


# API keys


def test_a_key_is_known_once_and_only_its_digest_is_stored(acme: Organization, alice: User):
    api_key, new = issue(acme, name="collector", scopes=["read", "ingest"], actor=alice)
    row = ApiKey.objects.values().get(pk=api_key.pk)
    assert bytes(row["digest"]) == new.digest
    assert new.text not in str(row)
    assert row["scopes"] == ["ingest", "read"]
    assert api_auth.find(new.text) == api_key


def test_no_secret_reaches_the_audit_log(acme: Organization, alice: User):
    _, new = issue(acme, actor=alice)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.actor) == ("api_key.issued", new.prefix, alice)
    secret = new.text.rpartition("_")[2]
    assert secret not in f"{entry.detail} {entry.subject} {entry.actor_label}"
    assert new.digest.hex() not in str(entry.detail)


def test_a_key_cannot_be_named_after_a_key(acme: Organization):
    _, new = issue(acme)
    with pytest.raises(Refusal, match="holds an API key"):
        issue(acme, name=f"copy of {new.text}")


@pytest.mark.parametrize(("scopes", "says"), [([], "at least one"), (["read", "root"], "'root'")])
def test_a_key_has_at_least_one_scope_and_none_unknown(acme: Organization, scopes, says: str):
    with pytest.raises(Refusal, match=says) as refusal:
        issue(acme, scopes=iter(scopes))
    assert refusal.value.field == "scopes"


def test_a_key_cannot_be_bound_to_a_strangers_project(acme: Organization, globex: Organization):
    with pytest.raises(Refusal, match="another organization"):
        issue(acme, project=globex.projects.get())


def test_a_key_expires_in_the_future_by_the_databases_clock(acme: Organization):
    with pytest.raises(Refusal) as refusal:
        issue(acme, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert refusal.value.field == "expires_at"
    assert issue(acme, expires_at=FAR)[0].pk


def test_a_revoked_key_is_dead_at_once_and_stays_revoked(acme: Organization, now: datetime):
    api_key, new = issue(acme)
    assert api_keys.revoke(api_key=api_key, actor=None, now=now)
    assert api_auth.find(new.text) is None
    assert not api_keys.revoke(api_key=api_key, actor=None, now=now + timedelta(days=1))
    assert ApiKey.objects.get(pk=api_key.pk).revoked_at == now
    assert actions() == ["api_key.issued", "api_key.revoked"]


def test_an_expired_key_is_dead(acme: Organization):
    api_key, new = issue(acme, expires_at=FAR)
    ApiKey.objects.filter(pk=api_key.pk).update(
        created_at=datetime(2019, 1, 1, tzinfo=UTC), expires_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    assert api_auth.find(new.text) is None


def test_a_key_of_another_pepper_is_not_ours(acme: Organization, settings):
    _, new = issue(acme)
    settings.KEY_PEPPER = "stolen database, unknown pepper"
    assert api_auth.find(new.text) is None


def test_the_database_refuses_an_address_with_capitals(db: None):
    with pytest.raises(IntegrityError, match="user_email_is_lower_case"), transaction.atomic():
        User(email="Alice@acme.example").save()
