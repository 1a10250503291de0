"""Projects: seen by every member, made and put away by those who may."""

from __future__ import annotations

from typing import NamedTuple

from django import forms
from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts import projects
from accounts.models import Project
from accounts.permissions import Action
from accounts.refusals import Refusal
from portal.door import Entry, member_page
from portal.forms import show_refusal


class ProjectForm(forms.Form):
    name = forms.CharField(
        max_length=120, help_text="Events name a project by the slug made from this name."
    )


class _Listed(NamedTuple):
    current: list[Project]
    archived: list[Project]


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The projects, and the form for another one."""
    return _page(request, entry, ProjectForm())


@require_POST
@member_page(Action.MANAGE_PROJECTS)
def create(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Make a project."""
    form = ProjectForm(request.POST)
    if not form.is_valid():
        return _page(request, entry, form)
    try:
        project = projects.create(
            organization=entry.organization, name=form.cleaned_data["name"], actor=entry.user
        )
    except Refusal as refusal:
        show_refusal(form, refusal)
        return _page(request, entry, form)
    messages.success(request, f"Project {project.name} is ready; its slug is {project.slug}.")
    return redirect("portal:projects", entry.organization.slug)


@require_POST
@member_page(Action.MANAGE_PROJECTS)
def rename(request: HttpRequest, entry: Entry, project_slug: str) -> HttpResponse:
    """Give a project another name."""
    project = get_object_or_404(entry.organization.projects, slug=project_slug)
    try:
        projects.rename(project=project, name=request.POST.get("name", ""), actor=entry.user)
    except Refusal as refusal:
        messages.error(request, f"Not renamed. {refusal.sentence}")
    else:
        messages.success(request, f"The project is now called {project.name}.")
    return redirect("portal:projects", entry.organization.slug)


@require_POST
@member_page(Action.MANAGE_PROJECTS)
def archive(request: HttpRequest, entry: Entry, project_slug: str) -> HttpResponse:
    """Put a project away; its usage and invoices stay."""
    project = get_object_or_404(entry.organization.projects, slug=project_slug)
    try:
        projects.archive(project=project, actor=entry.user, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, f"Not archived. {refusal.sentence}")
    else:
        messages.success(request, f"{project.name} is archived. Its usage stays on the books.")
    return redirect("portal:projects", entry.organization.slug)


def _page(request: HttpRequest, entry: Entry, form: ProjectForm) -> HttpResponse:
    listed = _listed(entry.organization.projects.all())
    status = 422 if form.errors else 200
    context = {"form": form, "current": listed.current, "archived": listed.archived}
    return render(request, "portal/projects.html", context, status=status)


def _listed(projects_of: QuerySet[Project]) -> _Listed:
    counted = projects_of.annotate(
        live_keys=Count("api_keys", filter=Q(api_keys__revoked_at=None))
    ).order_by("name")
    current: list[Project] = []
    archived: list[Project] = []
    for project in counted:
        (archived if project.archived_at else current).append(project)
    return _Listed(current, archived)
