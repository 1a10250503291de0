"""API keys: issued, and revoked. The secret leaves `issue` once and is stored nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import audit, keys, names
from accounts.keys import NewKey
from accounts.models import ApiKey, Organization, Project, User
from accounts.refusals import Refusal

# Of any key, a second: more than one installation takes in.
LIMITS_MAX = {"events_per_s_max": 1_000_000, "bytes_per_s_max": 10_000_000_000}


@transaction.atomic
def issue(
    *,
    organization: Organization,
    name: str,
    scopes: Iterable[str],
    project: Project | None = None,
    expires_at: datetime | None = None,
    actor: User | None = None,
) -> tuple[ApiKey, NewKey]:
    """Make a key. Show `NewKey.text` now: nobody can read it again."""
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
    """Say what a key may report a second; None is what the settings say. False: nothing new.

    Every ingestion process heeds it within two seconds.
    """
    wanted = {"events_per_s_max": events_per_s_max, "bytes_per_s_max": bytes_per_s_max}
    for field, value in wanted.items():
        if value is not None and not 0 < value <= LIMITS_MAX[field]:
            sentence = f"Write a number from 1 to {LIMITS_MAX[field]:,}, or nothing at all."
            raise Refusal(field, sentence)
    row = ApiKey.objects.select_for_update().get(pk=api_key.pk)
    if row.revoked_at is not None:
        raise Refusal("", "The key is revoked: it can report nothing.")
    changed = {
        field: {"before": getattr(row, field), "after": value}
        for field, value in wanted.items()
        if getattr(row, field) != value
    }
    if not changed:
        return False
    for one in (row, api_key):
        one.events_per_s_max, one.bytes_per_s_max = events_per_s_max, bytes_per_s_max
    row.save(update_fields=list(wanted))
    audit.record(
        "api_key.limited",
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
    """Save; whether it expires in the future is told by the database's clock."""
    try:
        with transaction.atomic():
            api_key.save()
    except IntegrityError as error:
        if "api_key_expires_after_creation" not in str(error):
            raise
        raise Refusal("expires_at", "The expiry must lie in the future.") from None
