"""Invoices: read, issued, voided. What was issued is frozen, in the database too."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from accounts import audit
from accounts.models import User
from billing import invoicing
from billing.models import Invoice, InvoiceLine, ReratingJob
from console.entrance import may_act
from console.staff import ReadOnlyInline, StaffAdmin, link, money, unit_price
from console.steps import ReasonForm, ask

_PARTY = ("name", "address_line1", "address_line2", "postal_code", "city", "country", "tax_id")

VOID_INVOICE = (
    "Its number stays and reads void, and so do those of the notes that correct it. Its period is "
    "due again, and is billed by a new document with what it costs then."
)
VOID_NOTE = (
    "Its number stays and reads void. What it gave back or charged is a difference again: it comes "
    "with the next invoice, or with a re-rating."
)


class LineInline(ReadOnlyInline):
    model = InvoiceLine
    fields = ("position", "description", "quantity", "price", "amount", "version", "component")
    readonly_fields = ("price", "amount")
    per_page = 100

    @display(description="Unit price")
    def price(self, line: InvoiceLine) -> str:
        return unit_price(line, line.invoice.currency)

    @display(description="Amount")
    def amount(self, line: InvoiceLine) -> str:
        return money(line.amount_minor, line.invoice.currency)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("invoice")


@admin.register(Invoice)
class InvoiceAdmin(StaffAdmin):
    """What a period costs, less what earlier documents carry; and the notes that correct it."""

    list_display = (
        "__str__", "kind", "organization_link", "shown_status", "period", "total", "issued_at",
        "due_at",
    )  # fmt: skip
    list_select_related = ("organization",)
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("status", ChoicesDropdownFilter),
        "currency",
        ("period_end", RangeDateTimeFilter),
        ("issued_at", RangeDateTimeFilter),
    )
    search_fields = ("number", "organization__name", "organization__slug")
    date_hierarchy = "period_end"
    fields = (
        ("number", "kind"), ("shown_status", "zone"), ("shown_corrects", "shown_notes"),
        ("organization", "subscription"), ("period_start", "period_end"),
        ("subtotal", "tax", "total"), ("issued_at", "due_at"), ("voided_at", "void_reason"),
        "replaces", "shown_buyer", "shown_seller",
    )  # fmt: skip
    readonly_fields = (
        "shown_status", "shown_corrects", "shown_notes", "subtotal", "tax", "total", "shown_buyer",
        "shown_seller",
    )  # fmt: skip
    inlines = (LineInline,)
    actions_detail = ("issue", "void")

    @display(description="Organization", ordering="organization__name")
    def organization_link(self, invoice: Invoice) -> str:
        return link(invoice.organization)

    @display(
        description="Status",
        ordering="status",
        label={"Draft": "warning", "Issued": "success", "Void": "danger"},
    )
    def shown_status(self, invoice: Invoice) -> str:
        return invoice.get_status_display()

    @display(description="Corrects")
    def shown_corrects(self, invoice: Invoice) -> str:
        job = ReratingJob.objects.filter(items__note=invoice).first()
        if job is None:
            return link(invoice.corrects)
        page = reverse("console:rerating", args=[job.pk])
        by = format_html('<a class="kt-link" href="{}">{}</a>', page, job)
        return format_html("{}, by {}", link(invoice.corrects), by)

    @display(description="Corrected by")
    def shown_notes(self, invoice: Invoice) -> str:
        notes = invoice.notes.order_by("issued_at", "pk")
        return format_html_join(", ", "{}", [[link(note)] for note in notes]) or "-"

    @display(description="Period", ordering="period_end")
    def period(self, invoice: Invoice) -> str:
        return f"{invoice.period_start:%Y-%m-%d} to {invoice.period_end:%Y-%m-%d}"

    @display(description="Subtotal")
    def subtotal(self, invoice: Invoice) -> str:
        return money(invoice.subtotal_minor, invoice.currency)

    @display(description="Tax")
    def tax(self, invoice: Invoice) -> str:
        return money(invoice.tax_minor, invoice.currency)

    @display(description="Total", ordering="total_minor")
    def total(self, invoice: Invoice) -> str:
        return money(invoice.total_minor, invoice.currency)

    @display(description="Buyer, as issued")
    def shown_buyer(self, invoice: Invoice) -> str:
        return _party(invoice.buyer)

    @display(description="Seller, as issued")
    def shown_seller(self, invoice: Invoice) -> str:
        return _party(invoice.seller)

    def has_issue_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_act(request) and _is(object_id, Invoice.Status.DRAFT)

    def has_void_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return may_act(request) and _is(object_id, Invoice.Status.ISSUED)

    @action(
        description="Issue", permissions=["issue"], icon="verified", variant=ActionVariant.SUCCESS
    )
    def issue(self, request: HttpRequest, object_id: str) -> HttpResponse:
        invoice = Invoice.objects.select_related("organization").get(pk=object_id)

        def do(values: dict[str, Any], actor: User, now: Any) -> str:
            audit.record(
                "invoice.issued",
                subject=f"draft {invoice.pk}",
                organization=invoice.organization,
                actor=actor,
                detail={"total_minor": invoice.total_minor, "currency": invoice.currency},
            )
            invoicing.issue(invoice, now)
            return f"{invoice.number} is issued."

        return ask(
            request,
            title=f"Issue {invoice}",
            explanation=f"{money(invoice.total_minor, invoice.currency)} for "
            f"{invoice.organization}. It gets its number and is frozen: what is wrong on it is "
            "corrected by another document.",
            button="Issue the invoice",
            back=reverse("admin:billing_invoice_change", args=[object_id]),
            do=do,
        )

    @action(description="Void", permissions=["void"], icon="undo", variant=ActionVariant.DANGER)
    def void(self, request: HttpRequest, object_id: str) -> HttpResponse:
        invoice = Invoice.objects.select_related("organization").get(pk=object_id)

        def do(values: dict[str, Any], actor: User, now: Any) -> str:
            invoicing.void(invoice, values["reason"], now, actor=actor)
            return f"{invoice.number} is void."

        return ask(
            request,
            title=f"Void {invoice}",
            explanation=VOID_NOTE if invoice.is_note else VOID_INVOICE,
            button=f"Void the {invoice.get_kind_display().lower()}",
            back=reverse("admin:billing_invoice_change", args=[object_id]),
            form_class=ReasonForm,
            do=do,
        )


def _party(party: dict[str, str]) -> str:
    """Who, in the order of a letter; JSON in the database has forgotten the order."""
    first = [party.get(name, "") for name in _PARTY]
    rest = [value for name, value in sorted(party.items()) if name not in _PARTY]
    return ", ".join(value for value in [*first, *rest] if value) or "-"


def _is(object_id: Any, status: str) -> bool:
    return Invoice.objects.filter(pk=object_id, status=status).exists()
