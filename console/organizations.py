"""Organizations, and the keys of their machines."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget

from accounts import api_keys, organizations
from accounts.models import ApiKey, Member, Organization, Project, User
from accounts.organizations import BillingDetails
from accounts.refusals import Refusal
from billing.models import Subscription
from console.entrance import may_act
from console.staff import ReadOnlyInline, StaffAdmin, link
from console.steps import ReasonForm, StepForm, ask

BILLING_FIELDS = (
    "billing_name",
    "billing_email",
    "address_line1",
    "address_line2",
    "postal_code",
    "city",
    "country",
    "tax_id",
)


class AddForm(StepForm):
    """A new organization, as `accounts.organizations.create` makes it."""

    currency = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    zone = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget, help_text="Days and months begin at midnight here."
    )
    owner_email = forms.EmailField(
        required=False,
        widget=UnfoldAdminEmailInputWidget,
        help_text="Of a person who has an account. Empty: nobody can open its portal yet.",
    )

    class Meta:
        model = Organization
        fields = ("name",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        currency, zone = self.fields["currency"], self.fields["zone"]
        assert isinstance(currency, forms.ChoiceField)
        assert isinstance(zone, forms.ChoiceField)
        names = organizations.currencies().items()
        currency.choices = [(code, f"{code} - {name}") for code, name in names]
        currency.initial = "USD"
        zone.choices = [(name, name) for name in sorted(organizations.zones())]
        zone.initial = "UTC"

    def step(self) -> Organization:
        values = self.cleaned_data
        return organizations.create(
            name=values["name"],
            currency=values["currency"],
            zone=values["zone"],
            owner=_owner(values["owner_email"]),
            now=self.now,
        )


class ChangeForm(StepForm):
    """What can change about an organization: its name, and what invoices say of it."""

    class Meta:
        model = Organization
        fields = ("name", *BILLING_FIELDS)

    def step(self) -> Organization:
        organization = Organization.objects.get(pk=self.instance.pk)
        if self.cleaned_data["name"] != organization.name:
            organizations.rename(
                organization=organization, name=self.cleaned_data["name"], actor=self.actor
            )
        details: BillingDetails = {name: self.cleaned_data[name] for name in BILLING_FIELDS}  # type: ignore[assignment]
        organizations.update_billing_details(organization=organization, actor=self.actor, **details)
        return organization


def _owner(email: str) -> User | None:
    if not email:
        return None
    owner = User.objects.filter(email=email.lower()).first()
    if owner is None:
        raise Refusal("owner_email", "Nobody has an account with this address.")
    return owner


class MemberInline(ReadOnlyInline):
    model = Member
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("user", "organization")


class ProjectInline(ReadOnlyInline):
    model = Project
    fields = ("name", "slug", "created_at", "archived_at")
    readonly_fields = ("created_at",)


class ApiKeyInline(ReadOnlyInline):
    model = ApiKey
    fields = ("name", "prefix", "scopes", "project", "last_used_at", "expires_at", "revoked_at")
    verbose_name_plural = "API keys"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("project", "organization")


class SubscriptionInline(ReadOnlyInline):
    model = Subscription
    fields = ("tariff", "starts_at", "ends_at", "anchor_day", "zone", "next_close_at")
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("tariff", "organization")


@admin.register(Organization)
class OrganizationAdmin(StaffAdmin):
    """Who pays and whose data it is."""

    can_add = can_change = True
    form = ChangeForm
    list_display = (
        "name", "slug", "shown_state", "currency", "zone", "member_count", "key_count",
        "created_at",
    )  # fmt: skip
    list_filter = (
        ("state", ChoicesDropdownFilter),
        "currency",
        ("created_at", RangeDateTimeFilter),
    )
    search_fields = ("name", "slug", "billing_name", "billing_email", "tax_id")
    date_hierarchy = "created_at"
    ordering = ("name",)
    readonly_fields = ("slug", "currency", "zone", "state", "created_at")
    fieldsets = (
        (None, {"fields": ("name", ("slug", "state"), ("currency", "zone"), "created_at")}),
        ("On its invoices", {"fields": BILLING_FIELDS}),
    )
    add_fieldsets = ((None, {"fields": ("name", ("currency", "zone"), "owner_email")}),)
    inlines = (SubscriptionInline, MemberInline, ProjectInline, ApiKeyInline)
    actions_detail = ("suspend", "activate")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is None:
            kwargs["form"] = AddForm
        return super().get_form(request, obj, change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    def get_queryset(self, request: HttpRequest) -> Any:
        live = Q(api_keys__revoked_at=None, api_keys__isnull=False)
        return (
            super()
            .get_queryset(request)
            .annotate(
                member_total=Count("members", distinct=True),
                key_total=Count("api_keys", filter=live, distinct=True),
            )
        )

    @display(
        description="State", ordering="state", label={"Active": "success", "Suspended": "danger"}
    )
    def shown_state(self, organization: Organization) -> str:
        return organization.get_state_display()

    @display(description="Members", ordering="member_total")
    def member_count(self, organization: Any) -> int:
        return int(organization.member_total)

    @display(description="Live keys", ordering="key_total")
    def key_count(self, organization: Any) -> int:
        return int(organization.key_total)

    def has_suspend_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_act(request) and _is(object_id, Organization.State.ACTIVE)

    def has_activate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_act(request) and _is(object_id, Organization.State.SUSPENDED)

    @action(
        description="Suspend", permissions=["suspend"], icon="block", variant=ActionVariant.DANGER
    )
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        organization = Organization.objects.get(pk=object_id)

        def do(values: dict[str, Any], actor: User, now: object) -> str:
            organizations.suspend(organization=organization, reason=values["reason"], actor=actor)
            return f"{organization} is suspended."

        return ask(
            request,
            title=f"Suspend {organization}",
            explanation="Usage is refused and kept among the rejections, and its API keys stop "
            "working at once. What was metered stays, and so do its invoices.",
            button="Suspend",
            back=reverse("admin:accounts_organization_change", args=[object_id]),
            form_class=ReasonForm,
            do=do,
        )

    @action(
        description="Activate",
        permissions=["activate"],
        icon="play_arrow",
        variant=ActionVariant.SUCCESS,
    )
    def activate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        organization = Organization.objects.get(pk=object_id)

        def do(values: dict[str, Any], actor: User, now: object) -> str:
            organizations.activate(organization=organization, reason=values["reason"], actor=actor)
            return f"{organization} is active."

        return ask(
            request,
            title=f"Activate {organization}",
            explanation="Usage is taken and its API keys work again. What was sent meanwhile waits "
            "among the rejections, to be replayed.",
            button="Activate",
            back=reverse("admin:accounts_organization_change", args=[object_id]),
            form_class=ReasonForm,
            do=do,
        )


def _is(object_id: Any, state: str) -> bool:
    return Organization.objects.filter(pk=object_id, state=state).exists()


class KeyLimitForm(StepForm):
    """What one key may report a second at most, whatever the settings say."""

    class Meta:
        model = ApiKey
        fields = ("events_per_s_cap", "bytes_per_s_cap")
        labels: ClassVar[Any] = {
            "events_per_s_cap": "Events a second at most",
            "bytes_per_s_cap": "Bytes a second at most",
        }
        help_texts = dict.fromkeys(
            fields,
            "Its organization may ask for less, never for more. Empty: what the settings say.",
        )

    def step(self) -> ApiKey:
        api_key = ApiKey.objects.select_related("organization").get(pk=self.instance.pk)
        api_keys.cap(
            api_key=api_key,
            events_per_s_cap=self.cleaned_data["events_per_s_cap"],
            bytes_per_s_cap=self.cleaned_data["bytes_per_s_cap"],
            actor=self.actor,
        )
        return api_key


@admin.register(ApiKey)
class ApiKeyAdmin(StaffAdmin):
    """The keys of every organization; the secret of none."""

    can_change = True
    form = KeyLimitForm
    list_display = (
        "name", "prefix", "organization_link", "project", "shown_scopes", "shown_state",
        "last_used_at", "expires_at",
    )  # fmt: skip
    list_select_related = ("organization", "project")
    list_filter = (
        ("revoked_at", admin.EmptyFieldListFilter),
        ("last_used_at", RangeDateTimeFilter),
    )
    search_fields = ("name", "prefix", "organization__name", "organization__slug")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    fields = (
        "name", "prefix", "organization", "project", "scopes", "created_by", "created_at",
        "expires_at", "revoked_at", "last_used_at", ("events_per_s_cap", "bytes_per_s_cap"),
        ("events_per_s_max", "bytes_per_s_max"),
    )  # fmt: skip
    readonly_fields: ClassVar[Any] = (
        "name", "prefix", "organization", "project", "scopes", "created_by", "created_at",
        "expires_at", "revoked_at", "last_used_at", "events_per_s_max", "bytes_per_s_max",
    )  # fmt: skip
    actions_detail = ("revoke",)

    @display(description="Organization", ordering="organization__name")
    def organization_link(self, api_key: ApiKey) -> str:
        return link(api_key.organization)

    @display(description="Scopes")
    def shown_scopes(self, api_key: ApiKey) -> str:
        return ", ".join(api_key.scopes)

    @display(description="State", label={"Live": "success", "Revoked": "danger"})
    def shown_state(self, api_key: ApiKey) -> str:
        return "Revoked" if api_key.revoked_at else "Live"

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        live = ApiKey.objects.filter(pk=object_id, revoked_at=None)
        return may_act(request) and live.exists()

    @action(
        description="Revoke", permissions=["revoke"], icon="key_off", variant=ActionVariant.DANGER
    )
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        api_key = ApiKey.objects.select_related("organization").get(pk=object_id)

        def do(values: dict[str, Any], actor: User, now: Any) -> str:
            api_keys.revoke(api_key=api_key, actor=actor, now=now)
            return f"{api_key} is revoked."

        return ask(
            request,
            title=f"Revoke {api_key}",
            explanation=f"The machines of {api_key.organization} that sign with it are refused "
            "at once. This cannot be taken back.",
            button="Revoke the key",
            back=reverse("admin:accounts_apikey_change", args=[object_id]),
            do=do,
        )
