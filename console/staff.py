"""What every list and page of the console has in common."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, ClassVar

from babel.numbers import format_currency
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline

from billing.models import InvoiceLine
from billing.rating.money import from_minor
from console.entrance import actor_of, may_act

# In JSON a line never breaks within a string, so joining lines changes no value.
_PLAIN_LIST = re.compile(r'\[\s+[^\[\]{}"]*(?:"[^"\\]*"[^\[\]{}"]*)*\]')

# Columns that no address may ask for, whoever reads the list.
SECRETS = frozenset({"password", "digest"})

_LINE_BREAK = re.compile(r"\s*\n\s*")


class Https:
    """As Django will do it by itself from 6.0 on: an address without a scheme is https."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, models.URLField):
            kwargs["assume_scheme"] = "https"
        return super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]


class StaffAdmin(Https, ModelAdmin):
    """Staff see; superusers act, where a page offers anything; nothing is ever deleted here."""

    can_add: ClassVar[bool] = False
    can_change: ClassVar[bool] = False
    show_full_result_count = False
    list_per_page = 50
    list_filter_submit = True
    warn_unsaved_form = True
    compressed_fields = True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_staff)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_staff)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.can_add and may_act(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.can_change and may_act(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Never by a secret: a list that may be filtered by it tells it letter by letter."""
        if not SECRETS.isdisjoint(lookup.split("__")):
            return False
        return bool(super().lookup_allowed(lookup, value, request))

    def has_act_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Whether the buttons above a page are offered and answered."""
        return may_act(request)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Tell a StepForm who acts, and when."""
        form = super().get_form(request, obj, change, **kwargs)
        if not may_act(request):
            return form
        return type(form.__name__, (form,), {"actor": actor_of(request), "now": timezone.now()})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The form takes its step, inside the transaction of the page."""
        form.take(obj)


class ReadOnlyInline(Https, TabularInline):
    """Rows that belong to a page, to look at."""

    extra = 0
    can_delete = False
    show_change_link = False
    tab = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_staff)


def money(minor: int | None, currency: str) -> str:
    """Whole minor units as people write them."""
    if minor is None:
        return "-"
    return str(format_currency(from_minor(minor, currency), currency, locale="en"))


def exact(amount: Decimal, currency: str) -> str:
    """An exact amount, without the zeros it does not need."""
    text = f"{amount:,f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {currency}"


def unit_price(line: InvoiceLine, currency: str) -> str:
    """The price of an invoice line, or that there are several."""
    if line.unit_price is None:
        return "several prices"
    return f"{exact(line.unit_price, currency)} per {line.per:,}"


def spread(value: object) -> str:
    """JSON over lines, as a person would write it: a list of plain values stays on one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _PLAIN_LIST.sub(_on_one_line, text)


def _on_one_line(found: re.Match[str]) -> str:
    return f"[{_LINE_BREAK.sub(' ', found[0][1:-1]).strip()}]"


def document(value: object) -> str:
    """JSON to look at."""
    return format_html('<pre class="kt-pre">{}</pre>', spread(value))


def link(row: models.Model | None) -> str:
    """A row's page, by the row's own name."""
    if row is None:
        return "-"
    meta = row._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    return format_html('<a class="kt-link" href="{}">{}</a>', url, row)
