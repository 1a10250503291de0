"""Projects: workspaces inside an organization."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from accounts import audit, names
from accounts.models import Organization, Project, User
from accounts.organizations import DEFAULT_PROJECT_SLUG
from accounts.refusals import Refusal


@transaction.atomic
def create(*, organization: Organization, name: str, actor: User | None = None) -> Project:
    """Make a project; its slug, made from the name, is what events name it by."""
    project = _insert(organization, names.clean(name, field="name", length_max=120))
    audit.record(
        "project.created",
        subject=project.slug,
        organization=organization,
        actor=actor,
        detail={"name": project.name},
    )
    return project


@transaction.atomic
def rename(*, project: Project, name: str, actor: User | None) -> None:
    """Give a project another name; its slug stays, because events name it."""
    before = project.name
    project.name = names.clean(name, field="name", length_max=120)
    project.save(update_fields=["name"])
    audit.record(
        "project.renamed",
        subject=project.slug,
        organization=project.organization,
        actor=actor,
        detail={"before": before, "after": project.name},
    )


@transaction.atomic
def archive(*, project: Project, actor: User | None, now: datetime) -> bool:
    """Put a project away; its usage and invoices stay. False: it was archived already."""
    if project.slug == DEFAULT_PROJECT_SLUG:
        raise Refusal("", "The default project takes usage that names no project: it stays.")
    live_keys = project.api_keys.filter(revoked_at=None).count()
    if live_keys:
        raise Refusal("", f"Revoke its {live_keys} API key(s) first: they still bring usage.")
    if not Project.objects.filter(pk=project.pk, archived_at=None).update(archived_at=now):
        return False
    project.archived_at = now
    audit.record(
        "project.archived",
        subject=project.slug,
        organization=project.organization,
        actor=actor,
    )
    return True


def _insert(organization: Organization, name: str) -> Project:
    for slug in names.slugs(name, otherwise="project"):
        if organization.projects.filter(slug=slug).exists():
            continue
        try:
            with transaction.atomic():
                return Project.objects.create(organization=organization, slug=slug, name=name)
        except IntegrityError as error:
            if "project_slug_once" not in str(error):
                raise
    raise AssertionError("slugs never run out")
