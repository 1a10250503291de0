"""Members and invitations: who is here, who is asked, and what each may do."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts import memberships
from accounts.invitation_mail import address_of
from accounts.models import Invitation, Role
from accounts.permissions import ALLOWED, Action, may_grant
from accounts.refusals import Refusal
from portal.door import Entry, member_page
from portal.forms import show_refusal


class InvitationForm(forms.Form):
    """An address and a role."""

    email = forms.EmailField(label="E-mail address")
    role = forms.ChoiceField(choices=Role.choices, initial=Role.DEVELOPER)

    def __init__(self, entry: Entry, data: object = None) -> None:
        super().__init__(data)  # type: ignore[arg-type]
        roles = self.fields["role"]
        assert isinstance(roles, forms.ChoiceField)
        roles.choices = _grantable(entry)


def _grantable(entry: Entry) -> list[tuple[str, str]]:
    return [(role.value, role.label) for role in Role if may_grant(entry.member.role, role)]


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The members; and for those who may, the open invitations and the form."""
    return _page(request, entry, InvitationForm(entry))


@require_POST
@member_page(Action.MANAGE_MEMBERS)
def invite(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Mail an invitation, and show its link to pass on by hand."""
    form = InvitationForm(entry, request.POST)
    if not form.is_valid():
        return _page(request, entry, form)
    try:
        invitation, secret = memberships.invite(
            organization=entry.organization,
            email=form.cleaned_data["email"],
            role=form.cleaned_data["role"],
            invited_by=entry.user,
            now=timezone.now(),
        )
    except Refusal as refusal:
        show_refusal(form, refusal)
        return _page(request, entry, form)
    context = {"invitation": invitation, "address": address_of(secret)}
    return render(request, "portal/invitation_sent.html", context)


@require_POST
@member_page(Action.MANAGE_MEMBERS)
def withdraw(request: HttpRequest, entry: Entry, pk: int) -> HttpResponse:
    """Take an open invitation back."""
    invitation = get_object_or_404(_open_invitations(entry), pk=pk)
    try:
        memberships.withdraw(invitation=invitation, actor=entry.user, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, refusal.sentence)
    else:
        messages.success(request, f"The invitation to {invitation.email} no longer works.")
    return redirect("portal:members", entry.organization.slug)


@require_POST
@member_page(Action.MANAGE_MEMBERS)
def change_role(request: HttpRequest, entry: Entry, pk: int) -> HttpResponse:
    """Let a member do more or less."""
    member = get_object_or_404(entry.organization.members.select_related("user"), pk=pk)
    role = request.POST.get("role", "")
    try:
        memberships.change_role(member=member, role=role, actor=entry.user, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, f"Not changed. {refusal.sentence}")
    else:
        messages.success(request, f"{member.user.email} is now {member.get_role_display()}.")
    return redirect("portal:members", entry.organization.slug)


@require_POST
@member_page(Action.SEE_USAGE)
def remove(request: HttpRequest, entry: Entry, pk: int) -> HttpResponse:
    """End a membership: one's own, or another's by those who may."""
    member = get_object_or_404(entry.organization.members.select_related("user"), pk=pk)
    email, leaves = member.user.email, member.pk == entry.member.pk
    try:
        memberships.remove(member=member, actor=entry.user, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, f"Not removed. {refusal.sentence}")
        return redirect("portal:members", entry.organization.slug)
    if leaves:
        messages.success(request, f"You left {entry.organization.name}.")
        return redirect("portal:choose")
    messages.success(request, f"{email} is no longer a member.")
    return redirect("portal:members", entry.organization.slug)


def _open_invitations(entry: Entry) -> QuerySet[Invitation]:
    return entry.organization.invitations.filter(accepted_at=None, revoked_at=None)


def _page(request: HttpRequest, entry: Entry, form: InvitationForm) -> HttpResponse:
    manages = entry.may(Action.MANAGE_MEMBERS)
    members = entry.organization.members.select_related("user").order_by("user__email")
    invitations = _open_invitations(entry).select_related("invited_by").order_by("-created_at")
    context = {
        "form": form,
        "members": [(member, may_grant(entry.member.role, member.role)) for member in members],
        "grantable": _grantable(entry),
        "invitations": list(invitations) if manages else [],
        "now": timezone.now(),
        "roles": [
            (
                role.label,
                [str(action).replace("_", " ") for action in Action if action in ALLOWED[role]],
            )
            for role in Role
        ],
    }
    return render(request, "portal/members.html", context, status=422 if form.errors else 200)
