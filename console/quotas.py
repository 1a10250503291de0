"""Quotas: how many tokens a month an organization or a project may use."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import User
from accounts.refusals import Refusal
from billing import allowance
from billing.models import Quota, QuotaAlert
from console.staff import ReadOnlyInline, StaffAdmin, link
from console.steps import StepForm, ask


class AddQuotaForm(StepForm):
    """A limit for a whole organization, or for one of its projects."""

    project_slug = forms.SlugField(
        label="Project",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="Its slug. Empty: the whole organization.",
    )

    class Meta:
        model = Quota
        fields = ("organization", "tokens_per_month")

    def step(self) -> Quota:
        values = self.cleaned_data
        organization, slug = values["organization"], values["project_slug"]
        project = organization.projects.filter(slug=slug).first()
        if slug and project is None:
            raise Refusal("project_slug", f"{organization} has no project {slug}.")
        return allowance.set_quota(
            organization, values["tokens_per_month"], project=project, actor=self.actor
        )


class ChangeQuotaForm(StepForm):
    """Another limit for the same."""

    class Meta:
        model = Quota
        fields = ("tokens_per_month",)

    def step(self) -> Quota:
        quota = _get(self.instance.pk)
        return allowance.set_quota(
            quota.organization,
            self.cleaned_data["tokens_per_month"],
            project=quota.project,
            actor=self.actor,
        )


class AlertInline(ReadOnlyInline):
    model = QuotaAlert
    fields = ("month_start", "percent", "tokens_used", "tokens_per_month", "mailed_at")
    ordering = ("-month_start", "-percent")

    def get_queryset(self, request: HttpRequest) -> Any:
        quota = ("quota__organization", "quota__project")
        return super().get_queryset(request).select_related(*quota)


@admin.register(Quota)
class QuotaAdmin(StaffAdmin):
    """Monthly limits; mails go out at 50, 80 and 100 percent."""

    can_add = can_change = True
    form = ChangeQuotaForm
    list_display = ("organization_link", "project", "shown_tokens", "created_at")
    list_display_links = ("shown_tokens",)
    list_select_related = ("organization", "project")
    search_fields = ("organization__name", "organization__slug", "project__slug")
    date_hierarchy = "created_at"
    ordering = ("organization__name", "project__slug")
    fields = (("organization", "project"), "tokens_per_month", "created_at")
    readonly_fields = ("organization", "project", "created_at")
    add_fieldsets = ((None, {"fields": ("organization", "project_slug", "tokens_per_month")}),)
    autocomplete_fields = ("organization",)
    inlines = (AlertInline,)
    actions_detail = ("remove",)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is None:
            kwargs["form"] = AddQuotaForm
        return super().get_form(request, obj, change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    @display(description="Organization", ordering="organization__name")
    def organization_link(self, quota: Quota) -> str:
        return link(quota.organization)

    @display(description="Tokens a month", ordering="tokens_per_month")
    def shown_tokens(self, quota: Quota) -> str:
        return f"{quota.tokens_per_month:,}"

    @action(description="Remove", permissions=["act"], icon="delete", variant=ActionVariant.DANGER)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        quota = _get(object_id)

        def do(values: dict[str, Any], actor: User, now: object) -> str:
            allowance.remove_quota(quota, actor=actor)
            return "The quota is removed."

        return ask(
            request,
            title="Remove the quota",
            explanation=f"{quota}. Its alerts go with it; usage stays.",
            button="Remove it",
            back=reverse("admin:billing_quota_changelist"),
            do=do,
        )


def _get(object_id: Any) -> Quota:
    return Quota.objects.select_related("organization", "project").get(pk=object_id)
