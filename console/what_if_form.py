"""Which periods to compare, whose, and with which tariff."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.db import models
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.models import Organization, User
from billing import comparing
from billing.comparisons import Comparison
from billing.models import PriceProposal, Tariff, TariffVersion
from billing.presets import PRESETS
from console.publishing import EXAMPLE, DocumentField

EARLIEST = date(2000, 1, 1)
NAMED_MAX = 1_000
DOCUMENT = "document"

Source = Tariff | Mapping[str, object]


def _day(label: str, help_text: str) -> forms.DateField:
    widget = UnfoldAdminTextInputWidget({"type": "date", "min": EARLIEST.isoformat()})
    return forms.DateField(label=label, help_text=help_text, widget=widget)


class WhatIfForm(forms.Form):
    """A question; `ask` makes a run of it."""

    other = forms.ChoiceField(
        label="The other tariff",
        widget=UnfoldAdminSelectWidget,
        help_text="At the prices it had then, or one document for the whole time.",
    )
    first = _day("Periods that begin on", "This day or later, by each organization's calendar.")
    last = _day("And before", "This day is not part of it. Only periods that have ended count.")
    only_on = forms.ModelChoiceField(
        Tariff.objects.order_by("code"),
        label="Only organizations on",
        required=False,
        to_field_name="code",
        empty_label="any tariff",
        widget=UnfoldAdminSelectWidget,
    )
    organizations = forms.CharField(
        label="Only these organizations",
        required=False,
        max_length=64 * NAMED_MAX,
        widget=UnfoldAdminTextareaWidget({"rows": 2, "spellcheck": "false"}),
        help_text="Their slugs, apart by blanks or commas. Empty: all of them.",
    )
    document = DocumentField(
        label="Document",
        required=False,
        initial=EXAMPLE,
        help_text="Only read where the other tariff is the document below.",
    )

    def __init__(self, *args: Any, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        other = self.fields["other"]
        assert isinstance(other, forms.ChoiceField)
        other.choices = [(group, list(choices)) for group, choices in _groups()]
        this_month = now.date().replace(day=1)
        self.initial.setdefault("first", (this_month - timedelta(days=1)).replace(day=1))
        self.initial.setdefault("last", this_month)

    def clean_organizations(self) -> list[Organization]:
        """The organizations named; each must be there."""
        slugs = set(self.cleaned_data["organizations"].replace(",", " ").split())
        if len(slugs) > NAMED_MAX:
            raise forms.ValidationError(f"Name {NAMED_MAX:,} at most, or leave it empty for all.")
        found = list(Organization.objects.filter(slug__in=slugs))
        unknown = sorted(slugs - {one.slug for one in found})
        if unknown:
            shown = ", ".join(unknown[:5])
            raise forms.ValidationError(f"No organization has this slug: {shown}.")
        return found

    def clean_first(self) -> date:
        first: date = self.cleaned_data["first"]
        if first < EARLIEST:
            raise forms.ValidationError(f"This must be {EARLIEST} or later.")
        return first

    def clean(self) -> dict[str, Any]:
        """A document is read where it is chosen; who is compared is said in one way."""
        values: dict[str, Any] = super().clean() or {}
        wants_document = values.get("other") == DOCUMENT
        document = values.get("document")
        if wants_document and "document" in values and not isinstance(document, dict):
            self.add_error("document", "/ must be an object: a tariff document.")
        if values.get("organizations") and values.get("only_on"):
            self.add_error("only_on", "Name organizations or a tariff, not both.")
        return values

    def ask(self, actor: User, now: datetime) -> Comparison:
        """Make the run. Raises what `comparing.ask` does."""
        values = self.cleaned_data
        source, name = _source(values["other"], values["document"])
        return comparing.ask(
            source,
            name,
            values["first"],
            values["last"],
            organizations=values["organizations"],
            only_on=values["only_on"],
            actor=actor,
            now=now,
        )

    @property
    def written(self) -> str:
        """The document as it was typed, where it is what to compare with."""
        return self.data.get("document", "") if self.cleaned_data["other"] == DOCUMENT else ""

    def field_of(self, field: str | None) -> str | None:
        """Which field a refusal is about: a document that was chosen is no fault of the text."""
        if field == "document" and self.cleaned_data["other"] != DOCUMENT:
            return "other"
        return field if field in self.fields else None


def choice(row: models.Model) -> str:
    """How a tariff, a version or a proposal is named in the choice of the other tariff."""
    return f"{row._meta.model_name}:{row.pk}"


def asking(row: models.Model) -> str:
    """The address of the question with that row filled in."""
    return f"{reverse('console:what_if')}?{urlencode({'other': choice(row)})}"


def _groups() -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    tariffs = list(Tariff.objects.order_by("code"))
    yield "At the prices it had then", ((choice(one), one.code) for one in tariffs)
    newest = TariffVersion.objects.filter(withdrawn_at=None).select_related("tariff")
    newest = newest.order_by("tariff__code", "-valid_from").distinct("tariff__code")
    yield "Its newest version, for all the time", ((choice(one), str(one)) for one in newest)
    proposed = PriceProposal.objects.filter(
        state=PriceProposal.State.PROPOSED, tariff__isnull=False
    ).select_related("tariff")
    yield "Being proposed", ((choice(one), _proposal(one)) for one in proposed)
    yield "Shipped presets", ((f"preset:{code}", code) for code in sorted(PRESETS))
    yield "None of these", iter([(DOCUMENT, "the document below")])


def _source(chosen: str, document: Any) -> tuple[Source, str]:
    """The tariff or document that a choice stands for, and what to call it."""
    kind, _, name = chosen.partition(":")
    match kind:
        case "tariff":
            tariff = Tariff.objects.get(pk=name)
            return tariff, f"{tariff.code} at its prices then"
        case "tariffversion":
            version = TariffVersion.objects.select_related("tariff").get(pk=name)
            return version.document, str(version)
        case "priceproposal":
            proposal = PriceProposal.objects.select_related("tariff").get(pk=name)
            return proposal.document, _proposal(proposal)
        case "preset":
            return PRESETS[name].versions[-1].document, f"preset {name}"
    return document, "a pasted document"


def _proposal(proposal: PriceProposal) -> str:
    assert proposal.tariff is not None
    return f"{proposal.tariff.code}, proposal {proposal.pk}"
