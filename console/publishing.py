"""Publishing prices: a document, what it would change, and then alone or through a second person.

The same page for a tariff's next version and for what a subscription negotiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from unfold.widgets import (
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldAdminURLInputWidget,
)

from billing import negotiations, proposals
from billing.catalog import Preview
from billing.models import PriceProposal, Subscription, Tariff
from billing.proposals import Subject
from billing.rating import strict_json
from billing.rating.tariff import parse
from console import prices
from console.entrance import actor_with, staff_only
from console.staff import spread
from console.steps import REFUSALS, field_and_sentence

PUBLISH = "billing.publish_prices"
APPROVE = "billing.approve_prices"
EXAMPLE = {
    "currency": "USD",
    "components": [
        {
            "code": "every-model-input",
            "models": ["*"],
            "registers": ["input", "cache_read", "cache_write"],
            "shape": "flat",
            "per": 1_000_000,
            "price": "0.40",
        },
        {
            "code": "every-model-output",
            "models": ["*"],
            "registers": ["output", "reasoning"],
            "shape": "flat",
            "per": 1_000_000,
            "price": "1.20",
        },
    ],
}
AGREEMENT = {"discounts": [{"code": "volume", "models": ["*"], "percent": "5"}]}
HOW = [
    ("continue", "Continue: new terms from an instant that nobody is billed past"),
    ("correct", "Correct: replace what was published; billed periods are billed the difference"),
]
SHOWN_MAX = 200


class DocumentField(forms.JSONField):
    """A document of prices, spread over lines."""

    widget = UnfoldAdminTextareaWidget(
        attrs={"rows": 24, "class": "kt-document", "spellcheck": "false"}
    )

    def to_python(self, value: Any) -> Any:
        """Read strictly: a name that stands twice, or NaN, is no document anybody meant."""
        if not isinstance(value, str) or not value.strip():
            return super().to_python(value)
        try:
            return strict_json.read(value)
        except strict_json.NotStrict as wrong:
            said = str(wrong)
            raise forms.ValidationError(f"{said[:1].upper()}{said[1:]}.") from wrong

    def bound_data(self, data: Any, initial: Any) -> Any:
        """The text as it was sent: what is refused is told by its line."""
        return data

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return value
        return spread(value)


class TermsFields(forms.Form):
    """What every form that publishes terms asks for."""

    valid_from = forms.SplitDateTimeField(
        widget=UnfoldAdminSplitDateTimeWidget, help_text="UTC, on a quarter-hour."
    )
    document = DocumentField(
        initial=EXAMPLE, help_text="Currency, calendar, allowances and components, as JSON."
    )
    source = forms.URLField(
        required=False,
        max_length=200,
        assume_scheme="https",
        widget=UnfoldAdminURLInputWidget,
        help_text="Where the price was published, if it was.",
    )


class VersionForm(TermsFields):
    """New terms for a tariff that exists."""

    how = forms.ChoiceField(choices=HOW, initial="continue", widget=UnfoldAdminRadioSelectWidget)
    reason = forms.CharField(
        required=False,
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="For the second person, where prices jump so far that it takes one.",
    )
    field_order = ("how", "valid_from", "document", "source", "reason")


class AgreementForm(VersionForm):
    """What a subscription's organization negotiated."""

    document = DocumentField(
        required=False,
        empty_value={},
        initial=AGREEMENT,
        help_text="Components, discounts, allowances and charges, as JSON; {} goes back to the "
        "tariff as it is listed.",
    )
    source = forms.CharField(  # type: ignore[assignment]
        label="Agreement",
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="The contract or letter these terms follow from.",
    )


@require_http_methods(["GET", "POST"])
@staff_only
def publish(request: HttpRequest, tariff_id: int) -> HttpResponse:
    """The next version of a tariff."""
    tariff = get_object_or_404(Tariff, pk=tariff_id)
    newest = tariff.versions.filter(withdrawn_at=None).order_by("valid_from").last()
    initial = {"document": newest.document} if newest else {}
    back = reverse("admin:billing_tariff_change", args=[tariff.pk])
    title = f"New version of {tariff.code}"
    return _page(request, tariff, VersionForm, initial, title, back)


@require_http_methods(["GET", "POST"])
@staff_only
def negotiate(request: HttpRequest, subscription_id: int) -> HttpResponse:
    """The next terms that a subscription's organization negotiated."""
    found = Subscription.objects.select_related("organization", "tariff")
    subscription = get_object_or_404(found, pk=subscription_id)
    agreed = negotiations.at(subscription, timezone.now())
    initial = {"document": agreed.document, "source": agreed.reference} if agreed else {}
    back = reverse("admin:billing_subscription_change", args=[subscription.pk])
    title = f"Negotiated terms of {subscription.organization} on {subscription.tariff.code}"
    return _page(request, subscription, AgreementForm, initial, title, back)


def sentences(said: Sequence[str]) -> str:
    """Sentences as a list, the first ones of many."""
    shown, more = said[:SHOWN_MAX], max(len(said) - SHOWN_MAX, 0)
    return render_to_string("console/sentences.html", {"sentences": shown, "more": more})


def _page(
    request: HttpRequest,
    subject: Subject,
    form_class: type[VersionForm],
    initial: dict[str, Any],
    title: str,
    back: str,
) -> HttpResponse:
    """Nothing is published before what it changes was shown: `shown` is the digest of that."""
    actor = actor_with(request, PUBLISH)
    posted = request.method == "POST"
    form = form_class(request.POST if posted else None, initial=initial)
    now = timezone.now()
    preview: Preview | None = None
    digest = ""
    if posted and form.is_valid():
        values = form.cleaned_data
        terms = (values["document"], values["valid_from"], values["how"])
        try:
            proposals.check(subject, *terms, source=values["source"], now=now)
            preview = proposals.preview(subject, *terms[:2])
            digest = proposals.digest_of(subject, *terms)
            step = request.POST.get("step")
            if step in ("publish", "propose") and request.POST.get("shown") == digest:
                return _done(request, _take(step, subject, values, actor, now))
        except REFUSALS as refusal:
            field, sentence = field_and_sentence(refusal, form.data.get("document", ""))
            form.add_error(field if field in form.fields else None, sentence)
    context = {
        **admin.site.each_context(request),
        "title": title,
        "back": back,
        "form": form,
        "shown": digest,
        "preview": preview,
        "changes": sentences([one.sentence for one in preview.changes]) if preview else "",
        "jumps": sentences([one.sentence for one in preview.jumps]) if preview else "",
        "prices": _prices(subject, form.cleaned_data) if preview else "",
        "learning": preview.learning.sentence if preview else "",
    }
    return render(request, "console/publish.html", context, status=422 if form.errors else 200)


def _prices(subject: Subject, values: Mapping[str, Any]) -> str:
    """What a tariff's customers would read; a document that is refused shows none."""
    if not isinstance(subject, Tariff):
        return ""
    return prices.table(parse(values["document"]), f"{subject.code} as it would read")


def _take(step: str, subject: Subject, values: Any, actor: Any, now: Any) -> models.Model:
    terms = (values["document"], values["valid_from"], values["how"])
    if step == "propose":
        return proposals.propose(
            subject, *terms, reason=values["reason"], source=values["source"], actor=actor, now=now
        )
    return proposals.publish(subject, *terms, source=values["source"], actor=actor, now=now)


def _done(request: HttpRequest, made: models.Model) -> HttpResponse:
    if isinstance(made, PriceProposal):
        messages.success(request, "Proposed. Somebody else has to approve it now.")
    else:
        messages.success(request, f"{made} is published.")
    return redirect(f"admin:billing_{made._meta.model_name}_change", made.pk)
