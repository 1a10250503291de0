"""Memberships: who may invite, accept, change and end them."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.db import DatabaseError, connection, transaction

from accounts import memberships, permissions
from accounts.models import AuditEntry, Invitation, Member, Organization, Role, User
from accounts.permissions import Action
from accounts.refusals import Refusal
from tests import build

DORA = "dora@acme.example"

# What each role may do. A bookkeeper can read this, and permissions.py must say the same.
TABLE = """
action          | owner | admin | billing | developer | viewer
see_usage       | yes   | yes   | yes     | yes       | yes
see_money       | yes   | yes   | yes     | yes       | yes
manage_projects | yes   | yes   | no      | yes       | no
manage_keys     | yes   | yes   | no      | yes       | no
limit_keys      | yes   | yes   | no      | no        | no
correct_usage   | yes   | yes   | no      | yes       | no
manage_quotas   | yes   | yes   | yes     | no        | no
manage_members  | yes   | yes   | no      | no        | no
manage_billing  | yes   | yes   | yes     | no        | no
see_audit       | yes   | yes   | no      | no        | no
"""
_HEAD, *_ROWS = [[cell.strip() for cell in row.split("|")] for row in TABLE.strip().splitlines()]
CELLS = [
    (role, row[0], cell == "yes")
    for row in _ROWS
    for role, cell in zip(_HEAD[1:], row[1:], strict=True)
]


@pytest.mark.parametrize(("role", "action", "allowed"), CELLS)
def test_each_role_may_do_exactly_what_the_table_says(role: str, action: str, allowed: bool):
    assert permissions.may(role, Action(action)) is allowed


def test_the_table_names_every_role_and_every_action():
    assert _HEAD[1:] == Role.values
    assert [row[0] for row in _ROWS] == list(Action)


def test_an_unknown_role_may_do_nothing():
    assert not any(permissions.may("root", action) for action in Action)


@pytest.fixture
def dora(db: None) -> User:
    return build.make_user(email=DORA)


@pytest.fixture
def adam(acme: Organization) -> User:
    """An admin of Acme."""
    adam = build.make_user(email="adam@acme.example")
    build.make_member(organization=acme, user=adam, role=Role.ADMIN)
    return adam


def invite(organization: Organization, by: User | None, now: datetime, **changes: str):
    asked = {"email": DORA, "role": Role.DEVELOPER, **changes}
    return memberships.invite(organization=organization, invited_by=by, now=now, **asked)


def member_of(organization: Organization, user: User) -> Member:
    return organization.members.get(user=user)


def roles(organization: Organization) -> dict[str, str]:
    return dict(organization.members.values_list("user__email", "role"))


# invitations


def test_an_invitation_makes_its_addressee_a_member(acme, alice, dora, now):
    _, secret = invite(acme, alice, now)
    member = memberships.accept(secret=secret, user=dora, now=now)
    assert (member.organization, member.user, member.role) == (acme, dora, Role.DEVELOPER)
    log = AuditEntry.objects.order_by("id").values_list("action", "actor__email", "subject")
    assert list(log) == [
        ("invitation.sent", "alice@acme.example", DORA),
        ("invitation.accepted", DORA, DORA),
    ]


def test_an_invitation_is_mailed_after_commit(
    acme, alice, now, django_capture_on_commit_callbacks, settings
):
    settings.PUBLIC_URL = "https://usage.example"
    with django_capture_on_commit_callbacks(execute=True):
        _, secret = invite(acme, alice, now)
        assert not mail.outbox
    (sent,) = mail.outbox
    assert sent.to == [DORA]
    assert f"https://usage.example/invitations/{secret}/" in sent.body
    assert "Acme" in sent.subject


def test_the_secret_of_an_invitation_is_stored_nowhere(acme, alice, now):
    _, secret = invite(acme, alice, now)
    rows = f"{list(Invitation.objects.values())} {list(AuditEntry.objects.values())}"
    assert secret not in rows
    assert len(bytes(Invitation.objects.get().digest)) == 32


def test_an_invitation_is_single_use(acme, alice, dora, now):
    _, secret = invite(acme, alice, now)
    member = memberships.accept(secret=secret, user=dora, now=now)
    memberships.remove(member=member, actor=alice, now=now)
    with pytest.raises(Refusal, match="used, withdrawn or has expired"):
        memberships.accept(secret=secret, user=dora, now=now)
    assert DORA not in roles(acme)


def test_an_invitation_is_bound_to_its_address(acme, alice, charlie, now):
    _, secret = invite(acme, alice, now)
    with pytest.raises(Refusal, match="another e-mail address"):
        memberships.accept(secret=secret, user=charlie, now=now)
    assert memberships.find_open(secret, now=now)


def test_an_unverified_sign_up_cannot_claim_an_invitation(acme, alice, now):
    _, secret = invite(acme, alice, now)
    impostor = User.objects.create_user(DORA, "correct horse battery")
    address = EmailAddress.objects.create(user=impostor, email=DORA, verified=False, primary=True)
    with pytest.raises(Refusal, match="another e-mail address"):
        memberships.accept(secret=secret, user=impostor, now=now)
    address.set_verified()
    assert memberships.accept(secret=secret, user=impostor, now=now)


def test_an_invitation_expires_after_seven_days(acme, alice, dora, now):
    _, secret = invite(acme, alice, now)
    late = now + timedelta(days=7)
    assert memberships.find_open(secret, now=late - timedelta(microseconds=1))
    assert memberships.find_open(secret, now=late) is None
    with pytest.raises(Refusal, match="expired"):
        memberships.accept(secret=secret, user=dora, now=late)


def test_inviting_again_ends_the_older_invitation(acme, alice, dora, now):
    _, old = invite(acme, alice, now)
    _, new = invite(acme, alice, now, email=DORA.upper(), role=Role.VIEWER)
    with pytest.raises(Refusal, match="withdrawn"):
        memberships.accept(secret=old, user=dora, now=now)
    assert memberships.accept(secret=new, user=dora, now=now).role == Role.VIEWER


def test_a_withdrawn_invitation_is_dead(acme, alice, dora, now):
    invitation, secret = invite(acme, alice, now)
    assert memberships.withdraw(invitation=invitation, actor=alice, now=now)
    assert not memberships.withdraw(invitation=invitation, actor=alice, now=now)
    with pytest.raises(Refusal, match="withdrawn"):
        memberships.accept(secret=secret, user=dora, now=now)


@pytest.mark.parametrize(
    ("inviter", "role", "allowed"),
    [
        (Role.OWNER, Role.OWNER, True),
        (Role.OWNER, Role.ADMIN, True),
        (Role.ADMIN, Role.OWNER, False),
        (Role.ADMIN, Role.ADMIN, True),
        (Role.ADMIN, Role.VIEWER, True),
        (Role.BILLING, Role.VIEWER, False),
        (Role.DEVELOPER, Role.VIEWER, False),
        (Role.VIEWER, Role.VIEWER, False),
    ],
)
def test_nobody_invites_above_himself(acme, now, inviter: str, role: str, allowed: bool):
    person = build.make_user(email="inviter@acme.example")
    build.make_member(organization=acme, user=person, role=inviter)
    if allowed:
        assert invite(acme, person, now, role=role)[0].role == role
        return
    with pytest.raises(Refusal) as refusal:
        invite(acme, person, now, role=role)
    assert refusal.value.field == "role"


def test_a_stranger_cannot_invite(acme, charlie, now):
    with pytest.raises(Refusal):
        invite(acme, charlie, now)
    assert not Invitation.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "bob@acme.example"}, "email"),
        ({"email": "nobody"}, "email"),
        ({"email": "a@b.example\nBcc: c@d.example"}, "email"),
        ({"role": "root"}, "role"),
    ],
)
def test_a_wrong_invitation_is_refused(acme, alice, now, changes: dict[str, str], field: str):
    with pytest.raises(Refusal) as refusal:
        invite(acme, alice, now, **changes)
    assert refusal.value.field == field


def test_the_invitations_of_somebody_who_left_end_with_him(acme, alice, adam, dora, now):
    _, secret = invite(acme, adam, now)
    memberships.remove(member=member_of(acme, adam), actor=alice, now=now)
    with pytest.raises(Refusal, match="withdrawn"):
        memberships.accept(secret=secret, user=dora, now=now)


# roles


def test_a_role_is_changed_with_what_it_was_before(acme, alice, bob, now):
    memberships.change_role(member=member_of(acme, bob), role=Role.ADMIN, actor=alice, now=now)
    assert roles(acme)[bob.email] == Role.ADMIN
    assert AuditEntry.objects.get().detail == {"before": "viewer", "after": "admin"}


def test_the_last_owner_stays(acme, alice, bob, now):
    owner = member_of(acme, alice)
    with pytest.raises(Refusal, match="at least one owner"):
        memberships.change_role(member=owner, role=Role.ADMIN, actor=alice, now=now)
    with pytest.raises(Refusal, match="at least one owner"):
        memberships.remove(member=owner, actor=alice, now=now)
    memberships.change_role(member=member_of(acme, bob), role=Role.OWNER, actor=alice, now=now)
    memberships.remove(member=owner, actor=alice, now=now)
    assert roles(acme) == {bob.email: Role.OWNER}


def test_only_owners_touch_owners(acme, alice, adam, bob, now):
    with pytest.raises(Refusal, match="Your role"):
        memberships.remove(member=member_of(acme, alice), actor=adam, now=now)
    with pytest.raises(Refusal, match="Your role"):
        memberships.change_role(member=member_of(acme, alice), role="viewer", actor=adam, now=now)
    with pytest.raises(Refusal, match="Your role"):
        memberships.change_role(member=member_of(acme, adam), role="owner", actor=adam, now=now)
    memberships.remove(member=member_of(acme, bob), actor=adam, now=now)
    assert bob.email not in roles(acme)


def test_anybody_may_leave_and_nobody_else_may_send_him_away(acme, bob, charlie, adam, now):
    with pytest.raises(Refusal, match="Your role"):
        memberships.remove(member=member_of(acme, adam), actor=bob, now=now)
    with pytest.raises(Refusal, match="Your role"):
        memberships.remove(member=member_of(acme, bob), actor=charlie, now=now)
    memberships.remove(member=member_of(acme, bob), actor=bob, now=now)
    assert bob.email not in roles(acme)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM accounts_member", "UPDATE accounts_member SET role = 'viewer'"],
)
def test_the_database_keeps_the_last_owner_whatever_the_statement(acme, statement: str):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # tell now what COMMIT would tell
        with pytest.raises(DatabaseError, match="at least one owner"), transaction.atomic():
            cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_send_each_other_away_at_once_one_stays(now):
    one, two = (build.make_user(email=f"{name}@acme.example") for name in ("one", "two"))
    acme = build.make_organization(name="Acme", slug="acme", owner=one)
    build.make_member(organization=acme, user=two, role=Role.OWNER)
    together, outcomes = threading.Barrier(2), []

    def send_away(actor: User, other: User) -> None:
        member = member_of(acme, other)
        together.wait(timeout=10)
        try:
            memberships.remove(member=member, actor=actor, now=now)
            outcomes.append("removed")
        except (Refusal, Member.DoesNotExist):
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=send_away, args=pair) for pair in ((one, two), (two, one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(outcomes) == ["refused", "removed"]
    assert list(roles(acme).values()) == [Role.OWNER]


@pytest.mark.django_db(transaction=True)
def test_of_two_clicks_on_one_invitation_one_counts(now):
    alice, dora = build.make_user(email="alice@acme.example"), build.make_user(email=DORA)
    acme = build.make_organization(name="Acme", slug="acme", owner=alice)
    _, secret = invite(acme, None, now)
    together, outcomes = threading.Barrier(2), []

    def click() -> None:
        together.wait(timeout=10)
        try:
            memberships.accept(secret=secret, user=dora, now=now)
            outcomes.append("accepted")
        except Refusal:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(outcomes) == ["accepted", "refused"]
    assert AuditEntry.objects.filter(action="invitation.accepted").count() == 1


def test_an_address_that_holds_a_key_is_refused(acme: Organization, alice: User, now: datetime):
    """It would stand in the audit log for good."""
    key = f"kt_abcdefghijkl_{'a1b2c3d4' * 5}xyz"
    with pytest.raises(Refusal, match="API key"):
        memberships.invite(
            organization=acme, email=f"{key}@x.example", role=Role.VIEWER, invited_by=alice, now=now
        )
    assert not acme.invitations.exists()
