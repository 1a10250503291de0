"""Memberships: offered by invitation, accepted, changed, ended.

Every change takes the organization's row first (`_lock`), so that two owners who demote each
other at the same moment cannot both succeed. A trigger says the same (migration 0002).
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit, invitation_mail, keys, people, permissions
from accounts.models import Invitation, Member, Organization, Role, User
from accounts.refusals import Refusal

INVITATION_AGE_MAX = timedelta(days=7)
_NO_INVITATION = "This invitation was used, withdrawn or has expired. Ask for a new one."
_OTHER_ADDRESS = "This invitation was sent to another e-mail address. Sign in with that one."
_NOT_YOURS_TO_GIVE = "Your role does not let you do this."
_LAST_OWNER = "An organization keeps at least one owner. Make somebody else owner first."


@transaction.atomic
def invite(
    *, organization: Organization, email: str, role: str, invited_by: User | None, now: datetime
) -> tuple[Invitation, str]:
    """Offer a membership by mail; an older offer to the same address ends.

    Returns the row and the secret, which is mailed and stored nowhere. `invited_by` is None where
    the operator invites.
    """
    email = _email(email)
    _lock(organization)
    _refuse_unless_may_grant(organization, invited_by, _role(role))
    if organization.members.filter(user__email__iexact=email).exists():
        raise Refusal("email", f"{email} is a member already.")
    _open(organization).filter(email=email).update(revoked_at=now)
    secret = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        organization=organization,
        email=email,
        role=role,
        digest=_digest(secret),
        invited_by=invited_by,
        created_at=now,
        expires_at=now + INVITATION_AGE_MAX,
    )
    _record("invitation.sent", organization, invited_by, email, {"role": role})
    transaction.on_commit(lambda: invitation_mail.send(invitation, secret), robust=True)
    return invitation, secret


def find_open(secret: str, *, now: datetime) -> Invitation | None:
    """The invitation this secret opens, if it can still be accepted."""
    unanswered = Invitation.objects.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)
    return unanswered.select_related("organization").filter(digest=_digest(secret)).first()


@transaction.atomic
def accept(*, secret: str, user: User, now: datetime) -> Member:
    """Turn an invitation into a membership: once, and only for the verified address it names."""
    offered = find_open(secret, now=now)
    if offered is None:
        raise Refusal("", _NO_INVITATION)
    organization = _lock(offered.organization)
    if not people.has_verified(user, offered.email):
        raise Refusal("", _OTHER_ADDRESS)
    used = Invitation.objects.filter(pk=offered.pk, accepted_at=None, revoked_at=None)
    if used.update(accepted_at=now) == 0:
        raise Refusal("", _NO_INVITATION)
    member, _ = Member.objects.get_or_create(
        organization=organization, user=user, defaults={"role": offered.role, "created_at": now}
    )
    _record("invitation.accepted", organization, user, offered.email, {"role": member.role})
    return member


@transaction.atomic
def withdraw(*, invitation: Invitation, actor: User | None, now: datetime) -> bool:
    """Take an invitation back. False: it was used or withdrawn already."""
    organization = _lock(invitation.organization)
    _refuse_unless_may_grant(organization, actor, invitation.role)
    if not _open(organization).filter(pk=invitation.pk).update(revoked_at=now):
        return False
    _record("invitation.withdrawn", organization, actor, invitation.email)
    return True


@transaction.atomic
def change_role(*, member: Member, role: str, actor: User | None, now: datetime) -> None:
    """Let a member do more or less. The last owner stays owner; only owners touch owners."""
    organization = _lock(member.organization)
    member.refresh_from_db(fields=["role"])
    before = member.role
    _refuse_unless_may_grant(organization, actor, before)
    _refuse_unless_may_grant(organization, actor, _role(role))
    if before == role:
        return
    if before == Role.OWNER:
        _refuse_last_owner(organization)
    member.role = role
    member.save(update_fields=["role"])
    _end_offers_beyond(member, role, now)
    detail: dict[str, object] = {"before": before, "after": role}
    _record("member.role_changed", organization, actor, member.user.email, detail)


@transaction.atomic
def remove(*, member: Member, actor: User | None, now: datetime) -> None:
    """End a membership. Anybody may leave; the last owner stays."""
    organization = _lock(member.organization)
    member.refresh_from_db(fields=["role"])
    if actor is None or actor.pk != member.user_id:
        _refuse_unless_may_grant(organization, actor, member.role)
    if member.role == Role.OWNER:
        _refuse_last_owner(organization)
    _end_offers_beyond(member, "", now)
    _record("member.removed", organization, actor, member.user.email, {"role": member.role})
    member.delete()


def _lock(organization: Organization) -> Organization:
    return Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def _open(organization: Organization) -> QuerySet[Invitation]:
    return organization.invitations.filter(accepted_at=None, revoked_at=None)


def _digest(secret: str) -> bytes:
    return keys.digest(secret, settings.KEY_PEPPER)


def _email(text: str) -> str:
    email = text.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise Refusal("email", "This is not an e-mail address.") from None
    if keys.holds_secret(email):
        raise Refusal("email", "This holds an API key. Revoke that key.")
    return email


def _role(role: str) -> str:
    if role not in Role.values:
        raise Refusal("role", f"The roles are: {', '.join(Role.values)}.")
    return role


def _refuse_unless_may_grant(organization: Organization, actor: User | None, role: str) -> None:
    if actor is None:
        return
    own = organization.members.filter(user=actor).values_list("role", flat=True).first()
    if own is None or not permissions.may_grant(own, role):
        raise Refusal("role", _NOT_YOURS_TO_GIVE)


def _refuse_last_owner(organization: Organization) -> None:
    if organization.members.filter(role=Role.OWNER).count() == 1:
        raise Refusal("", _LAST_OWNER)


def _end_offers_beyond(member: Member, role: str, now: datetime) -> None:
    """Withdraw the open invitations that a member could not send with the new role."""
    for invitation in _open(member.organization).filter(invited_by=member.user_id):
        if not permissions.may_grant(role, invitation.role):
            invitation.revoked_at = now
            invitation.save(update_fields=["revoked_at"])


def _record(
    action: str,
    organization: Organization,
    actor: User | None,
    subject: str,
    detail: dict[str, object] | None = None,
) -> None:
    audit.record(action, subject=subject, organization=organization, actor=actor, detail=detail)
