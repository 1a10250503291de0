"""Settings: who is billed, the limits, and who did what."""

from __future__ import annotations

from typing import cast

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts import organizations
from accounts.models import AuditEntry, Organization
from accounts.organizations import BillingDetails
from accounts.permissions import Action
from accounts.refusals import Refusal
from billing import allowance
from portal.door import Entry, member_page
from portal.forms import show_refusal
from portal.quota_form import QuotaForm

AUDIT_SHOWN_MAX = 100


class BillingForm(forms.ModelForm):  # type: ignore[type-arg]
    """What the next invoices say about the buyer."""

    class Meta:
        model = Organization
        fields = (
            "billing_name", "tax_id", "billing_email", "address_line1", "address_line2",
            "postal_code", "city", "country",
        )  # fmt: skip
        labels = {
            "billing_name": "Legal name",
            "tax_id": "Tax number",
            "billing_email": "E-mail for invoices",
            "address_line1": "Address",
            "address_line2": "Address, second line",
        }

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        countries = sorted(organizations.countries().items(), key=lambda item: item[1])
        self.fields["country"] = forms.ChoiceField(
            choices=[("", "not given"), *countries], required=False
        )


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """All settings; what the role may not change is shown, or left out if it may not be seen."""
    return page(request, entry)


@require_POST
@member_page(Action.MANAGE_BILLING)
def save_billing(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Change who is billed, from the next invoice on."""
    # The form validates into its instance: a copy, so that the step sees what was before.
    copy = Organization(**{field: getattr(entry.organization, field) for field in ("pk", "slug")})
    form = BillingForm(request.POST, instance=copy)
    if not form.is_valid():
        return page(request, entry, billing=form)
    try:
        details = cast("BillingDetails", form.cleaned_data)
        organizations.update_billing_details(
            organization=entry.organization, actor=entry.user, **details
        )
    except Refusal as refusal:
        show_refusal(form, refusal)
        return page(request, entry, billing=form)
    messages.success(request, "Saved. Invoices already issued keep what they say.")
    return redirect("portal:settings", entry.organization.slug)


def page(
    request: HttpRequest,
    entry: Entry,
    *,
    billing: BillingForm | None = None,
    quota: QuotaForm | None = None,
) -> HttpResponse:
    """The settings page, with a form that came back wrong in its place."""
    wrong = bool((billing and billing.errors) or (quota and quota.errors))
    context = {
        "billing": billing or BillingForm(instance=entry.organization),
        "quota_form": quota or QuotaForm(entry),
        "quotas": allowance.standing(entry.organization, timezone.now()),
        "entries": _entries(entry),
        "audit_shown_max": AUDIT_SHOWN_MAX,
    }
    return render(request, "portal/settings.html", context, status=422 if wrong else 200)


def _entries(entry: Entry) -> list[AuditEntry]:
    if not entry.may(Action.SEE_AUDIT):
        return []
    return list(entry.organization.audit_entries.order_by("-pk")[:AUDIT_SHOWN_MAX])
