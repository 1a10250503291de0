"""Quotas, set and removed on the settings page."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from accounts.permissions import Action
from billing import allowance
from billing.allowance import QuotaRefused
from portal.door import Entry, member_page
from portal.quota_form import QuotaForm
from portal.settings import page


@require_POST
@member_page(Action.MANAGE_QUOTAS)
def save(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Set a quota, or change the one there is."""
    form = QuotaForm(entry, request.POST)
    if not form.is_valid():
        return page(request, entry, quota=form)
    project = form.cleaned_data["project"]
    try:
        allowance.set_quota(
            entry.organization, form.cleaned_data["tokens"], project=project, actor=entry.user
        )
    except QuotaRefused as refusal:
        form.add_error(None, str(refusal))
        return page(request, entry, quota=form)
    messages.success(request, f"The quota of {project or entry.organization} is set.")
    return redirect("portal:settings", entry.organization.slug)


@require_POST
@member_page(Action.MANAGE_QUOTAS)
def remove(request: HttpRequest, entry: Entry, pk: int) -> HttpResponse:
    """Remove a quota."""
    quota = get_object_or_404(entry.organization.quotas.select_related("project"), pk=pk)
    allowance.remove_quota(quota, actor=entry.user)
    messages.success(request, f"The quota of {quota.project or entry.organization} is removed.")
    return redirect("portal:settings", entry.organization.slug)
