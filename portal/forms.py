"""What the forms of the portal share: refusals of a step become errors of a field."""

from __future__ import annotations

from django import forms

from accounts.refusals import Refusal


def show_refusal(form: forms.BaseForm, refusal: Refusal) -> None:
    """Put a refusal where the reader looks: at its field, or above the form."""
    form.add_error(refusal.field if refusal.field in form.fields else None, refusal.sentence)
