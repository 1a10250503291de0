"""API keys: listed, made (the secret is shown once), limited, revoked."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.validators import MaxValueValidator
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts import api_keys
from accounts.models import ApiKey, Project
from accounts.permissions import Action
from accounts.refusals import Refusal
from portal.door import Entry, member_page
from portal.forms import show_refusal

# The scopes whose doors stand: gateway joins when its own does.
SCOPES = [
    (ApiKey.Scope.INGEST, "ingest: report usage"),
    (ApiKey.Scope.READ, "read: query usage"),
    (ApiKey.Scope.MANAGE, "manage: open, close and revert backfills"),
]
LIFETIMES = [("", "never"), ("30", "30 days"), ("90", "90 days"), ("365", "a year")]
DEFAULTS = {
    "events_per_s_max": lambda: settings.INGEST_EVENTS_PER_S,
    "bytes_per_s_max": lambda: settings.INGEST_BYTES_PER_S,
}


class KeyForm(forms.Form):
    """What a key may do, and for how long."""

    name = forms.CharField(max_length=120, help_text="Where it is used, for instance: gateway eu-1")
    scopes = forms.MultipleChoiceField(
        choices=SCOPES, initial=[ApiKey.Scope.INGEST], widget=forms.CheckboxSelectMultiple
    )
    project = forms.ModelChoiceField(
        Project.objects.none(), to_field_name="slug", required=False, empty_label="all projects"
    )
    lifetime = forms.ChoiceField(choices=LIFETIMES, required=False, label="Expires after")
    form_id = forms.CharField(widget=forms.HiddenInput, max_length=64)

    def __init__(self, entry: Entry, data: object = None) -> None:
        super().__init__(data, initial={"form_id": secrets.token_urlsafe(16)})  # type: ignore[arg-type]
        project = self.fields["project"]
        assert isinstance(project, forms.ModelChoiceField)
        project.queryset = entry.organization.projects.filter(archived_at=None)

    def expires_at(self, now: datetime) -> datetime | None:
        days = self.cleaned_data["lifetime"]
        return now + timedelta(days=int(days)) if days else None


class LimitForm(forms.Form):
    """What a key may report a second. A member asks for no more than every key has, or it had;
    where staff have set a cap, for no more than that."""

    events_per_s_max = forms.IntegerField(required=False, min_value=1, label="Events a second")
    bytes_per_s_max = forms.IntegerField(required=False, min_value=1, label="Bytes a second")

    def __init__(self, api_key: ApiKey, data: object = None) -> None:
        now = {name: getattr(api_key, name) for name in api_keys.LIMITS_MAX}
        super().__init__(data, initial=now, auto_id=f"id_{api_key.prefix}_%s")  # type: ignore[arg-type]
        for name in api_keys.LIMITS_MAX:
            field = self.fields[name]
            assert isinstance(field, forms.IntegerField)
            cap: int | None = getattr(api_key, api_keys.CAP_OF[name])
            usual = DEFAULTS[name]()
            field.required = cap is not None
            field.max_value = cap or _most(name, usual, now[name])
            field.validators.append(MaxValueValidator(field.max_value))
            field.help_text = (
                f"The operator allows {cap:,} at most."
                if cap
                else f"Empty: {f'{usual:,}' if usual else 'no limit'}."
            )


def _most(name: str, usual: int, now: int | None) -> int:
    return max(usual, now or 0) if usual else api_keys.LIMITS_MAX[name]


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The keys, and the form for another one."""
    return _page(request, entry, KeyForm(entry))


@require_POST
@member_page(Action.MANAGE_KEYS)
def create(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Make a key and show its secret: in this answer, and never again.

    No redirect, because the secret is kept nowhere that a next page could read it from. Sending
    the same form twice (a reload) makes no second key.
    """
    form = KeyForm(entry, request.POST)
    if not form.is_valid():
        return _page(request, entry, form)
    try:
        api_key, new = api_keys.issue(
            organization=entry.organization,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            project=form.cleaned_data["project"],
            expires_at=form.expires_at(timezone.now()),
            actor=entry.user,
            request_id=form.cleaned_data["form_id"],
        )
    except api_keys.AlreadyIssued:
        messages.warning(request, "That key was made already. Its secret is not shown again.")
        return redirect("portal:keys", entry.organization.slug)
    except Refusal as refusal:
        show_refusal(form, refusal)
        return _page(request, entry, form)
    return render(request, "portal/key_made.html", {"api_key": api_key, "secret": new.text})


@require_POST
@member_page(Action.MANAGE_KEYS)
def revoke(request: HttpRequest, entry: Entry, prefix: str) -> HttpResponse:
    """End a key for good."""
    api_key = get_object_or_404(entry.organization.api_keys, prefix=prefix)
    if api_keys.revoke(api_key=api_key, actor=entry.user, now=timezone.now()):
        messages.success(request, f"{api_key.name} is revoked and refused from now on.")
    else:
        messages.info(request, f"{api_key.name} was revoked already.")
    return redirect("portal:keys", entry.organization.slug)


@require_POST
@member_page(Action.LIMIT_KEYS)
def limit(request: HttpRequest, entry: Entry, prefix: str) -> HttpResponse:
    """Change what a key may report a second."""
    api_key = get_object_or_404(entry.organization.api_keys, prefix=prefix)
    form = LimitForm(api_key, request.POST)
    if not form.is_valid():
        return _page(request, entry, KeyForm(entry), limits=(api_key.pk, form))
    try:
        changed = api_keys.limit(api_key=api_key, actor=entry.user, **form.cleaned_data)
    except Refusal as refusal:
        show_refusal(form, refusal)
        return _page(request, entry, KeyForm(entry), limits=(api_key.pk, form))
    said = "has other limits from now on" if changed else "has these limits already"
    messages.success(request, f"{api_key.name} {said}.")
    return redirect("portal:keys", entry.organization.slug)


@dataclass(frozen=True, slots=True)
class Row:
    """A key as the page lists it; None is without limit."""

    key: ApiKey
    state: str
    events_per_s: int | None
    bytes_per_s: int | None
    form: LimitForm


def _page(
    request: HttpRequest,
    entry: Entry,
    form: KeyForm,
    limits: tuple[int, LimitForm] | None = None,
) -> HttpResponse:
    now = timezone.now()
    keys = entry.organization.api_keys.select_related("project", "created_by").order_by(
        F("revoked_at").desc(nulls_first=True), "-created_at"
    )
    sent = dict([limits]) if limits else {}
    rows = [_row(key, sent.get(key.pk), now) for key in keys]
    status = 422 if form.errors or sent else 200
    return render(request, "portal/keys.html", {"form": form, "rows": rows}, status=status)


def _row(key: ApiKey, sent: LimitForm | None, now: datetime) -> Row:
    return Row(
        key,
        _state(key, now),
        key.events_per_s_max or settings.INGEST_EVENTS_PER_S or None,
        key.bytes_per_s_max or settings.INGEST_BYTES_PER_S or None,
        sent or LimitForm(key),
    )


def _state(api_key: ApiKey, now: datetime) -> str:
    if api_key.revoked_at:
        return "revoked"
    if api_key.expires_at and api_key.expires_at <= now:
        return "expired"
    return "live"
