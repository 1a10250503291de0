"""Pages and forms through which the console takes a step of another room.

The console changes nothing itself: it calls the step and shows what the step refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import User
from accounts.refusals import Refusal
from billing.allowance import QuotaRefused
from billing.catalog import TariffRefused
from billing.feeds.listing import FeedRefused
from billing.invoicing import InvoiceRefused, PeriodsDoNotTile
from billing.rating.places import place_of
from billing.rating.tariff import TariffInvalid
from billing.rerating import ReratingRefused
from billing.subscriptions import SubscriptionRefused
from billing.upstream import CostRefused
from billing.waiting import NotYet
from console.entrance import actor_of

REFUSALS = (
    Refusal,
    TariffInvalid,
    TariffRefused,
    SubscriptionRefused,
    InvoiceRefused,
    PeriodsDoNotTile,
    QuotaRefused,
    CostRefused,
    NotYet,
    FeedRefused,
    ReratingRefused,
)


def field_and_sentence(refusal: Exception, written: str = "") -> tuple[str | None, str]:
    """Which field a refusal is about, and what it says; where in the document, as written."""
    match refusal:
        case Refusal():
            return refusal.field or None, refusal.sentence
        case TariffInvalid():
            place = place_of(written, refusal.pointer)
            where = f"{str(place).capitalize()}: " if place else ""
            return "document", f"{where}{refusal.pointer or '/'} {refusal.detail}"
    return None, str(refusal)


class StepForm(forms.ModelForm):  # type: ignore[type-arg]
    """Saving is a step of another room: tried and taken back in `clean`, then taken."""

    actor: ClassVar[User]
    now: ClassVar[datetime]

    def step(self) -> models.Model:
        """Do it, and return the row it made or changed."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        """Ask the step itself whether it would take these values."""
        if not self.errors:
            try:
                with transaction.atomic():
                    self.step()
                    transaction.set_rollback(True)
            except REFUSALS as refusal:
                field, sentence = field_and_sentence(refusal, self.data.get("document", ""))
                self.add_error(field if field in self.fields else None, sentence)
        return self.cleaned_data

    def _post_clean(self) -> None:
        """The step checks; Django's own check of the instance would only say less."""

    def save(self, commit: bool = True) -> Any:
        """Nothing yet: the page's inlines are still to be checked. `take` takes the step."""
        return self.instance

    def take(self, shown: models.Model) -> None:
        """Take the step, and give the row that the page goes on with its values."""
        vars(shown).update(vars(self.step()))

    def save_m2m(self) -> None:
        """Nothing: the step has done all of it."""


class ReasonForm(forms.Form):
    """A reason, which goes on the record."""

    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="Goes on the record, with your name.",
    )


def ask(
    request: HttpRequest,
    *,
    title: str,
    explanation: str,
    button: str,
    back: str,
    do: Callable[[dict[str, Any], User, datetime], str],
    form_class: type[forms.Form] = forms.Form,
    actor: User | None = None,
) -> HttpResponse:
    """A page that asks before it acts. `do` gets the form's values and returns what to say.

    actor: who may act by a permission; left out, a superuser or nobody.
    """
    actor = actor or actor_of(request)
    posted = request.method == "POST"
    form = form_class(request.POST if posted else None, request.FILES if posted else None)
    if posted and form.is_valid():
        try:
            with transaction.atomic():
                said = do(form.cleaned_data, actor, timezone.now())
        except REFUSALS as refusal:
            field, sentence = field_and_sentence(refusal)
            form.add_error(field if field in form.fields else None, sentence)
        else:
            messages.success(request, said)
            return redirect(back)
    context = {
        **admin.site.each_context(request),
        "title": title,
        "explanation": explanation,
        "button": button,
        "back": back,
        "form": form,
    }
    return render(request, "console/step.html", context, status=422 if form.errors else 200)
