"""API keys: issued, and revoked. The secret leaves `issue` once and is stored nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import audit, keys, names
from accounts.keys import NewKey
from accounts.models import ApiKey, Organization, Project, User
from accounts.refusals import Refusal

# Of any key, a second: more than one installation takes in.
LIMITS_MAX = {"events_per_s_max": 1_000_000, "bytes_per_s_max": 10_000_000_000}
CAP_OF = {"events_per_s_max": "events_per_s_cap", "bytes_per_s_max": "bytes_per_s_cap"}


class AlreadyIssued(Exception):
    """This request has made its key; the secret was in that answer, and nowhere else."""


@transaction.atomic
def issue(
    *,
    organization: Organization,
    name: str,
    scopes: Iterable[str],
    project: Project | None = None,
    expires_at: datetime | None = None,
    actor: User | None = None,
    request_id: str = "",
) -> tuple[ApiKey, NewKey]:
    """Make a key. Show `NewKey.text` now: nobody can read it again.

    AlreadyIssued if the same request made one before, or is making one at the same time.
    """
    new = keys.make(settings.KEY_PEPPER)
    api_key = ApiKey(
        organization=organization,
        project=_project(organization, project),
        name=names.clean(name, field="name", length_max=120),
        prefix=new.prefix,
        digest=new.digest,
        scopes=_scopes(scopes),
        created_by=actor,
        expires_at=expires_at,
        request_id=request_id,
    )
    _insert(api_key)
    audit.record(
        "api_key.issued",
        subject=api_key.prefix,
        organization=organization,
        actor=actor,
        detail={
            "name": api_key.name,
            "scopes": api_key.scopes,
            "project": project.slug if project else None,
            "expires_at": expires_at.isoformat() if expires_at else None,
        },
    )
    return api_key, new


@transaction.atomic
def revoke(*, api_key: ApiKey, actor: User | None, now: datetime) -> bool:
    """End a key for good, at once. False: it was revoked already."""
    if not ApiKey.objects.filter(pk=api_key.pk, revoked_at=None).update(revoked_at=now):
        return False
    api_key.revoked_at = now
    audit.record(
        "api_key.revoked",
        subject=api_key.prefix,
        organization=api_key.organization,
        actor=actor,
        detail={"name": api_key.name},
    )
    return True


@transaction.atomic
def limit(
    *,
    api_key: ApiKey,
    events_per_s_max: int | None,
    bytes_per_s_max: int | None,
    actor: User | None,
) -> bool:
    """Say what a key may report a second, within what staff allow; None is what the settings say.

    Every ingestion process heeds it within two seconds. False: nothing new.
    """
    wanted = {"events_per_s_max": events_per_s_max, "bytes_per_s_max": bytes_per_s_max}
    _refuse_out_of_reach(wanted)
    row = _live(api_key)
    for field, value in wanted.items():
        cap: int | None = getattr(row, CAP_OF[field])
        if cap is not None and (value is None or value > cap):
            raise Refusal(field, f"The operator allows this key {cap:,}: write that, or less.")
    return _change(row, api_key, wanted, "api_key.limited", actor)


@transaction.atomic
def cap(
    *,
    api_key: ApiKey,
    events_per_s_cap: int | None,
    bytes_per_s_cap: int | None,
    actor: User | None,
) -> bool:
    """Say what staff allow a key a second; None leaves it to its organization, within the settings.

    The cap holds at once, unless the organization has asked for less. False: nothing new.
    """
    caps = {"events_per_s_max": events_per_s_cap, "bytes_per_s_max": bytes_per_s_cap}
    _refuse_out_of_reach(caps)
    row = _live(api_key)
    wanted: dict[str, int | None] = {}
    for field, allowed in caps.items():
        now, before = getattr(row, field), getattr(row, CAP_OF[field])
        asked = None if now == before else now  # by the organization itself
        limits = [one for one in (asked, allowed) if one is not None]
        wanted |= {CAP_OF[field]: allowed, field: min(limits, default=None)}
    return _change(row, api_key, wanted, "api_key.capped", actor)


def _refuse_out_of_reach(wanted: Mapping[str, int | None]) -> None:
    for field, value in wanted.items():
        if value is not None and not 0 < value <= LIMITS_MAX[field]:
            sentence = f"Write a number from 1 to {LIMITS_MAX[field]:,}, or nothing at all."
            raise Refusal(field, sentence)


def _live(api_key: ApiKey) -> ApiKey:
    row = ApiKey.objects.select_for_update().get(pk=api_key.pk)
    if row.revoked_at is not None:
        raise Refusal("", "The key is revoked: it can report nothing.")
    return row


def _change(
    row: ApiKey,
    api_key: ApiKey,
    wanted: Mapping[str, int | None],
    action: str,
    actor: User | None,
) -> bool:
    changed = {
        field: {"before": getattr(row, field), "after": value}
        for field, value in wanted.items()
        if getattr(row, field) != value
    }
    if not changed:
        return False
    for field, value in wanted.items():
        setattr(row, field, value)
        setattr(api_key, field, value)
    row.save(update_fields=list(wanted))
    audit.record(
        action,
        subject=api_key.prefix,
        organization=api_key.organization,
        actor=actor,
        detail={"name": api_key.name, **changed},
    )
    return True


def _project(organization: Organization, project: Project | None) -> Project | None:
    if project is None:
        return None
    if project.organization_id != organization.pk:
        raise Refusal("project", "The project belongs to another organization.")
    if project.archived_at:
        raise Refusal("project", "The project is archived.")
    return project


def _scopes(scopes: Iterable[str]) -> list[str]:
    asked = set(scopes)
    chosen = [scope for scope in ApiKey.Scope.values if scope in asked]
    unknown = asked - set(chosen)
    if unknown:
        known = ", ".join(ApiKey.Scope.values)
        raise Refusal("scopes", f"{min(unknown)!r} is no scope; the scopes are: {known}.")
    if not chosen:
        raise Refusal("scopes", "Choose at least one scope.")
    return chosen


def _insert(api_key: ApiKey) -> None:
    """Save; whether it expires in the future is told by the database's clock, and whether the
    request has made a key before by its index."""
    try:
        with transaction.atomic():
            api_key.save()
    except IntegrityError as error:
        if "api_key_once_per_request" in str(error):
            raise AlreadyIssued from None
        if "api_key_expires_after_creation" not in str(error):
            raise
        raise Refusal("expires_at", "The expiry must lie in the future.") from None
