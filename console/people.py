"""People who sign in, and the log of what was done."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db.models import Count, Exists, OuterRef
from django.http import HttpRequest
from unfold.contrib.filters.admin import AllValuesCheckboxFilter, RangeDateTimeFilter
from unfold.decorators import display
from unfold.widgets import UnfoldBooleanSwitchWidget

from accounts import audit
from accounts.models import AuditEntry, Member, User
from accounts.refusals import Refusal
from console.staff import ReadOnlyInline, StaffAdmin, document, link
from console.steps import StepForm

for model in (Group, EmailAddress, Authenticator):
    if admin.site.is_registered(model):
        admin.site.unregister(model)

RIGHTS = ("is_active", "is_staff", "is_superuser")
PERMISSIONS = ("publish_prices", "approve_prices")  # of the app billing; superusers hold both


class UserForm(StepForm):
    """Whether a person may sign in, look at the console, and act in it."""

    publish_prices = forms.BooleanField(
        required=False,
        label="May publish prices",
        help_text="And propose those that take a second person; and start re-ratings.",
        widget=UnfoldBooleanSwitchWidget,
    )
    approve_prices = forms.BooleanField(
        required=False,
        label="May approve prices",
        help_text="That somebody else proposed; and re-ratings.",
        widget=UnfoldBooleanSwitchWidget,
    )

    class Meta:
        model = User
        fields = ("first_name", "last_name", *RIGHTS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in _held(self.instance):
            self.initial[name] = True

    def step(self) -> User:
        user = User.objects.get(pk=self.instance.pk)
        self._grant(user)
        asked = {name: self.cleaned_data[name] for name in ("first_name", "last_name", *RIGHTS)}
        before = {name: getattr(user, name) for name in asked if getattr(user, name) != asked[name]}
        if user == self.actor and set(before) & set(RIGHTS):
            raise Refusal("", "Nobody changes his own rights: ask another superuser.")
        if before:
            for name in before:
                setattr(user, name, asked[name])
            user.save(update_fields=list(before))
            detail = {name: {"before": before[name], "after": asked[name]} for name in before}
            audit.record(
                "user.changed", subject=user, organization=None, actor=self.actor, detail=detail
            )
        return user

    def _grant(self, user: User) -> None:
        """Give and take permissions; whoever acts here may not give himself any."""
        held = _held(user)
        asked = {name for name in PERMISSIONS if self.cleaned_data[name]}
        if held == asked:
            return
        if user == self.actor:
            raise Refusal("", "Nobody changes his own rights: ask another superuser.")
        found = Permission.objects.filter(content_type__app_label="billing")
        user.user_permissions.remove(*found.filter(codename__in=held - asked))
        user.user_permissions.add(*found.filter(codename__in=asked - held))
        detail = {"given": sorted(asked - held), "taken": sorted(held - asked)}
        audit.record(
            "user.permissions_changed",
            subject=user,
            organization=None,
            actor=self.actor,
            detail=detail,
        )


def _held(user: User) -> set[str]:
    """Which of the permissions a person was given, besides what a superuser holds anyway."""
    given = user.user_permissions.filter(
        content_type__app_label="billing", codename__in=PERMISSIONS
    )
    return set(given.values_list("codename", flat=True))


class MembershipInline(ReadOnlyInline):
    model = Member
    fields = ("organization", "role", "created_at")
    readonly_fields = ("created_at",)
    verbose_name_plural = "memberships"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("organization", "user")


class AddressInline(ReadOnlyInline):
    model = EmailAddress
    fields = ("email", "verified", "primary")
    verbose_name_plural = "e-mail addresses"


@admin.register(User)
class UserAdmin(StaffAdmin):
    """Everybody with an account. Passwords are set by their owners, through a reset."""

    can_change = True
    form = UserForm
    list_display = (
        "email", "is_active", "has_second_factor", "is_staff", "is_superuser",
        "membership_count", "last_login", "date_joined",
    )  # fmt: skip
    list_filter = ("is_active", "is_staff", "is_superuser", ("date_joined", RangeDateTimeFilter))
    search_fields = ("email", "first_name", "last_name")
    date_hierarchy = "date_joined"
    ordering = ("email",)
    readonly_fields = ("email", "last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("email", ("first_name", "last_name"), ("last_login", "date_joined"))}),
        ("Rights", {"fields": (*RIGHTS, *PERMISSIONS)}),
    )
    inlines = (MembershipInline, AddressInline)

    def get_queryset(self, request: HttpRequest) -> Any:
        second = Authenticator.objects.filter(user=OuterRef("pk"), type=Authenticator.Type.TOTP)
        return (
            super()
            .get_queryset(request)
            .annotate(membership_total=Count("memberships"), second_factor=Exists(second))
        )

    @display(description="Organizations", ordering="membership_total")
    def membership_count(self, user: Any) -> int:
        return int(user.membership_total)

    @display(description="2FA", boolean=True)
    def has_second_factor(self, user: Any) -> bool:
        return bool(user.second_factor)


@admin.register(AuditEntry)
class AuditEntryAdmin(StaffAdmin):
    """Who did what to whom, when. Nobody can change it, not even the database's owner by SQL."""

    list_display = ("recorded_at", "shown_actor", "action", "subject", "organization_link")
    list_display_links = ("recorded_at",)
    list_select_related = ("organization",)
    list_filter = (("action", AllValuesCheckboxFilter), ("recorded_at", RangeDateTimeFilter))
    search_fields = ("actor_label", "subject", "action", "organization__name", "organization__slug")
    date_hierarchy = "recorded_at"
    fields = ("recorded_at", "shown_actor", "action", "subject", "organization", "shown_detail")
    readonly_fields = ("recorded_at", "shown_actor", "shown_detail")

    @display(description="Organization", ordering="organization__name")
    def organization_link(self, entry: AuditEntry) -> str:
        return link(entry.organization)

    @display(description="Actor", ordering="actor_label")
    def shown_actor(self, entry: AuditEntry) -> str:
        return entry.actor_label

    @display(description="Detail")
    def shown_detail(self, entry: AuditEntry) -> str:
        return document(entry.detail)
