"""Prices that wait for a second person, and what organizations negotiated."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, RangeDateTimeFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import User
from billing import proposals
from billing.models import NegotiatedTerms, PriceProposal
from console.entrance import actor_with, may_with
from console.publishing import APPROVE, PUBLISH, sentences
from console.staff import StaffAdmin, document, link
from console.steps import ReasonForm, ask
from console.what_if_form import asking


@admin.register(PriceProposal)
class PriceProposalAdmin(StaffAdmin):
    """What somebody wants to publish, what it changes, and who decided."""

    list_display = (
        "__str__", "subject_link", "valid_from", "shown_state", "proposed_by", "proposed_at",
        "decided_by",
    )  # fmt: skip
    list_select_related = (
        "tariff", "subscription__organization", "subscription__tariff", "proposed_by", "decided_by",
    )  # fmt: skip
    list_filter = (
        ("state", ChoicesCheckboxFilter), ("proposed_at", RangeDateTimeFilter),
    )  # fmt: skip
    search_fields = ("tariff__code", "subscription__organization__name", "reason")
    fields = (
        "subject_link", ("shown_state", "decision"), ("proposed_by", "proposed_at"),
        ("decided_by", "decided_at"), "reason", ("how", "valid_from"), "source", "shown_jumps",
        "shown_changes", "shown_document", "shown_digest",
    )  # fmt: skip
    readonly_fields = ("subject_link", "shown_state", "shown_jumps", "shown_changes",
                       "shown_document")  # fmt: skip
    actions_detail = ("approve", "refuse", "withdraw", "compare")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> Any:
        return proposals.with_staleness(super().get_queryset(request))

    @display(description="For")
    def subject_link(self, proposal: PriceProposal) -> str:
        return link(proposals.subject_of(proposal))

    @display(
        description="State",
        label={
            "Proposed": "warning", "Stale": "danger", "Approved": "success", "Refused": "danger",
            "Withdrawn by its author": "info", "Superseded by another proposal": "info",
        },
    )  # fmt: skip
    def shown_state(self, proposal: Any) -> str:
        if proposal.state == PriceProposal.State.PROPOSED and proposal.stale:
            return "Stale"
        return str(proposal.get_state_display()).capitalize()

    @display(description="Why it takes a second person")
    def shown_jumps(self, proposal: PriceProposal) -> str:
        return sentences([jump["sentence"] for jump in proposal.jumps])

    @display(description="What it changes")
    def shown_changes(self, proposal: PriceProposal) -> str:
        return sentences([change["sentence"] for change in proposal.changes])

    @display(description="Document")
    def shown_document(self, proposal: PriceProposal) -> str:
        return document(proposal.document)

    @display(description="Digest")
    def shown_digest(self, proposal: PriceProposal) -> str:
        return format_html('<code class="kt-digest">{}</code>', proposal.digest)

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        others = _open(object_id).exclude(proposed_by=request.user.pk)
        return may_with(request, APPROVE) and others.exists()

    def has_withdraw_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        own = _open(object_id).filter(proposed_by=request.user.pk)
        return may_with(request, PUBLISH) and own.exists()

    @action(description="Approve", permissions=["decide"], icon="done_all")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        proposal = _get(object_id)

        def do(values: dict[str, Any], actor: User, now: datetime) -> str:
            published = proposals.approve(
                proposal.pk,
                digest=values["digest"],
                comment=values["comment"],
                actor=actor,
                now=now,
            )
            return f"{published} is published."

        class ApproveForm(forms.Form):
            comment = forms.CharField(
                required=False, max_length=500, widget=UnfoldAdminTextInputWidget
            )
            digest = forms.CharField(initial=proposal.digest, widget=forms.HiddenInput)

        return ask(
            request,
            title=f"Approve {proposal} for {proposals.subject_of(proposal)}",
            explanation=f"Published is exactly what the proposal shows (digest "
            f"{proposal.digest[:12]}), from {proposal.valid_from:%Y-%m-%d %H:%M} UTC on.",
            button="Approve and publish",
            back=_url(object_id),
            form_class=ApproveForm,
            do=do,
            actor=actor_with(request, APPROVE),
        )

    @action(
        description="Refuse", permissions=["decide"], icon="block", variant=ActionVariant.DANGER
    )
    def refuse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        proposal = _get(object_id)

        def do(values: dict[str, Any], actor: User, now: datetime) -> str:
            proposals.refuse(proposal.pk, comment=values["reason"], actor=actor, now=now)
            return f"{proposal} is refused."

        return ask(
            request,
            title=f"Refuse {proposal} for {proposals.subject_of(proposal)}",
            explanation="Prices stay as they are.",
            button="Refuse it",
            back=_url(object_id),
            form_class=ReasonForm,
            do=do,
            actor=actor_with(request, APPROVE),
        )

    def has_compare_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """A tariff's: what was negotiated is for one organization, and no tariff by itself."""
        return bool(_open(object_id).filter(tariff__isnull=False).exists())

    @action(description="What if", permissions=["compare"], icon="balance")
    def compare(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Leads to the question; changes nothing."""
        return redirect(asking(_get(object_id)))

    @action(description="Withdraw", permissions=["withdraw"], icon="undo")
    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        proposal = _get(object_id)

        def do(values: dict[str, Any], actor: User, now: datetime) -> str:
            proposals.withdraw(proposal.pk, actor=actor, now=now)
            return f"{proposal} is withdrawn."

        return ask(
            request,
            title=f"Withdraw {proposal} for {proposals.subject_of(proposal)}",
            explanation="Prices stay as they are.",
            button="Withdraw it",
            back=_url(object_id),
            do=do,
            actor=actor_with(request, PUBLISH),
        )


@admin.register(NegotiatedTerms)
class NegotiatedTermsAdmin(StaffAdmin):
    """What organizations agreed on besides their tariff. Published: read-only, for good."""

    list_display = (
        "organization_link", "number", "reference", "valid_from", "valid_to", "known_at",
        "shown_state",
    )  # fmt: skip
    list_display_links = ("number",)
    list_select_related = ("subscription__organization", "subscription__tariff")
    list_filter = (("valid_from", RangeDateTimeFilter),)
    search_fields = ("subscription__organization__name", "reference", "subscription__tariff__code")
    date_hierarchy = "valid_from"
    ordering = ("subscription__organization__name", "-number")
    fields = (
        "subscription_link", ("number", "reference"), ("valid_from", "valid_to"),
        ("known_at", "withdrawn_at"), "shown_document",
    )  # fmt: skip
    readonly_fields = ("subscription_link", "shown_document")

    @display(description="Organization", ordering="subscription__organization__name")
    def organization_link(self, terms: NegotiatedTerms) -> str:
        return link(terms.subscription.organization)

    @display(description="Subscription")
    def subscription_link(self, terms: NegotiatedTerms) -> str:
        return link(terms.subscription)

    @display(description="State", label={"Published": "success", "Withdrawn": "danger"})
    def shown_state(self, terms: NegotiatedTerms) -> str:
        return "Withdrawn" if terms.withdrawn_at else "Published"

    @display(description="Document")
    def shown_document(self, terms: NegotiatedTerms) -> str:
        return document(terms.document)


def _open(object_id: Any) -> Any:
    return PriceProposal.objects.filter(pk=object_id, state=PriceProposal.State.PROPOSED)


def _get(object_id: str) -> PriceProposal:
    related = ("tariff", "subscription__organization", "subscription__tariff")
    return PriceProposal.objects.select_related(*related).get(pk=object_id)


def _url(object_id: str) -> str:
    return reverse("admin:billing_priceproposal_change", args=[object_id])
