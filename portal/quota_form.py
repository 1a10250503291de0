"""The form of a quota: how many tokens a month, for whom."""

from __future__ import annotations

from django import forms

from accounts.models import Project
from billing.allowance import TOKENS_PER_MONTH_MAX
from portal.door import Entry


class QuotaForm(forms.Form):
    """Digits may be grouped the way people group them."""

    project = forms.ModelChoiceField(
        Project.objects.none(),
        to_field_name="slug",
        required=False,
        empty_label="the whole organization",
        label="For",
    )
    tokens = forms.CharField(
        label="Tokens a month",
        max_length=40,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
        help_text="A whole number, like 50 000 000.",
    )

    def __init__(self, entry: Entry, data: object = None) -> None:
        super().__init__(data)  # type: ignore[arg-type]
        project = self.fields["project"]
        assert isinstance(project, forms.ModelChoiceField)
        project.queryset = entry.organization.projects.filter(archived_at=None)

    def clean_tokens(self) -> int:
        digits = "".join(self.cleaned_data["tokens"].split()).replace(",", "").replace("_", "")
        digits = digits.replace("\N{NARROW NO-BREAK SPACE}", "").replace("'", "")
        if (
            not digits.isascii()
            or not digits.isdigit()
            or not 0 < int(digits) <= TOKENS_PER_MONTH_MAX
        ):
            raise forms.ValidationError("Write a whole number of tokens above zero.")
        return int(digits)
