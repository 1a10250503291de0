"""Tariffs and their versions. A version is never edited: a change is a new version."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from unfold.contrib.filters.admin import RangeDateTimeFilter, RelatedDropdownFilter
from unfold.decorators import action, display

from accounts import audit
from billing import catalog
from billing.models import Tariff, TariffVersion
from console import prices
from console.entrance import may_with
from console.publishing import PUBLISH, TermsFields, sentences
from console.staff import ReadOnlyInline, StaffAdmin, document, link
from console.steps import StepForm
from console.what_if_form import asking


class AddTariffForm(TermsFields, StepForm):
    """A new tariff with its first version."""

    class Meta:
        model = Tariff
        fields = ("code", "name", "currency", "description")

    def step(self) -> Tariff:
        values = self.cleaned_data
        tariff = catalog.create_tariff(
            values["code"],
            values["name"],
            values["currency"].upper(),
            values["document"],
            values["valid_from"],
            self.now,
            description=values["description"],
            source=values["source"],
        )
        detail = {"valid_from": values["valid_from"].isoformat(), "source": values["source"]}
        audit.record(
            "tariff.created",
            subject=tariff.code,
            organization=None,
            actor=self.actor,
            detail=detail,
        )
        return tariff


class DescribeTariffForm(StepForm):
    """A tariff's name and description; its terms are in its versions."""

    class Meta:
        model = Tariff
        fields = ("name", "description", "offered")

    def step(self) -> Tariff:
        tariff = Tariff.objects.get(pk=self.instance.pk)
        before = {name: getattr(tariff, name) for name in self.Meta.fields}
        for name in self.Meta.fields:
            setattr(tariff, name, self.cleaned_data[name])
        tariff.save(update_fields=list(self.Meta.fields))
        audit.record(
            "tariff.described",
            subject=tariff.code,
            organization=None,
            actor=self.actor,
            detail={"before": before},
        )
        return tariff


class VersionInline(ReadOnlyInline):
    model = TariffVersion
    fields = ("number", "valid_from", "valid_to", "known_at", "withdrawn_at", "source")
    ordering = ("-number",)
    show_change_link = True

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("tariff")


@admin.register(Tariff)
class TariffAdmin(StaffAdmin):
    """What usage costs."""

    can_add = can_change = True
    form = DescribeTariffForm
    list_display = (
        "code", "name", "currency", "version_count", "subscription_count", "created_at",
    )  # fmt: skip
    list_filter = ("currency", ("created_at", RangeDateTimeFilter))
    search_fields = ("code", "name", "description")
    readonly_fields = ("code", "currency", "created_at", "prices")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "name",
                    "description",
                    "offered",
                    ("code", "currency"),
                    "created_at",
                    "prices",
                )
            },
        ),
    )
    add_fieldsets = (
        (None, {"fields": (("code", "currency"), "name", "description")}),
        ("Its first version", {"fields": ("valid_from", "document", "source")}),
    )
    inlines = (VersionInline,)
    actions_detail = ("add_version", "compare")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is None:
            kwargs["form"] = AddTariffForm
        return super().get_form(request, obj, change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    def get_queryset(self, request: HttpRequest) -> Any:
        running = Q(subscriptions__ends_at=None, subscriptions__isnull=False)
        return (
            super()
            .get_queryset(request)
            .annotate(
                version_total=Count("versions", distinct=True),
                subscription_total=Count("subscriptions", filter=running, distinct=True),
            )
        )

    @display(description="Versions", ordering="version_total")
    def version_count(self, tariff: Any) -> int:
        return int(tariff.version_total)

    @display(description="Running subscriptions", ordering="subscription_total")
    def subscription_count(self, tariff: Any) -> int:
        return int(tariff.subscription_total)

    @display(description="Prices of the newest version")
    def prices(self, tariff: Tariff) -> str:
        newest = tariff.versions.filter(withdrawn_at=None).order_by("valid_from").last()
        return _price_table(newest)

    def has_publish_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_with(request, PUBLISH)

    @action(description="New version", permissions=["publish"], icon="add")
    def add_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Leads to the form; changes nothing."""
        return redirect("console:publish", object_id)

    @action(description="What if", icon="balance")
    def compare(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Leads to the question of what this tariff would have cost; changes nothing."""
        return redirect(asking(get_object_or_404(Tariff, pk=object_id)))


@admin.register(TariffVersion)
class TariffVersionAdmin(StaffAdmin):
    """The terms of a tariff from an instant on. Published: read-only, for good."""

    list_display = (
        "__str__", "tariff_link", "valid_from", "valid_to", "known_at", "shown_state",
    )  # fmt: skip
    list_select_related = ("tariff",)
    list_filter = (("tariff", RelatedDropdownFilter), ("valid_from", RangeDateTimeFilter))
    search_fields = ("tariff__code", "tariff__name")
    date_hierarchy = "valid_from"
    ordering = ("tariff__code", "-number")
    fields = (
        "tariff", "number", ("valid_from", "valid_to"), ("known_at", "withdrawn_at"), "source",
        "changes", "prices", "shown_document",
    )  # fmt: skip
    readonly_fields = ("changes", "prices", "shown_document")

    @display(description="Tariff", ordering="tariff__code")
    def tariff_link(self, version: TariffVersion) -> str:
        return link(version.tariff)

    @display(description="State", label={"Published": "success", "Withdrawn": "danger"})
    def shown_state(self, version: TariffVersion) -> str:
        return "Withdrawn" if version.withdrawn_at else "Published"

    @display(description="What it changed")
    def changes(self, version: TariffVersion) -> str:
        return sentences([change.sentence for change in catalog.changed_by(version)])

    @display(description="Prices")
    def prices(self, version: TariffVersion) -> str:
        return _price_table(version)

    @display(description="Document")
    def shown_document(self, version: TariffVersion) -> str:
        return document(version.document)


def _price_table(version: TariffVersion | None) -> str:
    return prices.table(catalog.terms_of(version), str(version)) if version else "-"
