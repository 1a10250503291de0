"""The way in: which organization, or a first one."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts import organizations
from accounts.models import Organization, User
from accounts.refusals import Refusal
from billing import subscriptions
from billing.models import Tariff
from portal.forms import show_refusal


class OrganizationForm(forms.Form):
    """What an organization needs to begin."""

    name = forms.CharField(max_length=200, help_text="As your colleagues know it.")
    tariff = forms.ModelChoiceField(
        Tariff.objects.none(),
        empty_label=None,
        help_text="What tokens cost. It also sets the currency of your invoices.",
    )
    zone = forms.ChoiceField(
        label="Time zone",
        help_text="Days, months and invoices begin at midnight here.",
        widget=forms.Select(attrs={"data-guess-zone": True}),
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        tariffs = self.fields["tariff"]
        assert isinstance(tariffs, forms.ModelChoiceField)
        tariffs.queryset = Tariff.objects.order_by("code")
        tariffs.label_from_instance = _tariff_label  # type: ignore[method-assign, assignment]
        zones = self.fields["zone"]
        assert isinstance(zones, forms.ChoiceField)
        zones.choices = [(zone, zone.replace("_", " ")) for zone in sorted(organizations.zones())]
        zones.initial = "UTC"


def _tariff_label(tariff: Tariff) -> str:
    return f"{tariff.name} ({tariff.currency})"


@require_GET
@login_required
def choose(request: HttpRequest) -> HttpResponse:
    """Straight in where there is one; a list of several; the form where there is none."""
    assert isinstance(request.user, User)
    mine = list(Organization.objects.visible_to(request.user).order_by("name"))
    if not mine:
        return redirect("portal:create")
    if len(mine) == 1:
        return redirect("portal:overview", mine[0].slug)
    return render(request, "portal/choose.html", {"organizations": mine})


@require_http_methods(["GET", "POST"])
@login_required
def create(request: HttpRequest) -> HttpResponse:
    """Make an organization and put it on a tariff from now on."""
    assert isinstance(request.user, User)
    form = OrganizationForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            organization = _open_for_business(form, request.user)
        except Refusal as refusal:
            show_refusal(form, refusal)
        else:
            messages.success(request, f"{organization.name} is ready. Send a first event.")
            return redirect("portal:overview", organization.slug)
    status = 422 if form.errors else 200
    return render(request, "portal/create.html", {"form": form}, status=status)


@transaction.atomic
def _open_for_business(form: OrganizationForm, owner: User) -> Organization:
    now = timezone.now()
    tariff: Tariff = form.cleaned_data["tariff"]
    organization = organizations.create(
        name=form.cleaned_data["name"],
        currency=tariff.currency,
        zone=form.cleaned_data["zone"],
        owner=owner,
        now=now,
    )
    subscriptions.subscribe(organization, tariff, starts_at=now, anchor_day=1)
    return organization
