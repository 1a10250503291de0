"""What each role may do, action by action. A missing row is a refusal."""

from __future__ import annotations

from enum import StrEnum

from accounts.models import Role


class Action(StrEnum):
    """Something a member may or may not do in an organization."""

    SEE_USAGE = "see_usage"
    SEE_MONEY = "see_money"
    MANAGE_PROJECTS = "manage_projects"
    MANAGE_KEYS = "manage_keys"
    LIMIT_KEYS = "limit_keys"
    CORRECT_USAGE = "correct_usage"
    MANAGE_QUOTAS = "manage_quotas"
    MANAGE_MEMBERS = "manage_members"
    MANAGE_BILLING = "manage_billing"
    SEE_AUDIT = "see_audit"


_EVERYTHING = frozenset(Action)
ALLOWED: dict[str, frozenset[Action]] = {
    Role.OWNER: _EVERYTHING,
    Role.ADMIN: _EVERYTHING,
    Role.BILLING: frozenset(
        {Action.SEE_USAGE, Action.SEE_MONEY, Action.MANAGE_QUOTAS, Action.MANAGE_BILLING}
    ),
    Role.DEVELOPER: frozenset(
        {
            Action.SEE_USAGE,
            Action.SEE_MONEY,
            Action.MANAGE_PROJECTS,
            Action.MANAGE_KEYS,
            Action.CORRECT_USAGE,
        }
    ),
    Role.VIEWER: frozenset({Action.SEE_USAGE, Action.SEE_MONEY}),
}


def may(role: str, action: Action) -> bool:
    """Whether a member with this role may do this."""
    return action in ALLOWED.get(role, frozenset())


def may_grant(role: str, granted: str) -> bool:
    """Whether a member with this role may give, change or take away that one.

    Nobody reaches above himself, and only owners touch owners.
    """
    if not may(role, Action.MANAGE_MEMBERS):
        return False
    return granted != Role.OWNER or role == Role.OWNER
