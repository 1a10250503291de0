"""Subscriptions: what an organization is on, since when."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.contrib.filters.admin import RangeDateTimeFilter, RelatedDropdownFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget

from accounts.models import User
from billing import subscriptions
from billing.models import Invoice, NegotiatedTerms, Subscription, Tariff
from console.entrance import may_act, may_with
from console.publishing import PUBLISH
from console.staff import ReadOnlyInline, StaffAdmin, link
from console.steps import StepForm, ask


class AddSubscriptionForm(StepForm):
    """Put an organization on a tariff."""

    class Meta:
        model = Subscription
        fields = ("organization", "tariff", "starts_at", "anchor_day", "grace_hours")
        help_texts: ClassVar[dict[str, str]] = {"starts_at": "UTC; cut down to a quarter-hour."}

    def step(self) -> Subscription:
        values = self.cleaned_data
        return subscriptions.subscribe(
            values["organization"],
            values["tariff"],
            values["starts_at"],
            values["anchor_day"],
            grace_hours=values["grace_hours"],
            actor=self.actor,
        )


class EndForm(forms.Form):
    at = forms.SplitDateTimeField(
        label="Ends at",
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="UTC; cut down to a quarter-hour.",
    )


class ChangeTariffForm(forms.Form):
    tariff = forms.ModelChoiceField(
        Tariff.objects.all(), empty_label=None, widget=UnfoldAdminSelectWidget
    )
    at = forms.SplitDateTimeField(
        label="From",
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text="UTC; cut down to a quarter-hour. The period is cut there.",
    )


class NegotiatedInline(ReadOnlyInline):
    model = NegotiatedTerms
    fields = ("number", "reference", "valid_from", "valid_to", "known_at", "withdrawn_at")
    ordering = ("-number",)
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("subscription__organization", "subscription__tariff")
        return super().get_queryset(request).select_related(*related)


class InvoiceInline(ReadOnlyInline):
    model = Invoice
    fields = ("number", "status", "period_start", "period_end", "total_minor", "issued_at")
    show_change_link = True


@admin.register(Subscription)
class SubscriptionAdmin(StaffAdmin):
    """Which tariff an organization is on, since when."""

    can_add = True
    form = AddSubscriptionForm
    list_display = (
        "organization_link", "tariff_link", "starts_at", "ends_at", "anchor_day", "zone",
        "next_close_at",
    )  # fmt: skip
    list_display_links = ("starts_at",)
    list_select_related = ("organization", "tariff")
    list_filter = (
        ("tariff", RelatedDropdownFilter),
        ("ends_at", admin.EmptyFieldListFilter),
        ("next_close_at", RangeDateTimeFilter),
    )
    search_fields = ("organization__name", "organization__slug", "tariff__code")
    date_hierarchy = "starts_at"
    ordering = ("organization__name", "-starts_at")
    fields = (
        ("organization", "tariff"), ("starts_at", "ends_at"), ("anchor_day", "grace_hours"),
        ("zone", "next_close_at"),
    )  # fmt: skip
    add_fieldsets = (
        (None, {"fields": ("organization", "tariff", "starts_at", "anchor_day", "grace_hours")}),
    )
    autocomplete_fields = ("organization", "tariff")
    inlines = (NegotiatedInline, InvoiceInline)
    actions_detail = ("periods", "negotiate", "change_tariff", "end")

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    @display(description="Organization", ordering="organization__name")
    def organization_link(self, subscription: Subscription) -> str:
        return link(subscription.organization)

    @display(description="Tariff", ordering="tariff__code")
    def tariff_link(self, subscription: Subscription) -> str:
        return link(subscription.tariff)

    def has_running_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        running = Subscription.objects.filter(pk=object_id, ends_at=None)
        return may_act(request) and running.exists()

    @action(description="Periods to close", permissions=["view"], icon="event_available")
    def periods(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Leads to the page; changes nothing."""
        return redirect("console:close", object_id)

    def has_negotiate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_with(request, PUBLISH)

    @action(description="Negotiated terms", permissions=["negotiate"], icon="handshake")
    def negotiate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Leads to the form; changes nothing."""
        return redirect("console:negotiate", object_id)

    @action(description="Change tariff", permissions=["running"], icon="swap_horiz")
    def change_tariff(self, request: HttpRequest, object_id: str) -> HttpResponse:
        subscription = _get(object_id)

        def do(values: dict[str, Any], actor: User, now: object) -> str:
            started = subscriptions.change_tariff(
                subscription, values["tariff"], values["at"], actor=actor
            )
            return f"{started} from {started.starts_at:%Y-%m-%d %H:%M} UTC on."

        return ask(
            request,
            title=f"Change the tariff of {subscription.organization}",
            explanation=f"It is on {subscription.tariff.code} now. That subscription ends, and "
            "another starts in the same instant.",
            button="Change the tariff",
            back=reverse("admin:billing_subscription_change", args=[object_id]),
            form_class=ChangeTariffForm,
            do=do,
        )

    @action(description="End", permissions=["running"], icon="stop", variant=ActionVariant.DANGER)
    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        subscription = _get(object_id)

        def do(values: dict[str, Any], actor: User, now: object) -> str:
            subscriptions.end(subscription, values["at"], actor=actor)
            return f"{subscription} ends at {subscription.ends_at:%Y-%m-%d %H:%M} UTC."

        return ask(
            request,
            title=f"End the subscription of {subscription.organization}",
            explanation="Usage after that has no price until another subscription begins.",
            button="End it",
            back=reverse("admin:billing_subscription_change", args=[object_id]),
            form_class=EndForm,
            do=do,
        )


def _get(object_id: str) -> Subscription:
    return Subscription.objects.select_related("organization", "tariff").get(pk=object_id)
